"""inspect: what is known of the data before anything is trained on it. No model is loaded, only a tokenizer."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from service.library.formats import conversation_of, labelled_of, pair_of, text_of
from service.library.rows import Row
from worker import checkpoints
from worker.data.load import encode_rows, split_rows
from worker.data.pairs import KtoExample, PairExample
from worker.data.tokenize import MASKED, Example, coverage_of
from worker.information.estimators import LEAST_COVERAGE
from worker.models.loading import load_tokenizer
from worker.probes import rows as probe
from worker.probes.dataset import dataset
from worker.probes.finding import Findings
from worker.probes.report import Row as Measured
from worker.probes.report import report_findings
from worker.run import Run
from worker.stages.step import StepWork
from worker.stages.training import add_template_tokens

SPLIT = "train"  # what the measures are of: the rows that a job would train on
NAMES = {
    "empirical_entropy",
    "entropy_from_counts",
    "sample_coverage",
    "joint_entropy",
    "conditional_entropy",
    "code_redundancy",
    "normalized_compression_distance",
}
SHOWN = 10  # rows with their mask
SHOWN_TOKENS = 1024  # of each of them
UNCUT = 2**30  # tokens: longer than any row


def inspect(work: StepWork, run: Run) -> tuple[Path, dict[str, Any]]:
    """Looks at the rows, tells the measures, and leaves what people want to see in inspection.json."""
    run.progress(phase="inspecting")
    step = work.step
    tokenizer = load_tokenizer(work.model, step.model.split_special_tokens)
    add_template_tokens(run, work, tokenizer)
    rows, held_out = split_rows(work.places, work.wanted)
    texts, held_out_texts = ([_text(row, step.finetuning.stage) for row in part] for part in (rows, held_out))
    run.check()
    uncut = _encoded(work, rows, tokenizer, UNCUT)
    examples = _encoded(work, rows, tokenizer, step.data.cutoff_len)
    run.check()
    found = _sizes(uncut, examples, step.data.cutoff_len)
    tokens = [_read_once(example) for example in uncut]
    found |= dataset(tokens, texts, held_out_texts, NAMES) | probe.pair_coverage(tokens)
    run.check()
    repeated, duplicates = probe.duplication(texts, step.training.seed)
    leaked, leaks = probe.leakage(texts, held_out_texts, step.training.seed)
    measured = report_findings({None: found | repeated | leaked}, None)
    run.measurement(step.name, None, SPLIT, {}, measured)
    document = {
        "dataset": list(step.data.dataset or ()),
        "held_out": list(step.measures.dataset or ()) or f"val_size {step.data.val_size:g}",
        "rows": len(rows),
        "held_out_rows": len(held_out),
        "coverage": asdict(coverage_of(len(rows), examples)),
        "measures": {row["measure"]: _for_people(row) for row in measured},
        "lower_bounds": _lower_bounds({row["measure"]: row["value"] for row in measured}),
        "duplicates": [_alike(one, rows, rows) for one in duplicates],
        "leaks": [_alike(one, held_out, rows) for one in leaks],
        "examples": [
            _shown(row, example, tokenizer, step.data.cutoff_len) for row, example in zip(rows, uncut[:SHOWN], strict=False)
        ],
    }
    _leave(run, work, document)
    coverage = coverage_of(len(rows), examples)
    run.event(
        "data_loaded",
        f"{work.name}: {len(rows)} rows would be {coverage.sentence()}; {len(held_out)} are held out.",
        step=work.name,
        rows=len(rows),
        tokens=coverage.tokens,
        trained_tokens=coverage.trained_tokens,
    )
    return work.folder, {"rows": len(rows), "held_out_rows": len(held_out)}


def _encoded(work: StepWork, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, cutoff_len: int) -> list[Any]:
    wanted = replace(work.wanted, data=work.step.data.model_copy(update={"cutoff_len": cutoff_len}))
    return encode_rows(rows, wanted, tokenizer)


def _sizes(uncut: list[Any], examples: list[Any], cutoff_len: int) -> Findings:
    sizes = probe.lengths(list(map(_length, uncut)), cutoff_len)
    if not examples:
        return sizes  # every row is dropped
    trained = [sum(label != MASKED for label in example.labels) for example in examples]
    return sizes | probe.trained(trained, [len(example.input_ids) for example in examples])


def _length(example: Example | PairExample | KtoExample) -> int:
    """Of a pair that of the longer text, since each is cut by itself."""
    return example.longer if isinstance(example, PairExample) else len(example.input_ids)


def _read_once(example: Example | PairExample | KtoExample) -> list[int]:
    """What a pair's two texts begin with says nothing the second time."""
    return example.prompt_once if isinstance(example, PairExample) else example.input_ids


def _text(row: Row, stage: str) -> str:
    """What a row says, without what a template puts around it. Raises a JobFailure for a bad row."""
    if stage == "pt":
        return text_of(row)
    rejected: list[str] = []
    if row.entry.holds == "pairs":
        pair = pair_of(row)
        conversation, rejected = pair.chosen, [pair.rejected.messages[-1].content]
    else:
        conversation = labelled_of(row).conversation if row.entry.holds == "labels" else conversation_of(row)
    parts = [conversation.system, *(message.content for message in conversation.messages), *rejected]
    return "\n".join(part for part in parts if part)


def _lower_bounds(values: dict[str, float | None]) -> list[str]:
    """The entropies of which the rows show too little: what was not seen would add to them."""
    seen = {"entropy_from_counts": "sample_coverage", "joint_entropy": "pair_coverage", "conditional_entropy": "pair_coverage"}
    return [name for name, by in seen.items() if (values.get(by) or 0.0) < LEAST_COVERAGE]


def _for_people(row: Measured) -> dict[str, Any]:
    return {name: row[name] for name in ("value", "unit", "standard_error", "interval", "estimator")}


def _alike(one: probe.Likeness, rows: Sequence[Row], others: Sequence[Row]) -> dict[str, Any]:
    row, other = rows[one.row], others[one.other]
    return {
        "file": row.file,
        "row": row.number,
        "like_file": other.file,
        "like_row": other.number,
        "shared_n_grams": round(one.shared, 4),
        "bits_saved": round(one.saved, 4),
    }


def _shown(row: Row, example: Example, tokenizer: PreTrainedTokenizerBase, cutoff_len: int) -> dict[str, Any]:
    """A row as the model reads it, in pieces that are trained or not; and its first tokens with their mask."""
    labelled = list(zip(example.input_ids, example.labels, strict=True))
    pieces = [
        {"text": tokenizer.decode([token for token, _ in group]), "trained": is_trained}
        for is_trained, group in groupby(labelled, key=lambda pair: pair[1] != MASKED)
    ]
    n_shown = min(len(labelled), SHOWN_TOKENS)
    return {
        "file": row.file,
        "row": row.number,
        "tokens": len(example.input_ids),
        "beyond_cutoff": max(0, _length(example) - cutoff_len),
        "pieces": pieces,
        "token_ids": [token for token, _ in labelled[:n_shown]],
        "token_texts": [tokenizer.decode([token]) for token, _ in labelled[:n_shown]],
        "mask": [int(label != MASKED) for _, label in labelled[:n_shown]],
    }


def _leave(run: Run, work: StepWork, document: dict[str, Any]) -> None:
    work.folder.mkdir(parents=True, exist_ok=True)
    file = work.folder / "inspection.json"
    file.write_text(json.dumps(document, ensure_ascii=False, indent=2), encoding="utf-8")
    described = checkpoints.describe(work.folder, file)
    run.artifact(file.name, file, described["size"], described["sha256"])
