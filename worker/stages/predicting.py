"""predict: an answer to every row of a data set, in generated_predictions.jsonl, and how near the answers come to the labels.

Rows go in batches of like lengths, the longest first, and are told in their own order. What is written so far is a checkpoint of
the step: the next attempt goes on behind it.
"""

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from service.library.formats import conversation_of
from service.library.rows import Row
from service.specs.generating import predicted_beams
from service.specs.reasons import Reason
from worker import checkpoints
from worker.data.load import encode_prompts, predicted_rows
from worker.data.templates import TEMPLATES, stop_ids
from worker.failures import JobFailure
from worker.models.adapters import Model
from worker.models.assembly import frozen
from worker.models.loading import load_tokenizer
from worker.probes.report import report_findings
from worker.run import Run
from worker.stages.bringing import bring
from worker.stages.step import StepWork, ToMeasure
from worker.stages.training import add_template_tokens
from worker.writing.answers import Answer, answer
from worker.writing.batch import Manner, positions_of, room_of
from worker.writing.scores import scores

FILE = "generated_predictions.jsonl"
SAVE_SECONDS = 30.0  # between two checkpoints, and more where they take long
MOST_OF_THE_TIME = 0.02  # that checkpoints take


@dataclass(frozen=True)
class Asked:
    """A row that is answered: its prompt as tokens and as text, and what its data set answers."""

    row: int
    ids: list[int]
    prompt: str
    label: str


Predicted = dict[str, Any]  # a line of the file


def predict(work: StepWork, run: Run) -> tuple[Path, dict[str, Any]]:
    """Answers the rows that no earlier attempt has answered. What a summary says of it."""
    step, one = work.step, work.to_ask
    assert one is not None
    refuse_reward_model(one)
    start, tokenizer_at = one.start()
    tokenizer = load_tokenizer(tokenizer_at, step.model.split_special_tokens)
    add_template_tokens(run, work, tokenizer)
    asked, split = _asked(run, work, tokenizer)
    run.check()
    done = _earlier(run, work, asked)
    model = frozen(start, one.step, tokenizer, torch.device("cpu" if work.use_cpu else "cuda"))
    manner = manner_of(work, tokenizer)
    progress = _Progress(run, work, len(asked), done)
    for batch in batches(model, asked, manner, step.training.per_device_eval_batch_size):
        left = [row for row in batch if row.row not in done]
        if left:
            done |= _answered(run, work, model, left, manner, tokenizer)
            progress.tell()
    rows = [done.get(row.row) or _without_room(row) for row in asked]
    _leave(run, work, rows)
    findings = scores([row["predict"] for row in rows], [row["label"] for row in rows], sum(row["tokens"] for row in rows))
    run.measurement(step.name, 1, split, {}, report_findings({1: findings}, None))
    _tell_scores(run, work, one.name, findings)
    return work.folder, {"rows": len(rows), "tokens": sum(row["tokens"] for row in rows)}


def refuse_reward_model(one: ToMeasure) -> None:
    if one.step.do == "train" and one.step.finetuning.stage == "rm":
        raise JobFailure(Reason.BAD_MODEL, f"{one.name!r} is a reward model, which scores texts and writes none.")


def manner_of(work: StepWork, tokenizer: PreTrainedTokenizerBase) -> Manner:
    step = work.step
    ends = stop_ids(TEMPLATES[step.data.template or "empty"], tokenizer)
    pad_id: Any = tokenizer.pad_token_id  # `load_tokenizer` gives it one
    beams = predicted_beams(step.generating, step.data.eval_num_beams) if step.do == "predict" else 1
    return Manner(step.generating, ends, pad_id, beams, vocabulary=len(tokenizer))


def batches(model: Model, asked: Sequence[Asked], manner: Manner, size: int) -> Iterator[list[Asked]]:
    """Of like lengths, the longest first: what does not fit into the memory is known at once. Rows without room are left out.

    Where a batch would write beyond the model's positions, which some models cannot, its rows go one by one.
    """
    positions = positions_of(model)
    some_room = [one for one in asked if one.ids and room_of(model, len(one.ids), manner.generating) > 0]
    in_order = sorted(some_room, key=lambda one: (-len(one.ids), one.row))
    for start in range(0, len(in_order), size):
        batch = in_order[start : start + size]
        longest = max(room_of(model, len(one.ids), manner.generating) for one in batch)
        if positions is not None and len(batch[0].ids) + longest > positions:
            yield from ([one] for one in batch)
        else:
            yield batch


# -- what is asked ------------------------------------------------------------------------------------------------------


def _asked(run: Run, work: StepWork, tokenizer: PreTrainedTokenizerBase) -> tuple[list[Asked], str]:
    """The rows, each with its number among them; those that overlength drops have none."""
    rows, split = predicted_rows(work.places, work.wanted)
    examples = encode_prompts(rows, work.wanted, tokenizer)
    kept = [(row, example) for row, example in zip(rows, examples, strict=True) if example is not None]
    if not kept:
        longer = f"every one is longer than cutoff_len {work.step.data.cutoff_len}"
        raise JobFailure(Reason.BAD_DATA, f"No rows are left to answer: {longer}.")
    prompts = tokenizer.batch_decode([example.input_ids for _, example in kept], skip_special_tokens=True)
    truncated = sum(example.truncated for _, example in kept)
    counts = [(truncated, "truncated"), (len(rows) - len(kept), "dropped")]
    told = "".join(f", {count} {fate}" for count, fate in counts if count)
    number = "1 row is" if len(kept) == 1 else f"{len(kept)} rows are"
    run.event("data_loaded", f"{work.name}: {number} answered{told}.", step=work.name, rows=len(kept), split=split)
    labelled = zip(kept, prompts, strict=True)
    return [Asked(at, example.input_ids, str(text), _label(row)) for at, ((row, example), text) in enumerate(labelled)], split


