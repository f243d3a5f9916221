"""Jobs: asked for, found, steered, waited for."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal, overload

from service.clients import requests
from service.clients.answers import DryRun, Job
from service.clients.asynchronous.results import AsyncResults
from service.clients.errors import NotEnded, Problem, Unreachable
from service.clients.pace import async_sleep
from service.clients.requests import path
from service.clients.sightings import ENDED, Sighting


class AsyncJobs(AsyncResults):
    """What can be asked of jobs, beside their results."""

    @overload
    async def submit(
        self, document: dict[str, Any] | Path, dry_run: Literal[False] = False, idempotency_key: str | None = None
    ) -> Job: ...

    @overload
    async def submit(
        self, document: dict[str, Any] | Path, dry_run: Literal[True], idempotency_key: str | None = None
    ) -> DryRun: ...

    async def submit(
        self, document: dict[str, Any] | Path, dry_run: bool = False, idempotency_key: str | None = None
    ) -> Job | DryRun:
        """Asks for a job, from a document or from a JSON or YAML file, which is sent as it is.

        It always carries an Idempotency-Key: a second copy of it is answered with the job of the first. A dry run stores nothing;
        it answers how the job would run.
        """
        body, content_type = requests.body(document)
        headers = {"Content-Type": content_type, "Idempotency-Key": idempotency_key or requests.fresh_key()}
        asked: dict[str, Any] = {"content": body, "headers": headers}
        if dry_run:
            return await self._ask(DryRun, "POST", "/jobs", again=True, params={"dry_run": "true"}, **asked)
        return await self._ask(Job, "POST", "/jobs", again=True, **asked)

    def jobs(
        self, state: str | None = None, labels: dict[str, str] | None = None, page_size: int = 50, name: str | None = None
    ) -> AsyncIterator[Job]:
        """Every job, newest first; the next page is asked for when the one before is used up. `name`: what stands in theirs."""
        label = [f"{key}={value}" for key, value in (labels or {}).items()] or None
        return self._listing(Job, "/jobs", limit=page_size, state=state, label=label, name=name)

    async def job(self, job_id: str) -> Job:
        return await self._get(Job, path("jobs", job_id))

    async def job_and_etag(self, job_id: str) -> tuple[Job, str]:
        """The ETag is what `change` takes as `if_match`, so that nobody's change in between is undone."""
        response = await self._response("GET", path("jobs", job_id), again=True)
        job: Job = requests.document_of(self.base_url, response)
        return job, response.headers["etag"]

    async def change(self, job_id: str, changes: dict[str, Any], if_match: str | None = None) -> Job:
        """Another priority, name or labels, as a merge patch. `if_match`: an ETag; a job that has another is left as it is."""
        headers = {"If-Match": if_match} if if_match else {}
        return await self._ask(Job, "PATCH", path("jobs", job_id), json=changes, headers=headers)

    async def cancel(self, job_id: str) -> Job:
        return await self._post(Job, path("jobs", job_id, "cancel"))

    async def pause(self, job_id: str) -> Job:
        """The job waits until `resume`; one that runs saves a checkpoint first."""
        return await self._post(Job, path("jobs", job_id, "pause"))

    async def resume(self, job_id: str) -> Job:
        return await self._post(Job, path("jobs", job_id, "resume"))

    async def retry(self, job_id: str) -> Job:
        """A job that failed or was cancelled goes on from its last checkpoint."""
        return await self._post(Job, path("jobs", job_id, "retry"))

    async def delete(self, job_id: str) -> None:
        """Forgets a job that has ended, with all that it made."""
        await self._response("DELETE", path("jobs", job_id))

    async def watch(self, job_id: str, every: float = 0.5, patience: float | None = None) -> AsyncIterator[Sighting]:
        """Looks at a job until it has ended. A service that is away for less than `patience` seconds is waited for."""
        number, last_answer = 0, time.monotonic()
        patience = self._patience if patience is None else patience
        while True:
            try:
                job = await self.job(job_id)  # before its events: those of a job that has ended are then complete
                events = await self.events(job_id, after=number)
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
            await async_sleep(every)

    async def wait(self, job_id: str, timeout: float | None = None, every: float = 0.5) -> Job:
        """The job once it has ended, however it did: look at its `state`. Raises NotEnded after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        async for sighting in self.watch(job_id, every):
            job = sighting.job
            if job["state"] not in ENDED and deadline is not None and time.monotonic() >= deadline:
                raise NotEnded(f"{job_id} is {job['state']} still, after {timeout:g} s.")
        return job
