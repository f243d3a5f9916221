"""dpo: of two answers to a prompt the chosen one becomes likelier than it was, beside the other and beside the reference."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, Trainer, set_seed

from worker.data.collate import PairCollator
from worker.data.load import load_pairs
from worker.models.adapters import Model
from worker.models.dropout import without_dropout
from worker.models.loading import load_tokenizer
from worker.models.reference import Reference, next_token_log_probs, reference
from worker.models.tokenizers import refuse_other_tokens
from worker.run import Run
from worker.stages.arguments import training_arguments
from worker.stages.preference_losses import PAIR_LOSSES, PairLoss, answer_log_probs, answer_nll_per_token
from worker.stages.series import Series
from worker.stages.step import StepWork
from worker.stages.training import (
    add_template_tokens,
    begin_measuring,
    callbacks,
    collator,
    notice,
    tell_data,
    tell_stream,
    train,
    train_dataset,
    trainable_model,
)

# input_ids, attention_mask and labels of a batch, [2B, T] each.
Texts = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def preference(work: StepWork, run: Run) -> Path:
    """Trains the step's model on pairs and answers the folder of its last checkpoint."""
    step = work.step
    set_seed(step.training.seed)
    tokenizer = load_tokenizer(work.model, step.model.split_special_tokens)
    add_template_tokens(run, work, tokenizer)
    _refuse_other_tokenizer(work, tokenizer)
    data = load_pairs(work.places, work.wanted, tokenizer)
    tell_data(run, work, data)
    model = trainable_model(run, work, tokenizer)
    without_dropout(model)
    measuring = begin_measuring(run, work, model, tokenizer, data)
    series = Series()
    fine = step.finetuning
    loss = PreferenceLoss(
        _reference(run, work, model, tokenizer), PAIR_LOSSES[fine.dpo_loss], fine.dpo_beta, fine.dpo_ftx, series
    )
    trainer = Trainer(
        model=model,
        args=training_arguments(step.training, work.folder, work.use_cpu),
        train_dataset=train_dataset(data),
        data_collator=WithTexts(PairCollator(collator(work, tokenizer))),
        processing_class=tokenizer,
        compute_loss_func=loss,
        callbacks=callbacks(run, work, measuring, series),
    )
    trainer.loss_is_scaled_for_ga = False  # a mean over the pairs of a batch
    output = train(run, work, trainer, measuring)
    tell_stream(run, work, data)
    return output


@dataclass(frozen=True)
class WithTexts:
    """A collator's batch with all of it once more where the trainer leaves it for the loss, and does not show it to the model."""

    batch_of: PairCollator

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = self.batch_of(rows)
        texts: Texts = (batch["input_ids"], batch["attention_mask"], batch["labels"])
        return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": texts}


@dataclass(frozen=True)
class PreferenceLoss:
    """The mean over the pairs of a batch, of which the first half are the chosen texts; `series` is told what it is made of."""

    reference: Reference
    loss: PairLoss
    beta: float
    ftx: float
    series: Series

    def __call__(self, outputs: Any, texts: Texts, num_items_in_batch: None = None) -> torch.Tensor:
        input_ids, attention_mask, labels = texts
        log_probs = next_token_log_probs(outputs.logits, input_ids)
        own = answer_log_probs(log_probs, labels)
        log_ratio = own - answer_log_probs(self.reference.log_probs(input_ids, attention_mask), labels)
        chosen, rejected = log_ratio.chunk(2)
        loss = self.loss(chosen, rejected, self.beta).mean()
        self._tell(own, chosen, rejected)
        if not self.ftx:
            return loss
        nll = answer_nll_per_token(log_probs, labels).chunk(2)[0].mean()
        self.series.add(**{"loss/preference": loss, "loss/sft": nll})
        return loss + self.ftx * nll

    def _tell(self, own: torch.Tensor, chosen: torch.Tensor, rejected: torch.Tensor) -> None:
        """Rewards are β times the log-ratios; an accuracy counts strict wins."""
        own_chosen, own_rejected = own.chunk(2)
        self.series.add(
            **{
                "rewards/chosen": self.beta * chosen.mean(),
                "rewards/rejected": self.beta * rejected.mean(),
                "rewards/margins": self.beta * (chosen - rejected).mean(),
                "rewards/accuracies": (chosen > rejected).float().mean(),
                "logps/chosen": own_chosen.mean(),
                "logps/rejected": own_rejected.mean(),
            }
        )


def _refuse_other_tokenizer(work: StepWork, tokenizer: PreTrainedTokenizerBase) -> None:
    ref = work.companions.get("ref")
    if ref is not None:
        refuse_other_tokens(ref.model, tokenizer, work.step, "the reference model")


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
