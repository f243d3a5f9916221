"""sft: every response is trained, prompts are masked."""

from pathlib import Path
from typing import Any

from transformers import Trainer, set_seed

from worker.data.load import load_supervised
from worker.data.prepared import Prepared
from worker.models.loading import load_tokenizer
from worker.run import Run
from worker.stages.arguments import training_arguments
from worker.stages.next_token_loss import WithoutLogits, keep_last_activations, next_token_loss
from worker.stages.packed import PackedTrainer, packed_collator, packed_rows, refuse_leaks
from worker.stages.step import StepWork
from worker.stages.training import (
    add_template_tokens,
    begin_measuring,
    callbacks,
    collator,
    fillable,
    tell_data,
    tell_stream,
    train,
    train_dataset,
    trainable_model,
)


def supervised(work: StepWork, run: Run) -> Path:
    """Trains the step's model on conversations and answers the folder of its last checkpoint."""
    step = work.step
    set_seed(step.training.seed)
    tokenizer = load_tokenizer(work.model, step.model.split_special_tokens)
    add_template_tokens(run, work, tokenizer)
    data = load_supervised(work.places, work.wanted, tokenizer)
    tell_data(run, work, data)
    model = trainable_model(run, work, tokenizer)
    rows: Any
    if step.data.sft_packing:
        assert isinstance(data, Prepared)  # a stream is not packed: `streaming_is_not_packed`
        pad_id: Any = tokenizer.pad_token_id
        collate: Any = packed_collator(work, model, pad_id)
        refuse_leaks(model, collate)
        rows = packed_rows(run, work, data.train)
    else:
        collate, rows = collator(work, tokenizer), train_dataset(data)
    measuring = begin_measuring(run, work, model, tokenizer, data)
    loss = next_token_loss(model, step.training)
    if loss:
        keep_last_activations(model)
    trainer = (PackedTrainer if step.data.sft_packing else Trainer)(
        model=model,
        args=training_arguments(step.training, work.folder, work.use_cpu),
        train_dataset=fillable(rows),
        data_collator=WithoutLogits(collate) if loss else collate,
        processing_class=tokenizer,
        compute_loss_func=loss,
        callbacks=callbacks(run, work, measuring),
    )
    output = train(run, work, trainer, measuring)
    tell_stream(run, work, data)
    return output
