"""Folders of results that a job names: one that another job has filled is not taken again."""

from collections.abc import Iterator

from service.specs.job import JobSpec, ResolvedJob
from service.specs.read import place_of
from service.specs.refusals import Refusal
from service.store import artifacts
from service.store.session import Database


class Saving:
    """Looks at one job. A retry is not looked at: it goes on in its own folder."""

    def __init__(self, database: Database, owner: str):
        self._database = database
        self._owner = owner

    def __call__(self, spec: JobSpec, resolved: ResolvedJob) -> Iterator[Refusal]:
        for index, step in enumerate(resolved.steps):
            save_dir = step.evaluation.save_dir
            if step.do != "evaluate" or save_dir is None:
                continue
            with self._database.reading() as session:
                other = artifacts.saved_by(session, self._owner, f"{save_dir}/results.json")
            if other is not None:
                why = f"There are results in {save_dir!r} already, of the job {other}: give another name."
                yield Refusal(place_of(spec, index, "evaluation.save_dir"), why)
