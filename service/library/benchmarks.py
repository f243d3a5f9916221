"""Whether the questions that a step evaluates by are there, in the operator's folder, and can all be asked."""

from collections.abc import Iterator
from pathlib import Path

from service.library.errors import LibraryError
from service.specs.benchmark import Benchmark, open_benchmark
from service.specs.benchmark_files import BenchmarkError
from service.specs.evaluation import EvaluationArguments
from service.specs.job import ResolvedStep
from service.specs.roots import OutsideRoot, inside, meets


def why_not(datasets_root: Path, step: ResolvedStep, written: tuple[Path, ...] = ()) -> Iterator[tuple[str, str]]:
    """(argument, sentence) of what is wrong with them. `written` are folders that jobs and clients write into."""
    try:
        folder = _folder(datasets_root, step.evaluation)
        # a task of the harness may hold code, which is run
        if step.evaluation.harness_task is not None and meets(folder, written):
            raise LibraryError(NOT_THE_OPERATORS.format(step.evaluation.task_dir), "evaluation.task_dir")
        if step.evaluation.harness_task is None and step.evaluation.task is not None:
            of_step(datasets_root, step.evaluation)
    except LibraryError as error:
        yield error.argument or "evaluation.task", str(error)
    except OSError as error:
        yield "evaluation.task", f"The task {step.evaluation.task!r} cannot be read: {error.strerror}."


# Of a task of lm-evaluation-harness, and its folder.
NOT_THE_OPERATORS = "{!r} is not the operator's alone: jobs write there, and a task of lm-evaluation-harness may hold code."


def of_step(datasets_root: Path, evaluation: EvaluationArguments) -> Benchmark:
    """Raises LibraryError, OSError."""
    task = evaluation.task or ""
    try:
        folder = inside(_folder(datasets_root, evaluation), task)
    except OutsideRoot as error:
        raise LibraryError(str(error)) from None
    if not folder.is_dir():
        raise LibraryError(_no_such_task(folder.parent, task, evaluation.task_dir))
    try:
        return open_benchmark(folder, evaluation.split, with_examples=evaluation.n_shot > 0)
    except BenchmarkError as error:
        raise LibraryError(f"The task {task!r} cannot be asked: {error}") from None


def count(benchmark: Benchmark) -> int:
    return sum(len(benchmark.questions(subject)) for subject in benchmark.subjects)


def _folder(datasets_root: Path, evaluation: EvaluationArguments) -> Path:
    try:
        folder = inside(datasets_root, evaluation.task_dir)
    except OutsideRoot as error:
        raise LibraryError(str(error), "evaluation.task_dir") from None
    # a task of the harness may be one that comes with it
    if not folder.is_dir() and evaluation.harness_task is None:
        raise LibraryError(f"There is no folder {evaluation.task_dir!r} among the data sets.", "evaluation.task_dir")
    return folder


def _no_such_task(folder: Path, task: str, task_dir: str) -> str:
    there = sorted(found.parent.name for found in folder.glob("*/mapping.json"))
    return f"There is no task {task!r} in {task_dir!r}; there are {', '.join(there) or 'none'}."
