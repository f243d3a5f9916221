# Written from service/clients/asynchronous/jobs.py by `python -m docs.generate_client`; do not edit it here.
"""Jobs: asked for, found, steered, waited for."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, overload

from service.clients import requests
from service.clients.answers import DryRun, Job
from service.clients.errors import NotEnded, Problem, Unreachable
from service.clients.pace import sleep
from service.clients.requests import path
from service.clients.sightings import ENDED, Sighting
from service.clients.synchronous.results import Results


class Jobs(Results):
    """What can be asked of jobs, beside their results."""

    @overload
    def submit(
        self, document: dict[str, Any] | Path, dry_run: Literal[False] = False, idempotency_key: str | None = None
    ) -> Job: ...

    @overload
    def submit(self, document: dict[str, Any] | Path, dry_run: Literal[True], idempotency_key: str | None = None) -> DryRun: ...

    def submit(self, document: dict[str, Any] | Path, dry_run: bool = False, idempotency_key: str | None = None) -> Job | DryRun:
        """Asks for a job, from a document or from a JSON or YAML file, which is sent as it is.

        It always carries an Idempotency-Key: a second copy of it is answered with the job of the first. A dry run stores nothing;
        it answers how the job would run.
        """
        body, content_type = requests.body(document)
        headers = {"Content-Type": content_type, "Idempotency-Key": idempotency_key or requests.fresh_key()}
        asked: dict[str, Any] = {"content": body, "headers": headers}
        if dry_run:
            return self._ask(DryRun, "POST", "/jobs", again=True, params={"dry_run": "true"}, **asked)
        return self._ask(Job, "POST", "/jobs", again=True, **asked)

    def jobs(
        self, state: str | None = None, labels: dict[str, str] | None = None, page_size: int = 50, name: str | None = None
    ) -> Iterator[Job]:
        """Every job, newest first; the next page is asked for when the one before is used up. `name`: what stands in theirs."""
        label = [f"{key}={value}" for key, value in (labels or {}).items()] or None
        return self._listing(Job, "/jobs", limit=page_size, state=state, label=label, name=name)

    def job(self, job_id: str) -> Job:
        return self._get(Job, path("jobs", job_id))

    def job_and_etag(self, job_id: str) -> tuple[Job, str]:
        """The ETag is what `change` takes as `if_match`, so that nobody's change in between is undone."""
        response = self._response("GET", path("jobs", job_id), again=True)
        job: Job = requests.document_of(self.base_url, response)
        return job, response.headers["etag"]

    def change(self, job_id: str, changes: dict[str, Any], if_match: str | None = None) -> Job:
        """Another priority, name or labels, as a merge patch. `if_match`: an ETag; a job that has another is left as it is."""
        headers = {"If-Match": if_match} if if_match else {}
        return self._ask(Job, "PATCH", path("jobs", job_id), json=changes, headers=headers)

    def cancel(self, job_id: str) -> Job:
        return self._post(Job, path("jobs", job_id, "cancel"))

    def pause(self, job_id: str) -> Job:
        """The job waits until `resume`; one that runs saves a checkpoint first."""
        return self._post(Job, path("jobs", job_id, "pause"))

    def resume(self, job_id: str) -> Job:
        return self._post(Job, path("jobs", job_id, "resume"))

    def retry(self, job_id: str) -> Job:
        """A job that failed or was cancelled goes on from its last checkpoint."""
        return self._post(Job, path("jobs", job_id, "retry"))

    def delete(self, job_id: str) -> None:
        """Forgets a job that has ended, with all that it made."""
        self._response("DELETE", path("jobs", job_id))

    def watch(self, job_id: str, every: float = 0.5, patience: float | None = None) -> Iterator[Sighting]:
        """Looks at a job until it has ended. A service that is away for less than `patience` seconds is waited for."""
        number, last_answer = 0, time.monotonic()
        patience = self._patience if patience is None else patience
        while True:
            try:
                job = self.job(job_id)  # before its events: those of a job that has ended are then complete
                events = self.events(job_id, after=number)
            except (Unreachable, Problem) as error:
                is_passing = isinstance(error, Unreachable) or error.is_passing
                if not is_passing or time.monotonic() - last_answer > patience:
                    raise
            else:
                last_answer = time.monotonic()
                number = events[-1]["number"] if events else number
                yield Sighting(job, events)
                if job["state"] in ENDED:
                    return
            sleep(every)

    def wait(self, job_id: str, timeout: float | None = None, every: float = 0.5) -> Job:
        """The job once it has ended, however it did: look at its `state`. Raises NotEnded after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for sighting in self.watch(job_id, every):
            job = sighting.job
            if job["state"] not in ENDED and deadline is not None and time.monotonic() >= deadline:
                raise NotEnded(f"{job_id} is {job['state']} still, after {timeout:g} s.")
        return job