def _label(row: Row) -> str:
    return conversation_of(row).messages[-1].content


def _earlier(run: Run, work: StepWork, asked: Sequence[Asked]) -> dict[int, Predicted]:
    """What earlier attempts have answered, by row, of the newest checkpoint that is whole."""
    for saved in reversed(work.saved):
        folder = bring(run, work.name, work.artifacts_root, saved)
        if folder is None:
            continue
        with (folder / FILE).open(encoding="utf-8") as lines:
            written = [json.loads(line) for line in lines]
        prompts = {one.row: one.prompt for one in asked}
        # a data set that was written anew meanwhile may have other rows by now
        kept = {row: predicted for row, predicted in written if prompts.get(row) == predicted["prompt"]}
        told = f"{work.name}: {len(kept)} of {len(asked)} rows are answered already."
        run.event("resumed", told, step=work.name, rows=len(kept))
        return kept
    return {}


# -- what is answered ---------------------------------------------------------------------------------------------------


def _answered(
    run: Run, work: StepWork, model: Model, batch: list[Asked], manner: Manner, tokenizer: PreTrainedTokenizerBase
) -> dict[int, Predicted]:
    """Of a batch all rows, or none where the run is to stop meanwhile: then they ended anywhere."""
    seed = work.step.training.seed
    ids = [one.ids for one in batch]
    rooms = [room_of(model, len(one.ids), manner.generating) for one in batch]
    try:
        answers = answer(model, ids, rooms, [(seed, one.row) for one in batch], manner, lambda: run.wish is not None)
    except torch.OutOfMemoryError:
        smaller = "per_device_eval_batch_size, max_new_tokens or num_beams"
        sentence = f"The memory was not enough to predict. A smaller {smaller} needs less."
        raise JobFailure(Reason.OUT_OF_MEMORY, sentence) from None
    if run.wish is not None:
        return {}
    return {one.row: _predicted(one, answered, tokenizer) for one, answered in zip(batch, answers, strict=True)}


def _predicted(asked: Asked, answered: Answer, tokenizer: PreTrainedTokenizerBase) -> Predicted:
    said = answered.tokens[:-1] if answered.finish_reason == "stop" else answered.tokens
    return {
        "prompt": asked.prompt,
        "label": asked.label,
        "predict": str(tokenizer.decode(said, skip_special_tokens=True)),
        "log_probability": round(answered.log_probability, 6),
        "entropy": round(answered.entropy, 6),
        "tokens": len(answered.tokens),
        "finish_reason": answered.finish_reason,
    }


def _without_room(asked: Asked) -> Predicted:
    """A prompt that takes all positions of the model, or all of max_length, has an answer of no tokens."""
    nothing = {"predict": "", "log_probability": 0.0, "entropy": None, "tokens": 0, "finish_reason": "length"}
    return {"prompt": asked.prompt, "label": asked.label, **nothing}


# -- what is told -------------------------------------------------------------------------------------------------------


class _Progress:
    """How many rows are done, and a checkpoint of them now and then, and before the run stops."""

    def __init__(self, run: Run, work: StepWork, n_rows: int, done: dict[int, Predicted]):
        self._run = run
        self._work = work
        self._n_rows = n_rows
        self._done = done
        self._n_saved = self._n_earlier = len(done)
        self._began = self._saved_at = time.monotonic()
        self._pause_seconds = SAVE_SECONDS
        run.progress(phase="predicting", global_step=len(done), max_steps=n_rows)

    def tell(self) -> None:
        """Raises Stopped where that was asked for."""
        now = time.monotonic()
        if self._run.wish is not None or now - self._saved_at >= self._pause_seconds:
            self._save()
        self._run.check()
        n_new = len(self._done) - self._n_earlier
        eta = (self._n_rows - len(self._done)) * (now - self._began) / n_new if n_new else None
        self._run.progress(global_step=len(self._done), eta_seconds=eta)

    def _save(self) -> None:
        """Nothing where there is nothing new."""
        n_done = len(self._done)
        if n_done == self._n_saved:
            return
        began = time.monotonic()
        folder = self._work.folder / f"{checkpoints.PREFIX}-{n_done}"
        folder.mkdir(parents=True, exist_ok=True)
        _write_lines(folder / FILE, sorted(self._done.items()))
        files = checkpoints.seal(folder)
        self._run.checkpoint(self._work.name, n_done, folder, n_done / self._n_rows, None, files)
        self._n_saved, self._saved_at = n_done, time.monotonic()
        self._pause_seconds = max(SAVE_SECONDS, (self._saved_at - began) / MOST_OF_THE_TIME)


def _leave(run: Run, work: StepWork, rows: Sequence[Predicted]) -> None:
    work.folder.mkdir(parents=True, exist_ok=True)
    file = work.folder / FILE
    _write_lines(file, rows)
    described = checkpoints.describe(work.folder, file)
    run.artifact(f"{work.name}/{FILE}", file, described["size"], described["sha256"])


def _write_lines(file: Path, lines: Sequence[Any]) -> None:
    with file.open("w", encoding="utf-8") as opened:
        opened.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _tell_scores(run: Run, work: StepWork, called: str, findings: Any) -> None:
    known = {name: found.estimate.value for name, found in findings.items() if math.isfinite(found.estimate.value)}
    told = ", ".join(f"{name} {value:.1f} %" for name, value in known.items())
    run.event("measured", f"{called}: {told or 'no row has a label'}.", step=work.name, global_step=1)
