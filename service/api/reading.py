"""From a request's document to a job that may be made: looked at from every side, whichever door it came through."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from service.api.fitting import Fitting
from service.api.lately import Lately
from service.api.naming import Naming
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
from service.store.audit import Trace
from service.store.references import named_in
from service.store.session import Database


@dataclass(frozen=True)
class Reading:
    """What every document is read with."""

    settings: Settings
    database: Database
    well: FoundWell
    lately: Lately
    trace: Trace | None = None  # who asks, for the audit log

    def new_job(self, owner: str, document: Any, traceparent: str | None = None) -> jobs.New:
        """The request's span, as W3C writes it, is what the job's own go on from. Raises SpecRefused."""
        roots = self.roots(owner, document)
        referring, saving = Referring(self.database, owner), Saving(self.database, owner)
        naming = Naming(self.database, owner, self.settings.datasets_root, self.lately)

        def written_out(resolved: ResolvedJob) -> ResolvedJob:
            return naming.written_out(referring.written_out(resolved))

        fitting = Fitting(self.database, roots, document, self.lately, written_out)

        def look(spec: JobSpec, resolved: ResolvedJob) -> Iterator[Refusal]:
            yield from referring(spec, resolved)
            written = written_out(resolved)
            yield from check(with_uploaded(roots, naming), spec, written, self.well)
            yield from saving(spec, written)
            yield from fitting(spec, written)

        read = read_job(document, look)
        notices = (*read.notices, *naming.notices, *fitting.notices)
        read = replace(read, resolved=written_out(read.resolved), notices=notices)
        return jobs.New(
            owner,
            document,
            read,
            self.settings.secret_key,
            self.settings.artifacts_ttl_seconds,
            fitting.least_gpu_bytes,
            self.trace,
            traceparent,
            self.settings.quota,
        )

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
            written=(self.settings.artifacts_root, self.settings.exports_root, self.settings.cache_root),
        )

    def _uploaded(self, owner: str, document: Any) -> tuple[tuple[str, Uploaded], ...]:
        if not any(name.startswith("file-") for name in named_in(document)):
            return ()
        with self.database.reading() as session:
            found = files.named(session, owner, document)
        return tuple((name, Uploaded.of(file.entry, file.rows)) for name, file in found.items() if file.entry is not None)


def with_uploaded(roots: Roots, naming: Naming) -> Roots:
    """With the data sets that the job names."""
    return replace(roots, uploaded=(*roots.uploaded, *naming.uploaded)) if naming.uploaded else roots
