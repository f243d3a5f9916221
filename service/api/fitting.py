"""Whether a job could ever begin, from what workers have reported: said when it comes, not by an endless wait."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from service.api.lately import Lately
from service.library import memory, remedies
from service.library.check import Roots
from service.library.errors import LibraryError
from service.library.memory import Memory
from service.library.remedies import WrittenOut
from service.library.space import told
from service.specs import extras, flat
from service.specs.job import JobSpec, ResolvedJob
from service.specs.ledger import Notice
from service.specs.read import place_of
from service.specs.refusals import Place, Refusal
from service.specs.resources import moment
from service.store import room
from service.store.clock import now
from service.store.need import need_of
from service.store.room import Room
from service.store.session import Database

PLACE = ("resources", "gpus")


class Fitting:
    """Looks at one job. What it learns of it besides is there when it has looked: `least_gpu_bytes`, and `notices`."""

    def __init__(
        self,
        database: Database,
        roots: Roots,
        document: Any,
        lately: Lately | None = None,
        written_out: WrittenOut = lambda resolved: resolved,
    ):
        self._database = database
        self._lately = lately or Lately()
        self._roots = roots
        self._written_out = written_out
        self._is_flat = isinstance(document, dict) and flat.is_flat(document)
        self.least_gpu_bytes = 0
        self.notices: list[Notice] = []

    def __call__(self, spec: JobSpec, resolved: ResolvedJob) -> Iterator[Refusal]:
        """Refuses what fits nowhere. Of a job that asks for GPUs where no worker has reported yet, a notice says so instead."""
        yield from self._in_time(spec)
        refusals = list(self._refusals(spec, resolved, self._room(spec.resources.queue)))
        if refusals:  # never of what was so a moment ago: the worker that it fits may have come since
            self.notices.clear()
            refusals = list(self._refusals(spec, resolved, self._room(spec.resources.queue, anew=True)))
        yield from refusals

    def _refusals(self, spec: JobSpec, resolved: ResolvedJob, known: Room) -> Iterator[Refusal]:
        yield from self._extras(spec, resolved, known)
        need = need_of(spec.resources)
        if not known.gpus:
            nobody = f"No worker of queue {spec.resources.queue} has reported yet"
            if known.elsewhere:
                self._notice(f"{nobody}; there are workers of {', '.join(known.elsewhere)}.", ("resources", "queue"))
            elif need.gpus > 0:
                self._notice(f"{nobody}: whether one has a GPU is not known.")
            return
        if lack := known.lacks(need):
            yield Refusal(PLACE, lack)
        elif known.most_gpus and need.gpus != 0:
            yield from self._memory(known, spec, resolved, max(need.gpus, 1))

    def _extras(self, spec: JobSpec, resolved: ResolvedJob, known: Room) -> Iterator[Refusal]:
        """Of what a worker may have installed or not."""
        queue, all_of_it = spec.resources.queue, extras.of_job(resolved)
        place: Place = PLACE
        for index, step in enumerate(resolved.steps):
            for argument, extra in extras.needed(step):
                place, lacking = place_of(spec, index, argument), known.without(extra)
                how = extras.how_to_have(extra)
                if not known.gpus:
                    self._notice(f"No worker of queue {queue} has reported yet: whether one has {extra} is not known.", place)
                elif len(lacking) == len(known.gpus):
                    yield Refusal(place, f"No worker of queue {queue} has the extra {extra}, which this needs: {how}.")
                elif lacking:
                    fate = "The job waits for another of its workers."
                    self._notice(f"Of queue {queue}, {', '.join(lacking)} are without the extra {extra}. {fate}", place)
        apart = known.gpus and len(all_of_it) > 1 and not known.could_have(all_of_it)
        if apart and all(len(known.without(extra)) < len(known.gpus) for extra in all_of_it):
            together = " and ".join(all_of_it)
            yield Refusal(place, f"No worker of queue {queue} has {together} together, and one worker does the whole of a job.")

    def _in_time(self, spec: JobSpec) -> Iterator[Refusal]:
        """By the database's clock, which will end it."""
        deadline = spec.resources.deadline
        if deadline is None:
            return
        with self._database.reading() as session:
            at = session.scalar(select(now())) or 0.0
        if moment(deadline) <= at:
            told = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            yield Refusal(
                ("resources", "deadline"), f"It has passed: {deadline} is before now, {told}. Give a later one, or none."
            )

    def _room(self, queue: str, anew: bool = False) -> Room:
        def find_out() -> Room:
            with self._database.reading() as session:
                return room.of_queue(session, queue)

        known: Room = self._lately.of(("room", queue), find_out, anew)
        return known

    def _memory(self, known: Room, spec: JobSpec, resolved: ResolvedJob, n_gpus: int) -> Iterator[Refusal]:
        largest = known.largest_bytes(n_gpus)
        if largest is None:
            return
        has_cpus_alone = resolved.resources.gpus is None and not all(known.gpus.values())
        part = resolved.resources.gpu_memory_fraction
        available = int(largest * part)
        there = f"{'the largest has' if part == 1 else f'{part:g} of the largest is'} {told(available)}"
        try:
            of = ("memory", self._roots, resolved.steps, n_gpus)
            estimates = self._lately.of(of, lambda: memory.of_job(self._roots, resolved))
        except (LibraryError, OSError):
            return  # what is wrong with its files is said by `check`
        for step in resolved.steps:
            estimate = estimates[step.name]
            if not isinstance(estimate, Memory):
                continue
            self.least_gpu_bytes = max(self.least_gpu_bytes, estimate.least)
            if estimate.peak <= available:
                continue
            remedy = self._remedy(spec, step.name, largest)
            if estimate.least > available and not has_cpus_alone:
                yield Refusal(PLACE, f"{_too_large(step.name, estimate)}, and {there}. {remedy}")
            else:
                self._notice(f"{_may_be_too_large(step.name, estimate)}, and {there}. {remedy}")

    def _notice(self, sentence: str, place: Place = PLACE) -> None:
        self.notices.append(Notice(place[-1:] if self._is_flat else place, sentence))

    def _remedy(self, spec: JobSpec, name: str, largest: int) -> str:
        changes = remedies.changes_that_fit(self._roots, spec, name, largest, self._written_out)
        if not changes:
            return "No change of its arguments would make it fit: it needs a larger GPU, or a smaller model."
        return f"It would fit with {_listed(changes)}."


def _too_large(name: str, estimate: Memory) -> str:
    parts = f"weights {told(estimate.weights)}, gradients {told(estimate.gradients)}, optimiser {told(estimate.optimiser)}"
    if estimate.beside:
        parts += f", the models beside it {told(estimate.beside)}"
    return f"Step {name} needs at least {told(estimate.least)} of a GPU ({parts})"


def _may_be_too_large(name: str, estimate: Memory) -> str:
    return f"Step {name} may need {told(estimate.peak)} of a GPU with texts of cutoff_len tokens"


def _listed(changes: list[str]) -> str:
    return " and ".join([", ".join(changes[:-1]), changes[-1]] if changes[:-1] else changes)
