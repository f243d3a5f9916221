"""dpo: of two answers to a prompt the chosen one becomes likelier than it was, beside the other and beside the reference.

By transformers' own trainer. Why not by trl's: docs/decisions/0014.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, set_seed

from service.specs.dataset_info import ALONE
from service.specs.job import ResolvedStep
from service.specs.reasons import Reason
from worker.data.collate import JudgedCollator, PairCollator
from worker.data.load import holds, load_answers
from worker.failures import JobFailure
from worker.models.adapters import Model
from worker.models.dropout import without_dropout
from worker.models.loading import load_tokenizer
from worker.models.reference import Reference, reference
from worker.models.tokenizers import refuse_other_tokens
from worker.run import Run
from worker.stages.arguments import training_arguments
from worker.stages.preference_losses import PAIR_LOSSES
from worker.stages.preference_objective import JudgedObjective, OfUpdate, PairedObjective, RowsTrainer, WithItself
from worker.stages.series import Series
from worker.stages.step import StepWork
from worker.stages.training import (
    add_template_tokens,
    begin_measuring,
    callbacks,
    collator,
    fillable,
    notice,
    tell_data,
    tell_stream,
    train,
    train_dataset,
    trainable_model,
)


def preference(work: StepWork, run: Run) -> Path:
    """Trains the step's model on pairs, or (dpo_loss kto) on judged answers, and answers the folder of its last checkpoint."""
    step = work.step
    set_seed(step.training.seed)
    tokenizer = load_tokenizer(work.model, step.model.split_special_tokens)
    add_template_tokens(run, work, tokenizer)
    _refuse_other_tokenizer(work, tokenizer)
    judged = holds(work.places, work.wanted) == "labels"
    if judged:
        _refuse_alone(step)
    data = load_answers(work.places, work.wanted, tokenizer)
    tell_data(run, work, data)
    model = trainable_model(run, work, tokenizer)
    without_dropout(model)
    measuring = begin_measuring(run, work, model, tokenizer, data)
    ref, series = _reference(run, work, model, tokenizer), Series()
    beta, ftx = step.finetuning.dpo_beta, step.finetuning.dpo_ftx
    texts = collator(work, tokenizer)
    collate: Any = PairCollator(texts)
    objective: Any = PairedObjective(ref, PAIR_LOSSES[step.finetuning.dpo_loss], beta, ftx, series)
    if judged:
        collate = JudgedCollator(texts, step.data.cutoff_len)
        objective = JudgedObjective(ref, Reference(model, autocast=ref.autocast), beta, ftx, series)
    trainer = RowsTrainer(
        model=model,
        args=training_arguments(step.training, work.folder, work.use_cpu),
        train_dataset=fillable(train_dataset(data)),
        data_collator=WithItself(collate),
        processing_class=tokenizer,
        compute_loss_func=OfUpdate(objective),
        callbacks=callbacks(run, work, measuring, series),
    )
    output = train(run, work, trainer, measuring)
    tell_stream(run, work, data)
    return output


def _refuse_other_tokenizer(work: StepWork, tokenizer: PreTrainedTokenizerBase) -> None:
    ref = work.companions.get("ref")
    if ref is not None:
        refuse_other_tokens(ref.model, tokenizer, work.step, "the reference model")


def _refuse_alone(step: ResolvedStep) -> None:
    if step.training.per_device_train_batch_size == 1:
        raise JobFailure(Reason.BAD_DATA, ALONE)


def _reference(run: Run, work: StepWork, model: Model, tokenizer: PreTrainedTokenizerBase) -> Reference:
    ref = work.companions.get("ref")
    if ref is None and work.start.continued is not None:
        sentence = (
            f"the reference is the model without the adapter {work.start.continued.name!r}, which training goes on with: with "
            "create_new_adapter it is merged first, and is a part of the reference."
        )
        notice(run, work, sentence)
    device = torch.device("cpu" if work.use_cpu else "cuda")
    named = None if ref is None else (ref.start, ref.step)
    return reference(model, work.start, work.step, named, tokenizer, device)
