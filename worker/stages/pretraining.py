"""pt: texts one after another, EOS after each, cut into blocks; every token is trained."""

from pathlib import Path

from transformers import Trainer, set_seed

from worker.data.load import load_pretraining
from worker.models.loading import load_tokenizer
from worker.run import Run
from worker.stages.arguments import training_arguments
from worker.stages.next_token_loss import WithoutLogits, keep_last_activations, next_token_loss
from worker.stages.step import StepWork
from worker.stages.training import (
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


def pretraining(work: StepWork, run: Run) -> Path:
    """Trains the step's model on texts and answers the folder of its last checkpoint."""
    step = work.step
    set_seed(step.training.seed)
    tokenizer = load_tokenizer(work.model, step.model.split_special_tokens)
    data = load_pretraining(work.places, work.wanted, tokenizer)
    tell_data(run, work, data)
    model = trainable_model(run, work, tokenizer)
    measuring = begin_measuring(run, work, model, tokenizer, data)
    loss, collate = next_token_loss(model, step.training), collator(work, tokenizer)
    if loss:
        keep_last_activations(model)
    trainer = Trainer(
        model=model,
        args=training_arguments(step.training, work.folder, work.use_cpu),
        train_dataset=fillable(train_dataset(data)),
        data_collator=WithoutLogits(collate) if loss else collate,
        processing_class=tokenizer,
        compute_loss_func=loss,
        callbacks=callbacks(run, work, measuring),
    )
    output = train(run, work, trainer, measuring)
    tell_stream(run, work, data)
    return output
