"""The files that an evaluation leaves: results.json for people, questions.jsonl with every answer."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.specs.benchmark import LETTERS, Benchmark
from worker import checkpoints
from worker.evaluation.answers import Answers
from worker.evaluation.scores import Answered, Number, comparisons, confusion
from worker.probes.report import Row
from worker.run import Run

_TOLD = ("value", "unit", "standard_error", "interval", "interval_reason", "n_documents", "versus_base")


def results_of(
    benchmark: Benchmark, models: Mapping[Number, Answered], rows: list[Row], called: Mapping[Number, dict[str, Any]]
) -> dict[str, Any]:
    """`called` says what each model is."""
    measures: dict[Number, dict[str, Any]] = {number: {} for number in models}
    for row in rows:
        measures[row["global_step"]][row["measure"]] = {name: row[name] for name in _TOLD}
    return {
        "split": benchmark.split,
        "questions": len(next(iter(models.values())).truth_Q),
        "subjects": {subject.key: subject.category for subject in benchmark.subjects},
        "models": [
            called[number] | {"measures": measures[number], "confusion": confusion(one)} for number, one in models.items()
        ],
        "letters": list(LETTERS),
        "comparisons": list(comparisons(models)),
    }


def question_lines(benchmark: Benchmark, models: Mapping[Number, Mapping[str, Answers]]) -> str:
    """A line for each question and model."""
    lines = []
    for number, by_subject in models.items():
        for subject in benchmark.subjects:
            answers = by_subject[subject.key]
            for row, truth, choice, bits, shown in zip(
                answers.rows, answers.truth, answers.choice_Q, answers.bits, answers.n_shown, strict=True
            ):
                lines.append(
                    {
                        "model": "base" if number is None else number,
                        "subject": subject.key,
                        "row": row,
                        "answer": LETTERS[truth],
                        "choice": LETTERS[choice] if choice >= 0 else None,
                        "lg_p": {letter: 0.0 - b if choice >= 0 else None for letter, b in zip(LETTERS, bits, strict=True)},
                        "examples": shown,
                    }
                )
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def leave(run: Run, folder: Path, name: str, text: str, under: str) -> None:
    """Writes a file and has it served as `under/name`."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(text, encoding="utf-8")
    described = checkpoints.describe(folder, file)
    run.artifact(f"{under}/{name}", file, described["size"], described["sha256"])
