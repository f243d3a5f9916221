"""Measures the base once and every checkpoint as it comes, and tells what each new number changes in the old ones."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from service.specs.measures import OF_PAIRS, measure_of
from worker.data.tokenize import Example
from worker.models.adapters import Model
from worker.models.reward_model import RewardModel, language_model
from worker.probes.alerts import Test, alert_tests
from worker.probes.finding import Finding, Findings
from worker.probes.other_tokens import tests_without_base, without_base
from worker.probes.preference import measure_pairs
from worker.probes.report import OF_WHOLE_TEXTS, Row, best_checkpoint, chosen_checkpoint, report, report_findings
from worker.probes.shown import shown_bits, shown_texts, text_name
from worker.probes.spread import Spread, spread
from worker.probes.token import Base, DocumentSums, Pass, base_pass, final_hidden_states, one_pass
from worker.run import Run
from worker.stages.guarding import Guarding
from worker.stages.pictures import Seen
from worker.stages.probing import Probed, Probing, document_of_example

FINDINGS, SPREAD, SHOWN, TEXT = "findings", "spread", "shown", "text"  # where they stand among a checkpoint's sums


class Measuring:
    """One step's measurements. `begin` with the base before training starts, then `checkpoint` after each.

    Each text is measured by itself: that of the task, and the anchor where the job names one. `called` has the name of each
    number, and what it is of, where numbers are not the step's own updates.
    """

    def __init__(
        self,
        run: Run,
        step: str,
        probed: Probed,
        measured: list[dict[str, Any]],
        anchor: Sequence[Example] = (),
        called: Mapping[int, tuple[str, dict[str, Any]]] | None = None,
    ):
        self._run = run
        self._called = called or {}
        self._step = step
        self._names = set(probed.measures.names)
        self._every = probed.measures.every
        self._plots = probed.measures.plots
        self._task = _Text(probed.data.split, probed.data.evaluation, measured)
        self._texts = [self._task, *([_Text("anchor", anchor, measured)] if anchor else [])]
        self._pairs = probed.data.pairs if self._names & set(OF_PAIRS) else ()
        self._tokenizer = probed.tokenizer
        self._tokenizer_size = len(probed.tokenizer)
        self._batch_documents = probed.batch_documents
        # what stands before a text's first token decides what that costs
        self._prefix = f"; behind {probed.tokenizer.eos_token}" if probed.wanted.stage == "pt" else ""
        self._probing = Probing(probed, self._task.windows, self._task.document_of)
        self._guards = Guarding(probed.measures.guards)
        self._text_base: DocumentSums | None = None
        self._why_alone: str | None = None

    def begin(
        self, base_model: Model, model: Model | RewardModel, text_base: DocumentSums | None = None, why_alone: str | None = None
    ) -> None:
        """Measures the base, whose tokenizer is the checkpoints' own. `model` is the step's own before any training: what pairs
        are worth to it is the base of what they come to be worth. `text_base` is of a model with other tokens, with which what
        is told of whole texts is compared; `why_alone` is the reason where nothing else is compared with anything.
        """
        self._text_base, self._why_alone = text_base, why_alone
        for text in self._texts:
            text.base = self._base_on(base_model, text)
            one = base_pass(text.base, text.windows, self._probing.statistics)
            text.base_sums = self._with_pairs(by_document(one.sums, text.document_of), text, model)
            text.findings[None] = self._probing.base(base_model, one) if text is self._task else {}
            self._keep_spread(base_model, one, text, None)
            text.shown[None] = {"texts": shown_texts(text.windows, self._tokenizer), "bits": shown_bits(one)}
        for text in self._texts:
            self._tell(text, None)
            for global_step in sorted(text.sums):
                self._guards.see(text.split, global_step, self._tests(text, global_step), self._rows(text))

    def is_due(self, number: int | None, is_last: bool) -> bool:
        """Whether a checkpoint's turn has come. `number` counts the planned ones; None: made because the worker had to stop."""
        return is_last or self._every == 1 or (number is not None and number % self._every == 0)

    def has(self, global_step: int) -> bool:
        return all(global_step in text.sums for text in self._texts)

    def checkpoint(self, model: Model | RewardModel, global_step: int, history: list[dict[str, Any]]) -> None:
        """Measures the model as it is, on each text on which an earlier attempt has not. `history` is the trainer's log."""
        size, wanted = self._tokenizer_size, self._probing.statistics
        for text in self._texts:
            if global_step in text.sums:
                continue
            writes = language_model(model)
            one = one_pass(writes, text.windows, size, text.base, self._batch_documents, wanted)
            text.sums[global_step] = self._with_pairs(by_document(one.sums, text.document_of), text, model)
            text.findings[global_step] = self._probing.checkpoint(writes, one, history) if text is self._task else {}
            self._keep_spread(writes, one, text, global_step)
            text.shown[global_step] = {"bits": shown_bits(one)}
            self._tell(text, global_step)

    @property
    def stops(self) -> bool:
        """Whether a guard ends the step."""
        return "stop" in self._guards.acted

    @property
    def seen(self) -> Seen | None:
        """What pictures are drawn of; None where the job wants none."""
        task, drifts_on = self._task, self._texts[-1]
        if not self._plots or task.base_sums is None or self._why_alone is not None:
            return None
        return Seen(task.base_sums, task.sums, task.split, drifts_on.sums, drifts_on.split, task.spreads)

    def kept(self) -> int | None:
        """The checkpoint that the step ends with by its guards; None: its last."""
        return chosen_checkpoint(self._task.sums) if self._guards.acted & {"stop", "keep_best"} else None

    def _keep_spread(self, model: Model, one: Pass, text: "_Text", global_step: int | None) -> None:
        if self._plots and text is self._task:
            text.spreads[global_step] = spread(model, one)

    def _base_on(self, base_model: Model, text: "_Text") -> Base:
        known = self._task.base
        if known is None:
            return Base.of(base_model, text.windows, self._tokenizer_size, self._batch_documents)
        return Base(final_hidden_states(base_model, text.windows, self._batch_documents), known.head)

    def _with_pairs(self, sums: DocumentSums, text: "_Text", model: Model | RewardModel) -> DocumentSums:
        if text is not self._task or not self._pairs or not isinstance(model, RewardModel):
            return sums
        pairs = measure_pairs(model, self._pairs, self._batch_documents)
        return replace(sums, pair_nll=pairs.nll, pairs_won=pairs.won, chosen_score=pairs.chosen, rejected_score=pairs.rejected)

    def _tell(self, text: "_Text", global_step: int | None) -> None:
        """The new sums, every row that they make or change (another best changes the others' distance), and what they set off."""
        sums = text.base_sums if global_step is None else text.sums[global_step]
        assert sums is not None, "the base is measured first"
        rows = self._rows(text)
        changed = [row for row in rows if text.told.get((row["global_step"], row["measure"])) != row]
        text.told |= {(row["global_step"], row["measure"]): row for row in changed}
        tests = [] if global_step is None else self._tests(text, global_step)
        guards = [] if global_step is None else self._guards.see(text.split, global_step, tests, rows)
        found = {name: finding.to_json() for name, finding in text.findings[global_step].items()}
        documents: dict[str, Any] = sums.to_json() | {FINDINGS: found, SHOWN: text.shown[global_step], TEXT: text.name}
        if global_step in text.spreads:
            documents[SPREAD] = text.spreads[global_step].to_json()
        self._run.measurement(self._step, global_step, text.split, documents, changed, tests, guards)
        if any(guard["data"]["then"] == "pause" for guard in guards) and self._run.wish is None:
            self._run.wish = "stop"  # what the supervisor would say with its next heartbeat, now that it has heard of the guard
        called, of = self._called.get(global_step or 0, (f"Checkpoint {global_step}", None))
        sentence = _sentence("The base" if global_step is None else called, global_step, text)
        more = {} if of is None else {"of": of}
        self._run.event("measured", sentence, step=self._step, global_step=global_step, split=text.split, **more)

    def _rows(self, text: "_Text") -> list[Row]:
        assert text.base_sums is not None, "the base is measured first"
        text_base = self._text_base if text is self._task else None
        rows = report(text.sums, text.base_sums, text_base) + report_findings(text.findings, best_checkpoint(text.sums))
        if self._why_alone is not None:
            rows = without_base(rows, self._why_alone, text is self._task)
        return [self._with_prefix(row) for row in rows if measure_of(row["measure"]) in self._names]

    def _with_prefix(self, row: Row) -> Row:
        return row | {"estimator": row["estimator"] + self._prefix} if row["measure"] in OF_WHOLE_TEXTS else row

    def _tests(self, text: "_Text", global_step: int) -> list[Test]:
        assert text.base_sums is not None, "the base is measured first"
        tests = alert_tests(text.base_sums, text.sums, global_step, text.split, self._names, text.findings)
        return tests if self._why_alone is None else tests_without_base(tests, self._why_alone)


