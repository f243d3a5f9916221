"""evaluate, of a task of lm-evaluation-harness: the library asks, and its figures are told beside one another."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from transformers import PreTrainedTokenizerBase

from service.library.benchmarks import NOT_THE_OPERATORS
from service.specs.reasons import Reason
from service.specs.roots import OutsideRoot, inside, meets
from worker.evaluation.harness import Score, Where, refuse_without_it, scores_of
from worker.evaluation.results import leave
from worker.failures import JobFailure
from worker.probes.finding import Findings
from worker.probes.report import report_findings
from worker.run import Run
from worker.stages.evaluated import Evaluated
from worker.stages.step import StepWork

SPLIT = "test"  # what a task calls its questions is its own affair
LONGEST = 64  # characters of a measure's name, its place with it


def ask_the_harness(
    work: StepWork, run: Run, tokenizer: PreTrainedTokenizerBase, models: Sequence[Evaluated], most_tokens: int
) -> dict[str, Any]:
    """Model by model; what an earlier attempt was told is not asked again."""
    asked, where = work.step.evaluation, _where(work)
    refuse_without_it()
    task = asked.harness_task or ""
    kept = {row["global_step"]: row["documents"].get("scores") for row in work.measured if row["split"] == SPLIT}
    scores: dict[int | None, list[Score]] = {}
    for place, one in enumerate(models):
        run.check()
        run.progress(phase="evaluating", global_step=place, max_steps=len(models))
        if (before := kept.get(one.number)) is not None:
            scores[one.number] = [Score(**score) for score in before]
        else:
            model = one.load()
            shots, seed, batch_size = asked.n_shot, asked.seed, asked.batch_size
            scores[one.number] = scores_of(model, tokenizer, task, where, shots, seed, batch_size, most_tokens)
            del model
        _tell(work, run, scores, one)
    document = {
        "task": asked.task,
        "n_shot": asked.n_shot,
        "seed": asked.seed,
        "models": [
            {"model": one.called, "name": one.name, "of": one.of, "scores": list(map(asdict, scores[one.number]))}
            for one in models
        ],
    }
    leave(run, work.folder, "results.json", json.dumps(document, ensure_ascii=False, indent=1), asked.save_dir or work.name)
    return {"questions": max((score.n for score in next(iter(scores.values()))), default=0), "models": len(models)}


def _tell(work: StepWork, run: Run, scores: dict[int | None, list[Score]], one: Evaluated) -> None:
    findings = {number: _findings(of_model) for number, of_model in scores.items()}
    rows = report_findings(findings, None)
    for number, of_model in scores.items():
        own = [row for row in rows if row["global_step"] == number]
        run.measurement(work.name, number, SPLIT, {"scores": list(map(asdict, of_model))}, own)
    first = scores[one.number][0] if scores[one.number] else None
    figure = "no figures" if first is None else f"{first.task} {first.metric} {first.value:.4g}"
    run.event("measured", f"{one.name}: {figure}.", step=work.name, global_step=one.number, split=SPLIT, of=one.of)


def _findings(scores: list[Score]) -> Findings:
    return {name: score.finding() for score in scores if len(name := _name(score, scores)) <= LONGEST}


def _name(score: Score, scores: list[Score]) -> str:
    """harness_score:acc of one task; harness_score:task.acc where there are several."""
    alone = len({one.task for one in scores}) == 1
    return f"harness_score:{score.metric}" if alone else f"harness_score:{score.task}.{score.metric}"


def _where(work: StepWork) -> Where:
    try:
        folder = inside(work.places.datasets_root, work.step.evaluation.task_dir)
    except OutsideRoot as error:
        raise JobFailure(Reason.MISSING_DATA, str(error)) from None
    # its tasks may hold code, which is run: nothing that a client could have put there
    if meets(folder, (work.artifacts_root, work.exports_root, work.places.cache_root)):
        raise JobFailure(Reason.BAD_DATA, NOT_THE_OPERATORS.format(work.step.evaluation.task_dir))
    return Where(folder if folder.is_dir() else None, work.places.cache_root / "lm_eval", work.places.hub is not None)
