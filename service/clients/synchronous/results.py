# Written from service/clients/asynchronous/results.py by `python -m docs.generate_client`; do not edit it here.
"""What a job did and made: events, logs, measures, series, checkpoints, files, and what a checkpoint writes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from service.clients.answers import (
    Artifact,
    Checkpoint,
    CheckpointList,
    Event,
    FrontPoint,
    Grown,
    LogLines,
    Measured,
    MetricsView,
    Series,
    SeriesNames,
    ShownStep,
    StepSeries,
    Surprisal,
    Versus,
)
from service.clients.requests import path
from service.clients.synchronous.connection import Connection


class Results(Connection):
    """What can be read of a job."""

    def events(self, job_id: str, after: int = 0) -> list[Event]:
        """The events behind number `after`, oldest first."""
        return self._all(Event, path("jobs", job_id, "events"), after=after)

    def follow_events(self, job_id: str, after: int = 0) -> Iterator[Event]:
        """Each event behind number `after` once and in order, as it happens, until the job has ended."""
        for told in self._follow(path("jobs", job_id, "events", "stream"), after=after):
            event: Event = told.data
            yield event

    def logs(self, job_id: str, attempt: int | None = None, tail: int | None = None) -> str:
        """What the training process of an attempt wrote: of the last, if none is named. `tail`: only so many lines of the end."""
        params = {name: value for name, value in {"attempt": attempt, "tail": tail}.items() if value is not None}
        response = self._response("GET", path("jobs", job_id, "logs"), again=True, params=params)
        return response.text

    def follow_logs(self, job_id: str, attempt: int | None = None) -> Iterator[LogLines]:
        """Whole lines as they are written, one attempt after the other, until the job has ended."""
        for told in self._follow(path("jobs", job_id, "logs", "stream"), attempt=attempt):
            lines: LogLines = told.data
            yield lines

    def metrics(
        self,
        job_id: str,
        checkpoint: int | str | None = None,
        measure: str | None = None,
        split: str | None = None,
        step: str | None = None,
    ) -> list[Measured]:
        """What was measured, the base first in each step."""
        asked = {"step": step, "checkpoint": checkpoint, "measure": measure, "split": split}
        return (self._get(MetricsView, path("jobs", job_id, "metrics"), **asked))["data"]

    def series(
        self,
        job_id: str,
        name: str,
        step: str | None = None,
        points: int | None = None,
        from_step: int | None = None,
        to_step: int | None = None,
    ) -> Series:
        """A training series as columns: {"step": [...], "value": [...]}."""
        asked = {"name": name, "step": step, "points": points, "from_step": from_step, "to_step": to_step}
        return self._get(Series, path("jobs", job_id, "metrics", "series"), **asked)

    def series_names(self, job_id: str) -> list[StepSeries]:
        """The series there are, of each step."""
        return (self._get(SeriesNames, path("jobs", job_id, "metrics", "series")))["data"]

    def follow_series(self, job_id: str, step: str | None = None, after: int | None = None) -> Iterator[Grown]:
        """The points of all of a step's series, each once, as they are written, until the job has ended. `after`: an update."""
        for told in self._follow(path("jobs", job_id, "metrics", "series", "stream"), step=step, after=after):
            grown: Grown = told.data
            yield grown

    def surprisal(self, job_id: str, step: str | None = None) -> list[ShownStep]:
        """What each token of the first few measured texts costs in bits, by the base and by every checkpoint."""
        return (self._get(Surprisal, path("jobs", job_id, "surprisal"), step=step))["data"]

    def versus(
        self,
        job_id: str,
        other_id: str,
        step: str | None = None,
        other_step: str | None = None,
        checkpoint: int | None = None,
        other_checkpoint: int | None = None,
    ) -> Versus:
        """How far one job's last checkpoint, or the one named, is from another's, paired by document where both had the same."""
        asked = {"step": step, "other_step": other_step, "checkpoint": checkpoint, "other_checkpoint": other_checkpoint}
        return self._get(Versus, path("jobs", job_id, "versus", other_id), **asked)

    def checkpoints(self, job_id: str, rank_by: str | None = None) -> list[Checkpoint]:
        """Oldest first, or the one to choose by a measure first."""
        return self._all(Checkpoint, path("jobs", job_id, "checkpoints"), rank_by=rank_by)

    def measured_checkpoints(self, job_id: str, rank_by: str | None = None) -> list[dict[str, Any]]:
        """What the job's steps that measure took, in the order of their lists, or the one to choose by a measure first."""
        listed = self._get(CheckpointList, path("jobs", job_id, "checkpoints"), rank_by=rank_by)
        return listed.get("measured", [])  # a service before these steps were listed says none

    def front(self, job_id: str) -> list[FrontPoint]:
        """The checkpoints beside which no other of their step gains as much with as little drift."""
        return (self._get(CheckpointList, path("jobs", job_id, "checkpoints")))["front"]

    def generate(self, job_id: str, global_step: int, step: str | None = None, **asked: Any) -> Iterator[tuple[str, Any]]:
        """(event, data) as a worker writes: started, a piece {text} for each, and done or failed. `asked`: prompt or messages,
        max_new_tokens, temperature, ... To stop reading is to stop it.
        """
        for told in self._posted_stream(path("jobs", job_id, "checkpoints", global_step, "generate"), asked, step=step):
            yield told.event, told.data

    def artifacts(self, job_id: str) -> list[Artifact]:
        """The files that a job made: name, size, sha256."""
        return self._all(Artifact, path("jobs", job_id, "artifacts"))

    def download(self, job_id: str, name: str, to: Path) -> Path:
        """Fetches a file to a path, or into a folder, and checks its SHA-256. What an earlier try had fetched is kept.

        Raises Corrupt where the bytes are not those that were stored.
        """
        return self._download(_artifact(job_id, name), name, to)

    def read(self, job_id: str, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes of a file from `start` to before `stop`: a part of a large one without the rest."""
        headers = {"Accept-Encoding": "identity", "Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
        response = self._response("GET", _artifact(job_id, name), again=True, headers=headers)
        return response.content


def _artifact(job_id: str, name: str) -> str:
    return f"{path('jobs', job_id, 'artifacts')}/{quote(name, safe='/')}"
