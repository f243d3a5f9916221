"""Checkpoints of earlier jobs that a job names, to measure or export them or to begin with: looked up when it comes, and written
out by their numbers in what will run."""

from collections.abc import Callable, Iterator
from functools import partial

from sqlalchemy.orm import Session

from service.specs.beginnings import chain, earlier_named, with_chains
from service.specs.checkpoint_names import CheckpointName, exported_by, named_in, of_earlier
from service.specs.job import JobSpec, ResolvedJob, ResolvedStep
from service.specs.read import broken_rules, place_of
from service.specs.refusals import Refusal
from service.store import jobs, referred
from service.store.referred import NoCheckpoint
from service.store.session import Database

Names = tuple[str, ...]
Look = Callable[[Session, CheckpointName], Names]


class Referring:
    """Looks at one job; `written_out` is what it makes of it."""

    def __init__(self, database: Database, owner: str):
        self._database = database
        self._owner = owner
        self._found: dict[str, Names] = {}  # what is measured or exported, by the name as it came
        self._chains: dict[str, Names] = {}  # what a step begins with, by the name as it came

    def __call__(self, spec: JobSpec, resolved: ResolvedJob) -> Iterator[Refusal]:
        for index, step in enumerate(resolved.steps):
            for argument, text, name in named_in(step):
                each = partial(self._each, is_asked=step.do in ("predict", "generate"))
                yield from self._looked(spec, index, argument, text, name, self._found, each)
            for argument, name in earlier_named(step):
                yield from self._looked(spec, index, argument, str(name), name, self._chains, self._chain)
        if self._chains:
            # a model with adapters on it may not go along with what its name alone would
            yield from broken_rules(spec, self.written_out(resolved))

    def written_out(self, resolved: ResolvedJob) -> ResolvedJob:
        """With every checkpoint by its number, each once: what a name stands for may change before the job runs."""
        if not self._found and not self._chains:
            return resolved
        return resolved.model_copy(update={"steps": tuple(map(self._step, resolved.steps))})

    def _looked(
        self, spec: JobSpec, index: int, argument: str, text: str, name: CheckpointName, into: dict[str, Names], look: Look
    ) -> Iterator[Refusal]:
        if name.job_id is None:
            return  # the rules have looked at it
        try:
            with self._database.reading() as session:
                into[text] = look(session, name)
        except NoCheckpoint as error:
            yield Refusal(place_of(spec, index, argument), str(error))

    def _each(self, session: Session, name: CheckpointName, is_asked: bool) -> Names:
        return tuple(map(str, referred.found(session, self._owner, name, is_asked)))

    def _chain(self, session: Session, name: CheckpointName) -> Names:
        """Each of its links by its number, and there."""
        [numbered] = referred.found(session, self._owner, name)
        maker = jobs.resolved(jobs.get(session, self._owner, str(name.job_id)))
        links: list[str] = []
        for text in chain(maker, numbered):
            link = of_earlier(text)
            links += [text] if link is None else map(str, referred.found(session, self._owner, link))
        return tuple(links)

    def _step(self, step: ResolvedStep) -> ResolvedStep:
        if exported_by(step) is not None:
            (name,) = self._found.get(step.model.model_name_or_path, (step.model.model_name_or_path,))
            return step.model_copy(update={"model": step.model.model_copy(update={"model_name_or_path": name})})
        step = with_chains(step, self._chains) if self._chains else step
        names = [name for text in step.measures.checkpoints or () for name in self._found.get(text, (text,))]
        if not names:
            return step
        measures = step.measures.model_copy(update={"checkpoints": tuple(dict.fromkeys(names))})
        return step.model_copy(update={"measures": measures})
