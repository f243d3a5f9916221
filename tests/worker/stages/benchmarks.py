"""Benchmarks written on the spot, and jobs that ask them."""

import csv
import json
from itertools import count
from pathlib import Path
from typing import Any

LETTERS = "ABCD"
HEAD = ["question", *LETTERS, "answer"]
PLACES = {"dev": ("dev", "_dev"), "validation": ("val", "_val"), "test": ("test", "_test")}
SUBJECTS = {
    "animals": {"name": "animals", "category": "STEM"},
    "words": {"name": "words", "category": "Humanities"},
}
WORDS = ("fox", "dog", "human", "animals", "forest", "task")


def rows(subject: str, split: str, n: int) -> list[list[str]]:
    """Questions of the words that the tests' tokenizer knows; each letter is right about as often."""
    start = len(subject) + len(split)
    return [
        [
            f"what is {WORDS[(n + start) % 6]} number {n}",
            *(f"the {WORDS[(n + k) % 6]}" for k in range(4)),
            LETTERS[(3 * n + start) % 4],
        ]
        for n in range(n)
    ]


def add_task(root: Path, name: str = "quiz", task_dir: str = "evaluation", questions: int = 6, examples: int = 3) -> Path:
    """Two subjects; animals has one question more than words."""
    folder = root / task_dir / name
    folder.mkdir(parents=True)
    (folder / "mapping.json").write_text(json.dumps(SUBJECTS), encoding="utf-8")
    for more, subject in zip(count(), reversed(SUBJECTS)):
        write(folder, subject, "dev", rows(subject, "dev", examples))
        write(folder, subject, "validation", rows(subject, "validation", 2))
        write(folder, subject, "test", rows(subject, "test", questions + more))
    return folder


def write(folder: Path, subject: str, split: str, written: list[list[str]]) -> None:
    place, suffix = PLACES[split]
    (folder / place).mkdir(exist_ok=True)
    with (folder / place / f"{subject}{suffix}.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([HEAD, *written])


def an_evaluation(*checkpoints: str, **groups: Any) -> dict[str, Any]:
    evaluation = {"task": "quiz", "n_shot": 1} | groups.pop("evaluation", {})
    measures = {"measures": {"checkpoints": list(checkpoints)}} if checkpoints else {}
    job = {"do": "evaluate", "model": {"model_name_or_path": "tiny"}, "evaluation": evaluation}
    return job | measures | groups


def artifact(host: Any, attempt: Any, name: str) -> str:
    (found,) = [message for message in attempt.of("artifact") if message["name"] == name]
    return (host.artifacts / found["path"]).read_text(encoding="utf-8")


def results(host: Any, attempt: Any, under: str = "evaluate") -> dict[str, Any]:
    return json.loads(artifact(host, attempt, f"{under}/results.json"))


def lines(host: Any, attempt: Any, under: str = "evaluate") -> list[dict[str, Any]]:
    """Every answer."""
    return [json.loads(line) for line in artifact(host, attempt, f"{under}/questions.jsonl").splitlines()]
