"""Data sets of a job that were uploaded, by name: written out by the ids of their files, so that a job that is read again is the
same whatever the name stands for by then."""

from collections.abc import Iterator
from pathlib import Path

from service.api.lately import Lately
from service.library import datasets as library
from service.library.training_files import Uploaded
from service.specs.dataset_names import parts
from service.specs.job import ResolvedJob, ResolvedStep
from service.specs.ledger import Notice
from service.store import datasets
from service.store.errors import NotFound
from service.store.session import Database


class Naming:
    """Looks at one job. What it found is there afterwards: `uploaded`, and `notices`."""

    def __init__(self, database: Database, owner: str, datasets_root: Path, lately: Lately):
        self._database = database
        self._owner = owner
        self._root = datasets_root
        self._lately = lately
        self._files: dict[str, str | None] = {}  # by the name as it came; None: there is none
        self._known: dict[str, Uploaded] = {}  # by the id of the file
        self.notices: list[Notice] = []

    @property
    def uploaded(self) -> tuple[tuple[str, Uploaded], ...]:
        return tuple(self._known.items())

    def written_out(self, resolved: ResolvedJob) -> ResolvedJob:
        """With the file of each data set. What the operator's folder lists is the operator's; a name that nobody has stays."""
        steps = tuple(map(self._step, resolved.steps))
        return resolved if steps == resolved.steps else resolved.model_copy(update={"steps": steps})

    def _step(self, step: ResolvedStep) -> ResolvedStep:
        found = {name: file for name in _named(step) if (file := self._file(step, name)) is not None}
        if not found:
            return step

        def of(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
            return None if names is None else tuple(found.get(name, name) for name in names)

        measures = {"dataset": of(step.measures.dataset), "anchor": of(step.measures.anchor)}
        if step.measures.task is not None:
            measures["task"] = found.get(step.measures.task, step.measures.task)  # type: ignore[assignment]
        corpus = step.model.export_quantization_dataset
        model = {} if corpus is None else {"export_quantization_dataset": found.get(corpus, corpus)}
        return step.model_copy(
            update={
                "model": step.model.model_copy(update=model),
                "data": step.data.model_copy(update={"dataset": of(step.data.dataset)}),
                "measures": step.measures.model_copy(update=measures),
            }
        )

    def _file(self, step: ResolvedStep, name: str) -> str | None:
        named = parts(name)
        if named is None or (named[1] is None and self._is_operators(step.data.dataset_dir, name)):
            return None
        if name not in self._files:
            self._files[name] = self._look_up(name, *named)
        return self._files[name]

    def _is_operators(self, folder: str, name: str) -> bool:
        listed: bool = self._lately.of(("lists", self._root, folder, name), lambda: library.lists(self._root, folder, name))
        return listed

    def _look_up(self, text: str, name: str, version: str | None) -> str | None:
        try:
            with self._database.reading() as session:
                row, file = datasets.get(session, self._owner, name, version)
        except NotFound:
            return None
        if file.entry is None:
            return None
        self._known[file.id] = Uploaded.of(file.entry, file.rows)
        self.notices.append(Notice(("data", "dataset"), f"{text} is {name}@{row.version}, the file {file.id}."))
        return file.id


def _named(step: ResolvedStep) -> Iterator[str]:
    measures = step.measures
    for names in (step.data.dataset, measures.dataset, measures.anchor):
        yield from names or ()
    for name in (measures.task, step.model.export_quantization_dataset):
        if name is not None:
            yield name
