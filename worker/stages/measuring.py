"""Measures the base once and every checkpoint as it comes, and tells what each new number changes in the old ones."""

from dataclasses import fields, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from service.specs.measures import OF_PAIRS, MeasureArguments
from worker.data.prepared import Prepared, Streamed
from worker.models.adapters import Model
from worker.models.reward_model import RewardModel, language_model
from worker.probes.preference import measure_pairs
from worker.probes.report import report
from worker.probes.token import Base, Document, DocumentSums, measure, measure_base
from worker.run import Run


class Measuring:
    """One step's measurements on one text. `begin` with the base before training starts, then `checkpoint` after each."""

    def __init__(
        self,
        run: Run,
        step: str,
        measures: MeasureArguments,
        data: Prepared | Streamed,
        tokenizer: PreTrainedTokenizerBase,
        batch_documents: int,
        measured: list[dict[str, Any]],
    ):
        self._run = run
        self._step = step
        self._measures = measures
        self._split = data.split
        self._windows = [Document(example.input_ids, example.labels, example.n_bytes) for example in data.evaluation]
        self._document_of = [example.document for example in data.evaluation]
        self._pairs = data.pairs if set(measures.names) & set(OF_PAIRS) else ()
        self._tokenizer_size = len(tokenizer)
        self._batch_documents = batch_documents
        self._base: Base | None = None
        self._base_sums: DocumentSums | None = None
        self._sums = _earlier(measured, self._split)
        self._told: dict[tuple[int | None, str], dict[str, Any]] = {}

    def begin(self, base_model: Model, model: Model | RewardModel) -> None:
        """Measures the base, whose tokenizer is the checkpoints' own. `model` is the step's own before any training: what pairs
        are worth to it is the base of what they come to be worth.
        """
        self._base = Base.of(base_model, self._windows, self._tokenizer_size, self._batch_documents)
        sums = by_document(measure_base(self._base, self._windows), self._document_of)
        self._base_sums = self._with_pairs(sums, model)
        self._tell(None, self._base_sums)

    def is_due(self, number: int | None, is_last: bool) -> bool:
        """Whether a checkpoint's turn has come. `number` counts the planned ones; None: made because the worker had to stop."""
        every = self._measures.every
        return is_last or every == 1 or (number is not None and number % every == 0)

    def has(self, global_step: int) -> bool:
        return global_step in self._sums

    def checkpoint(self, model: Model | RewardModel, global_step: int) -> None:
        """Measures the model as it is."""
        windows = measure(language_model(model), self._windows, self._tokenizer_size, self._base, self._batch_documents)
        self._sums[global_step] = self._with_pairs(by_document(windows, self._document_of), model)
        self._tell(global_step, self._sums[global_step])

    def _with_pairs(self, sums: DocumentSums, model: Model | RewardModel) -> DocumentSums:
        if not self._pairs or not isinstance(model, RewardModel):
            return sums
        pairs = measure_pairs(model, self._pairs, self._batch_documents)
        return replace(sums, pair_nll=pairs.nll, pairs_won=pairs.won, chosen_score=pairs.chosen, rejected_score=pairs.rejected)

    def _tell(self, global_step: int | None, sums: DocumentSums) -> None:
        """The new sums, and every row that they make or change: another best checkpoint changes the others' distance to it."""
        assert self._base_sums is not None, "the base is measured first"
        changed = []
        for row in report(self._sums, self._base_sums):
            place = (row["global_step"], row["measure"])
            if row["measure"] in self._measures.names and self._told.get(place) != row:
                self._told[place] = row
                changed.append(row)
        self._run.measurement(self._step, global_step, self._split, sums.to_json(), changed)
        self._run.event("measured", _sentence(global_step, self._told), step=self._step, global_step=global_step)


def by_document(sums: DocumentSums, document_of: list[int]) -> DocumentSums:
    """The windows of one document added together; a document with none does not appear."""
    index = {document: place for place, document in enumerate(dict.fromkeys(document_of))}
    merged: dict[str, list[float] | None] = {}
    for field in fields(sums):
        values = getattr(sums, field.name)
        if values is None:
            merged[field.name] = None
            continue
        totals = [0 * values[0]] * len(index) if values else []
        for document, value in zip(document_of, values, strict=True):
            totals[index[document]] += value
        merged[field.name] = totals
    return DocumentSums(**merged)  # type: ignore[arg-type]


def _earlier(measured: list[dict[str, Any]], split: str) -> dict[int, DocumentSums]:
    """What earlier attempts measured on the same text."""
    return {kept["global_step"]: DocumentSums.from_json(kept["documents"]) for kept in measured if kept["split"] == split}


def _sentence(global_step: int | None, told: dict[tuple[int | None, str], dict[str, Any]]) -> str:
    who = "The base" if global_step is None else f"Checkpoint {global_step}"
    for name, told_as in (("preference_cross_entropy", "preferences"), ("cross_entropy", "cross-entropy")):
        row = told.get((global_step, name))
        if row is not None and row["value"] is not None:
            error = row["standard_error"]
            spread = f" ± {error:.3f}" if error is not None else ""
            return f"{who}: {told_as} {row['value']:.4f}{spread} {row['unit']} on {row['n_documents']} documents."
    return f"{who} is measured."
