"""From a request's document to a job that may be made: looked at from every side, whichever door it came through."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from fastapi import Request

from service.api.fitting import Fitting
from service.api.lately import Lately
from service.api.referring import Referring
from service.api.saving import Saving
from service.library.check import FoundWell, Roots, check
from service.library.training_files import Uploaded
from service.settings import Settings
from service.specs.job import JobSpec, ResolvedJob
from service.specs.read import read_job
from service.specs.refusals import Refusal
from service.specs.reward_api import hosts_of
from service.store import files, jobs
from service.store.references import named_in
from service.store.session import Database


class AskedBy(NamedTuple):
    """The request that a job comes from, and the trace that it is part of."""

    request_id: str | None
    trace: str | None


def asked_by(request: Request) -> AskedBy:
    return AskedBy(request.state.request_id, getattr(request.state, "trace", None))


@dataclass(frozen=True)
class Reading:
    """What every document is read with."""

    settings: Settings
    database: Database
    well: FoundWell
    lately: Lately

    def new_job(self, owner: str, document: Any, by: AskedBy) -> jobs.New:
        """Raises SpecRefused."""
        roots = self.roots(owner, document)
        fitting, referring = Fitting(self.database, roots, document, self.lately), Referring(self.database, owner)
        saving = Saving(self.database, owner)

        def look(spec: JobSpec, resolved: ResolvedJob) -> Iterator[Refusal]:
            yield from referring(spec, resolved)
            written = referring.written_out(resolved)
            yield from check(roots, spec, written, self.well)
            yield from saving(spec, written)
            yield from fitting(spec, written)

        read = read_job(document, look)
        notices = (*read.notices, *fitting.notices)
        read = replace(read, resolved=referring.written_out(read.resolved), notices=notices)
        key, lasts = self.settings.secret_key, self.settings.artifacts_ttl_seconds
        return jobs.New(owner, document, read, key, lasts, fitting.least_gpu_bytes, by.request_id, by.trace)

    def roots(self, owner: str, document: Any) -> Roots:
        """The operator's, with the files of the owner's that the document names."""
        return Roots(
            self.settings.models_root,
            self.settings.datasets_root,
            self.settings.hub,
            modelscope=self.settings.modelscope,
            secrets=self.settings.secret_key is not None,
            reward_hosts=hosts_of(self.settings.reward_hosts),
            mlflow=bool(self.settings.mlflow_url),
            uploaded=self._uploaded(owner, document),
            exports=self.settings.exports_root,
            hub_push=self.settings.hub_push,
        )

    def _uploaded(self, owner: str, document: Any) -> tuple[tuple[str, Uploaded], ...]:
        if not any(name.startswith("file-") for name in named_in(document)):
            return ()
        with self.database.reading() as session:
            found = files.named(session, owner, document)
        return tuple((name, Uploaded.of(file.entry, file.rows)) for name, file in found.items() if file.entry is not None)
