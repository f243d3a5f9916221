"""Checkpoints of earlier jobs that a job names: looked up when it comes, and written out by their numbers in what will run."""

from collections.abc import Iterator

from service.specs.checkpoint_names import CheckpointName, exported_by, named_in
from service.specs.job import JobSpec, ResolvedJob, ResolvedStep
from service.specs.read import place_of
from service.specs.refusals import Refusal
from service.store import referred
from service.store.referred import NoCheckpoint
from service.store.session import Database


class Referring:
    """Looks at one job; `written_out` is what it makes of it."""

    def __init__(self, database: Database, owner: str):
        self._database = database
        self._owner = owner
        self._found: dict[str, tuple[str, ...]] = {}  # by the name as it came

    def __call__(self, spec: JobSpec, resolved: ResolvedJob) -> Iterator[Refusal]:
        for index, step in enumerate(resolved.steps):
            for argument, text, name in named_in(step):
                if name.job_id is None:
                    continue  # the rules have looked at it
                try:
                    self._look(text, name, is_asked=step.do in ("predict", "generate"))
                except NoCheckpoint as error:
                    yield Refusal(place_of(spec, index, argument), str(error))

    def written_out(self, resolved: ResolvedJob) -> ResolvedJob:
        """With every checkpoint by its number, each once: what a name stands for may change before the job runs."""
        if not self._found:
            return resolved
        return resolved.model_copy(update={"steps": tuple(map(self._step, resolved.steps))})

    def _look(self, text: str, name: CheckpointName, is_asked: bool) -> None:
        with self._database.reading() as session:
            self._found[text] = tuple(map(str, referred.found(session, self._owner, name, is_asked)))

    def _step(self, step: ResolvedStep) -> ResolvedStep:
        if exported_by(step) is not None:
            (name,) = self._found.get(step.model.model_name_or_path, (step.model.model_name_or_path,))
            return step.model_copy(update={"model": step.model.model_copy(update={"model_name_or_path": name})})
        names = [name for text in step.measures.checkpoints or () for name in self._found.get(text, (text,))]
        if not names:
            return step
        measures = step.measures.model_copy(update={"checkpoints": tuple(dict.fromkeys(names))})
        return step.model_copy(update={"measures": measures})