class _Text:
    """What is measured on: its windows, and what the base and each checkpoint make of it."""

    def __init__(self, split: str, examples: Sequence[Example], measured: list[dict[str, Any]]):
        self.split = split
        self.windows = list(map(document_of_example, examples))
        self.document_of = [example.document for example in examples]
        self.base: Base | None = None
        self.base_sums: DocumentSums | None = None
        self.sums = _earlier_sums(measured, split)
        self.findings = _earlier_findings(measured, split)
        self.spreads = _earlier_spreads(measured, split)
        self.name = text_name(self.windows)
        self.shown: dict[int | None, dict[str, Any]] = {}  # of what this attempt measures
        self.told: dict[tuple[int | None, str], Row] = {}


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


def _earlier_spreads(measured: list[dict[str, Any]], split: str) -> dict[int | None, Spread]:
    kept = {it["global_step"]: it["documents"].get(SPREAD) for it in measured if it["split"] == split}
    return {global_step: Spread(**spread) for global_step, spread in kept.items() if spread is not None}


def _sentence(called: str, global_step: int | None, text: _Text) -> str:
    who = called + (", anchor" if text.split == "anchor" else "")
    for name, told_as in (("preference_cross_entropy", "preferences"), ("cross_entropy", "cross-entropy")):
        row = text.told.get((global_step, name))
        if row is not None and row["value"] is not None:
            error = row["standard_error"]
            spread = f" ± {error:.3f}" if error is not None else ""
            return f"{who}: {told_as} {row['value']:.4f}{spread} {row['unit']} on {row['n_documents']} documents."
    return f"{who} is measured."
