"""Measures the base once and every checkpoint as it comes, and tells what each new number changes in the old ones."""

from dataclasses import fields
from typing import Any

from service.specs.measures import measure_of
from worker.models.adapters import Model
from worker.probes.finding import Finding, Findings
from worker.probes.report import best_checkpoint, report, report_findings
from worker.probes.token import Base, Document, DocumentSums, base_pass, one_pass
from worker.run import Run
from worker.stages.probing import Probed, Probing

FINDINGS = "findings"  # where they stand among a checkpoint's sums


class Measuring:
    """One step's measurements on one text. `begin` with the base before training starts, then `checkpoint` after each."""

    def __init__(self, run: Run, step: str, probed: Probed, measured: list[dict[str, Any]]):
        self._run = run
        self._step = step
        self._measures = probed.measures
        self._split = probed.data.split
        self._windows = [Document(example.input_ids, example.labels, example.n_bytes) for example in probed.data.evaluation]
        self._document_of = [example.document for example in probed.data.evaluation]
        self._tokenizer_size = len(probed.tokenizer)
        self._batch_documents = probed.batch_documents
        self._probing = Probing(probed, self._windows, self._document_of)
        self._base: Base | None = None
        self._base_sums: DocumentSums | None = None
        self._sums = _earlier_sums(measured, self._split)
        self._findings = _earlier_findings(measured, self._split)
        self._told: dict[tuple[int | None, str], dict[str, Any]] = {}

    def begin(self, base_model: Model) -> None:
        """Measures the base, whose tokenizer is the checkpoints' own."""
        self._base = Base.of(base_model, self._windows, self._tokenizer_size, self._batch_documents)
        one = base_pass(self._base, self._windows, self._probing.statistics)
        self._base_sums = by_document(one.sums, self._document_of)
        self._findings[None] = self._probing.base(base_model, one)
        self._tell(None, self._base_sums)

    def is_due(self, number: int | None, is_last: bool) -> bool:
        """Whether a checkpoint's turn has come. `number` counts the planned ones; None: made because the worker had to stop."""
        every = self._measures.every
        return is_last or every == 1 or (number is not None and number % every == 0)

    def has(self, global_step: int) -> bool:
        return global_step in self._sums

    def checkpoint(self, model: Model, global_step: int, history: list[dict[str, Any]]) -> None:
        """Measures the model as it is. `history` is the trainer's log up to it."""
        size, wanted = self._tokenizer_size, self._probing.statistics
        one = one_pass(model, self._windows, size, self._base, self._batch_documents, wanted)
        self._sums[global_step] = by_document(one.sums, self._document_of)
        self._findings[global_step] = self._probing.checkpoint(model, one, history)
        self._tell(global_step, self._sums[global_step])

    def _tell(self, global_step: int | None, sums: DocumentSums) -> None:
        """The new sums, and every row that they make or change: another best checkpoint changes the others' distance to it."""
        assert self._base_sums is not None, "the base is measured first"
        changed = []
        rows = report(self._sums, self._base_sums) + report_findings(self._findings, best_checkpoint(self._sums))
        for row in rows:
            place = (row["global_step"], row["measure"])
            if measure_of(row["measure"]) in self._measures.names and self._told.get(place) != row:
                self._told[place] = row
                changed.append(row)
        found = {name: finding.to_json() for name, finding in self._findings[global_step].items()}
        self._run.measurement(self._step, global_step, self._split, sums.to_json() | {FINDINGS: found}, changed)
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


def _earlier_sums(measured: list[dict[str, Any]], split: str) -> dict[int, DocumentSums]:
    """What earlier attempts measured on the same text."""
    return {kept["global_step"]: DocumentSums.from_json(kept["documents"]) for kept in measured if kept["split"] == split}


def _earlier_findings(measured: list[dict[str, Any]], split: str) -> dict[int | None, Findings]:
    return {
        kept["global_step"]: {name: Finding.from_json(found) for name, found in kept["documents"].get(FINDINGS, {}).items()}
        for kept in measured
        if kept["split"] == split
    }


def _sentence(global_step: int | None, told: dict[tuple[int | None, str], dict[str, Any]]) -> str:
    who = "The base" if global_step is None else f"Checkpoint {global_step}"
    row = told.get((global_step, "cross_entropy"))
    if row is None or row["value"] is None:
        return f"{who} is measured."
    error = row["standard_error"]
    spread = f" ± {error:.3f}" if error is not None else ""
    return f"{who}: cross-entropy {row['value']:.4f}{spread} bits/token on {row['n_documents']} documents."
