"""Checkpoints of earlier jobs that a job names, to measure them or to begin with: looked up when it comes, and written out by
their numbers in what will run."""

from collections.abc import Iterator

from sqlalchemy.orm import Session

from service.specs.beginnings import chain, earlier_named, with_chains
from service.specs.checkpoint_names import CheckpointName, of_earlier
from service.specs.job import JobSpec, ResolvedJob, ResolvedStep
from service.specs.read import broken_rules, place_of
from service.specs.refusals import Refusal
from service.store import jobs, referred
from service.store.referred import NoCheckpoint
from service.store.session import Database


class Referring:
    """Looks at one job; `written_out` is what it makes of it."""

    def __init__(self, database: Database, owner: str):
        self._database = database
        self._owner = owner
        self._found: dict[str, tuple[str, ...]] = {}  # what is measured, by the name as it came
        self._chains: dict[str, tuple[str, ...]] = {}  # what a step begins with, by the name as it came

    def __call__(self, spec: JobSpec, resolved: ResolvedJob) -> Iterator[Refusal]:
        for index, step in enumerate(resolved.steps):
            for argument, text in _named(step):
                try:
                    self._look(argument, text)
                except NoCheckpoint as error:
                    yield Refusal(place_of(spec, index, argument), str(error))
        if self._chains:
            # a model with adapters on it may not go along with what its name alone would
            yield from broken_rules(spec, self.written_out(resolved))

    def written_out(self, resolved: ResolvedJob) -> ResolvedJob:
        """With every checkpoint by its number, each once: what a name stands for may change before the job runs."""
        if not self._found and not self._chains:
            return resolved
        return resolved.model_copy(update={"steps": tuple(map(self._step, resolved.steps))})

    def _look(self, argument: str, text: str) -> None:
        name = CheckpointName.read(text)
        if name is None or name.job_id is None:
            return  # the rules have looked at it
        with self._database.reading() as session:
            if argument.startswith("measures."):
                self._found[text] = tuple(map(str, referred.found(session, self._owner, name)))
            else:
                self._chains[text] = self._chain(session, name)

    def _chain(self, session: Session, name: CheckpointName) -> tuple[str, ...]:
        """Each of its links by its number, and there."""
        [numbered] = referred.found(session, self._owner, name)
        maker = jobs.resolved(jobs.get(session, self._owner, str(name.job_id)))
        links: list[str] = []
        for text in chain(maker, numbered):
            link = of_earlier(text)
            links += [text] if link is None else map(str, referred.found(session, self._owner, link))
        return tuple(links)

    def _step(self, step: ResolvedStep) -> ResolvedStep:
        step = with_chains(step, self._chains) if self._chains else step
        names = [name for text in step.measures.checkpoints or () for name in self._found.get(text, (text,))]
        if not names:
            return step
        measures = step.measures.model_copy(update={"checkpoints": tuple(dict.fromkeys(names))})
        return step.model_copy(update={"measures": measures})


def _named(step: ResolvedStep) -> Iterator[tuple[str, str]]:
    for place, text in enumerate(step.measures.checkpoints or ()):
        yield f"measures.checkpoints.{place}", text
    yield from ((argument, str(name)) for argument, name in earlier_named(step))
