"""Tasks of lm-evaluation-harness by name, asked of a model that is loaded already. The library is an extra (`eval`).

A task comes with the library or lies in the operator's folder as YAML; so does its data, unless hubs are reached. The YAML is the
operator's own: it may hold templates that the library runs.
"""

import importlib.util
import math
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from service.specs.reasons import Reason
from worker.failures import JobFailure
from worker.probes.finding import Finding, exact, mean
from worker.probes.token import Model, hf_model_of

STDERR = "_stderr"


@dataclass(frozen=True)
class Score:
    """A metric of a task: the harness's value, and each question's where it is their mean."""

    task: str
    metric: str
    value: float
    n: int
    by_question: list[float] | None

    def finding(self) -> Finding:
        if self.by_question is not None:
            return mean(np.array(self.by_question), "the harness's, mean over questions", self.n)
        why = "lm-evaluation-harness tells no value of each question of which this is the mean."
        return exact(self.value, why, "the harness's own", self.n)


@dataclass(frozen=True)
class Where:
    """`tasks` is a folder with more tasks, or None; `cache` is where what is read of data sets is kept."""

    tasks: Path | None
    cache: Path
    hub: bool


def refuse_without_it() -> None:
    """Raises a JobFailure where the library is not installed."""
    if importlib.util.find_spec("lm_eval") is None:
        sentence = "This worker does not have lm-evaluation-harness: pip install 'finebits[eval]'."
        raise JobFailure(Reason.MISSING_LIBRARY, sentence)


def scores_of(
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    task: str,
    where: Where,
    n_shot: int,
    seed: int,
    batch_size: int,
    most_tokens: int,
) -> list[Score]:
    """Every metric of the task, or of each of a group's tasks. Raises JobFailure."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    with _at(where):
        manager = TaskManager(include_path=None if where.tasks is None else str(where.tasks))
        if task not in manager.all_tasks:
            raise JobFailure(Reason.MISSING_DATA, f"lm-evaluation-harness has no task {task!r}.")
        asked = HFLM(pretrained=hf_model_of(model), tokenizer=tokenizer, batch_size=batch_size, max_length=most_tokens)
        try:
            told = simple_evaluate(
                model=asked,
                tasks=[task],
                num_fewshot=n_shot,
                task_manager=manager,
                bootstrap_iters=0,  # its errors: by resampling in processes of its own, and of means the same as ours
                log_samples=True,
                random_seed=seed,
                numpy_random_seed=seed,
                torch_random_seed=seed,
                fewshot_random_seed=seed,
            )
        except (MemoryError, JobFailure):
            raise
        except Exception as error:  # whatever a task's own files can make the library raise
            if "out of memory" in str(error):
                raise
            raise JobFailure(Reason.BAD_DATA, f"The task {task!r} cannot be asked: {_said(error)}") from None
    return list(_scores(told))


def _scores(told: dict[str, Any]) -> Iterator[Score]:
    for task, results in told["results"].items():
        samples = told.get("samples", {}).get(task, [])
        for key, value in results.items():
            name, _, filter_ = key.partition(",")
            if not filter_ or name.endswith(STDERR) or not isinstance(value, int | float):
                continue
            metric = name if filter_ == "none" else f"{name}.{filter_}"
            n = told["n-samples"][task]["effective"] if task in told["n-samples"] else len(samples)
            own = _by_question([sample for sample in samples if sample["filter"] == filter_], name, float(value))
            yield Score(task, metric, float(value), n, own)


def _by_question(samples: list[dict[str, Any]], metric: str, value: float) -> list[float] | None:
    values = [sample.get(metric) for sample in sorted(samples, key=lambda sample: sample["doc_id"])]
    if not values or not all(isinstance(one, int | float | np.number) for one in values):
        return None
    numbers = [float(one) for one in values if one is not None]
    return numbers if math.isclose(sum(numbers) / len(numbers), value, rel_tol=1e-9, abs_tol=1e-12) else None


@contextmanager
def _at(where: Where) -> Iterator[None]:
    """In the folder of the tasks, whose files they name from there; and off the hubs where those may not be reached."""
    import datasets.config
    from huggingface_hub import constants

    before = datasets.config.HF_DATASETS_CACHE, datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    where.cache.mkdir(parents=True, exist_ok=True)
    datasets.config.HF_DATASETS_CACHE = where.cache
    if not where.hub:
        datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        with chdir(where.tasks or where.cache):
            yield
    finally:
        datasets.config.HF_DATASETS_CACHE, datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


def _said(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [""])[0][:300]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
