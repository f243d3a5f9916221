"""Whether what a job names is there: its models and its data sets, as the operator's folders hold them now.

Read without torch, so that a wrong name is refused when the job comes and not twenty minutes later by a worker.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.library import datasets, models, weights
from service.library.datasets import Hub
from service.library.errors import LibraryError
from service.specs.job import JobSpec, ResolvedJob, ResolvedStep
from service.specs.read import place_of
from service.specs.refusals import Refusal


@dataclass(frozen=True)
class Roots:
    """The folders that the operator opens to jobs, and the hubs that may be reached."""

    models: Path
    datasets: Path
    hub: bool = False
    modelscope: bool = False

    @property
    def hubs(self) -> frozenset[Hub]:
        if not self.hub:
            return frozenset()
        return frozenset(("huggingface", "modelscope") if self.modelscope else ("huggingface",))


def check(roots: Roots, spec: JobSpec, resolved: ResolvedJob) -> Iterator[Refusal]:
    """Every model and data set that is not there or cannot be used, at its place in the document's nested form."""
    for index, step in enumerate(resolved.steps):
        for look in (_model, _folder_of_data, _training_data, _measured_data):
            for argument, why in look(roots, step):
                yield Refusal(place_of(spec, index, argument), why)


Complaints = Iterator[tuple[str, str]]


def _model(roots: Roots, step: ResolvedStep) -> Complaints:
    name = step.model.model_name_or_path
    if name.startswith("@"):
        return  # what an earlier step will make; `references_point_back` has looked at it
    try:
        model = models.find(roots.models, name)
        weights.fit(model, step.finetuning)
    except LibraryError as error:
        yield error.argument or "model.model_name_or_path", str(error)
    except OSError as error:
        yield "model.model_name_or_path", f"The model {name!r} cannot be read: {error.strerror}."


def _folder_of_data(roots: Roots, step: ResolvedStep) -> Complaints:
    try:
        datasets.entries(roots.datasets, step.data.dataset_dir)
    except LibraryError as error:
        yield "data.dataset_dir", str(error)


def _training_data(roots: Roots, step: ResolvedStep) -> Complaints:
    yield from _data(roots, step, "data.dataset", step.data.dataset)


def _measured_data(roots: Roots, step: ResolvedStep) -> Complaints:
    yield from _data(roots, step, "measures.dataset", step.measures.dataset)


def _data(roots: Roots, step: ResolvedStep, argument: str, names: tuple[str, ...] | None) -> Complaints:
    for name in names or ():
        try:
            known = datasets.entries(roots.datasets, step.data.dataset_dir)
        except LibraryError:
            return  # said once, of the folder
        try:
            datasets.find(known, name, step.finetuning.stage, step.data.split, roots.hubs)
        except LibraryError as error:
            yield error.argument or argument, str(error)
        except OSError as error:
            yield argument, f"The data set {name!r} cannot be read: {error.strerror}."
