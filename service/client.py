"""A small Python client of Finebits.

    with Client("http://127.0.0.1:8765") as finebits:
        job = finebits.submit(Path("examples/pretrain-full.json"))
        for sighting in finebits.watch(job["id"]):
            print(sighting.job["state"], *(event["message"] for event in sighting.events))

What goes wrong is a ClientError:

ClientError
├── Unreachable              nothing answers, or what answers is not Finebits
├── Problem                  Finebits refuses, and says why
└── Corrupt                  a downloaded file is not what was stored

Reads are asked again after a lost connection or a 502, 503 or 504; so is a submission, since it always carries an
Idempotency-Key: a second copy of it is answered with the job of the first.
"""

import hashlib
import json
import os
import random
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypedDict, TypeVar, cast, overload
from urllib.parse import quote, urlsplit

import httpx2

DEFAULT_URL = "http://127.0.0.1:8765"
ENDED = frozenset({"succeeded", "failed", "cancelled"})

AGAIN = frozenset({502, 503, 504})
DELAYS = (0.2, 0.4, 0.8)  # seconds between tries

CONTENT_TYPES = {".json": "application/json", ".yaml": "application/yaml", ".yml": "application/yaml"}


Answer = TypeVar("Answer")


class ClientError(Exception):
    """Something between this client and its service went wrong; the message is for people."""


class Unreachable(ClientError):
    """Nothing answers, or what answers is not Finebits."""


class Problem(ClientError):
    """Finebits refuses. `errors` are the places in the request that are wrong, as {pointer, detail}."""

    def __init__(self, status: int, document: dict[str, Any]):
        self.status = status
        self.title = str(document.get("title") or f"HTTP {status}")
        self.detail = str(document.get("detail") or "")
        self.code = str(document.get("code") or "")
        self.request_id = str(document.get("request_id") or "")
        self.errors: list[dict[str, str]] = document.get("errors") or []
        super().__init__(self.detail or self.title)

    @property
    def is_passing(self) -> bool:
        """Whether the same request may go well in a moment."""
        return self.status in AGAIN or self.code == "idempotency_busy"


class Corrupt(ClientError):
    """A downloaded file is not what was stored."""


class Progress(TypedDict, total=False):
    """Where a running job is. A value that is not known yet is null."""

    step: str
    position: int  # of the step among `steps`, from 1
    steps: int
    global_step: int
    max_steps: int
    epoch: float
    loss: float
    tokens_per_second: float
    eta_seconds: float
    phase: str
    held: str  # why no worker takes it now


class Job(TypedDict, total=False):
    """A job as the service shows it. Times are ISO 8601."""

    id: str
    name: str | None
    labels: dict[str, str]
    state: str
    priority: int
    cancel_requested: bool
    pause_requested: bool
    not_before: str | None
    reason: str | None
    sentence: str | None
    details: dict[str, Any] | None
    progress: Progress | None
    attempt: int
    steps: list[Any]
    created_at: str
    started_at: str | None
    finished_at: str | None


class Event(TypedDict):
    """Something that happened to a job; `number` counts without gaps."""

    number: int
    at: str
    attempt: int
    kind: str
    message: str
    data: dict[str, Any]


class Value(TypedDict, total=False):
    """One measure of one checkpoint. `versus_base` is the difference to the base, paired on the same documents."""

    value: float | None
    unit: str
    on: str | None
    standard_error: float | None
    interval: list[float] | None
    interval_reason: str | None
    n_documents: int
    n_tokens: int
    estimator: str
    versus_base: dict[str, Any] | None
    versus_best: dict[str, Any] | None


class Measured(TypedDict):
    """The measures of one checkpoint, or of the base it is compared with."""

    step: str
    checkpoint: int | Literal["base"]
    of: dict[str, Any] | None  # in a step that measures, the checkpoint: job_id, step, checkpoint; or the model
    split: str
    measures: dict[str, Value]


@dataclass(frozen=True)
class Sighting:
    """A job as it is now, and the events since the sighting before."""

    job: Job
    events: list[Event]


class Client:
    """Speaks to one Finebits. `api_key` is its bearer key, where it has one."""

    def __init__(self, base_url: str = DEFAULT_URL, api_key: str | None = None, timeout: float = 30):
        self.base_url = base_url.rstrip("/")
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Unreachable(f"{base_url!r} is not an address of a service; it should look like {DEFAULT_URL}")
        self._http = httpx2.Client(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=timeout,
            trust_env=not _is_loopback(parts.hostname),  # a proxy has no way to our own loopback
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # -- jobs ----------------------------------------------------------------------------------------------------------

    @overload
    def submit(
        self, document: dict[str, Any] | Path, dry_run: Literal[False] = False, idempotency_key: str | None = None
    ) -> Job: ...

    @overload
    def submit(self, document: dict[str, Any] | Path, dry_run: bool, idempotency_key: str | None = None) -> Any: ...

    def submit(self, document: dict[str, Any] | Path, dry_run: bool = False, idempotency_key: str | None = None) -> Any:
        """Asks for a job, from a document or from a JSON or YAML file, which is sent as it is.

        A dry run stores nothing; it answers how the job would run.
        """
        body, content_type = _body(document)
        headers = {"Content-Type": content_type, "Idempotency-Key": idempotency_key or secrets.token_hex(16)}
        params = {"dry_run": "true"} if dry_run else {}
        return self._json("POST", "/jobs", again=True, content=body, headers=headers, params=params)

    def jobs(self, state: str | None = None, labels: dict[str, str] | None = None, page_size: int = 50) -> Iterator[Job]:
        """Every job, newest first; the next page is asked for when the one before is used up."""
        params: dict[str, Any] = {"limit": page_size}
        if state is not None:
            params["state"] = state
        if labels:
            params["label"] = [f"{name}={value}" for name, value in labels.items()]
        return self._listing("/jobs", params)

    def job(self, job_id: str) -> Job:
        return cast(Job, self._get(_path(job_id)))

    def cancel(self, job_id: str) -> Job:
        return cast(Job, self._json("POST", f"{_path(job_id)}/cancel"))

    def pause(self, job_id: str) -> Job:
        """The job waits until `resume`; one that runs saves a checkpoint first."""
        return cast(Job, self._json("POST", f"{_path(job_id)}/pause", again=True))

    def resume(self, job_id: str) -> Job:
        return cast(Job, self._json("POST", f"{_path(job_id)}/resume", again=True))

    def retry(self, job_id: str) -> Job:
        """A job that failed or was cancelled goes on from its last checkpoint."""
        return cast(Job, self._json("POST", f"{_path(job_id)}/retry"))

    def change(self, job_id: str, changes: dict[str, Any], if_match: str | None = None) -> Job:
        """Another priority, name or labels, as a merge patch. `if_match`: an ETag; a job that has another is left as it is."""
        headers = {"If-Match": if_match} if if_match else {}
        return cast(Job, self._json("PATCH", _path(job_id), json=changes, headers=headers))

    def delete(self, job_id: str) -> None:
        """Forgets a job that has ended, with all that it made."""
        self._response("DELETE", _path(job_id))

    def watch(self, job_id: str, every: float = 0.5, patience: float = 60) -> Iterator[Sighting]:
        """Looks at a job until it has ended. A service that is away for less than `patience` seconds is waited for."""
        number, last_answer = 0, time.monotonic()
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
            time.sleep(every)

    # -- data and models -----------------------------------------------------------------------------------------------

    def datasets(self) -> list[dict[str, Any]]:
        """The data sets there are, without their rows counted."""
        return list(self._listing("/datasets", {}))

    def dataset(self, name: str) -> dict[str, Any]:
        """One data set, with its rows counted where the service can."""
        return cast(dict[str, Any], self._get(f"/datasets/{quote(name, safe='')}"))

    def models(self) -> list[str]:
        """The names of the whole models there are."""
        return cast(list[str], self._get("/models")["data"])

    def inspect(self, dataset: str, model: str, **how: Any) -> Job:
        """A short job that looks at a data set and trains nothing. `how`: template, cutoff_len, val_size, held_out, ..."""
        body = {"model": model, **how}
        return cast(Job, self._json("POST", f"/datasets/{quote(dataset, safe='')}/inspect", json=body))

    def generate(self, job_id: str, global_step: int, step: str | None = None, **asked: Any) -> Iterator[tuple[str, Any]]:
        """(event, data) as a worker writes: started, a piece {text} for each, and done or failed. `asked`: prompt or messages,
        max_new_tokens, temperature, ... To stop reading is to stop it.
        """
        path = f"{_path(job_id)}/checkpoints/{global_step}/generate"
        try:
            with self._http.stream("POST", path, json=asked, params={"step": step} if step else {}) as response:
                if not response.is_success:
                    response.read()
                yield from _told(self._accepted(response).iter_lines())
        except httpx2.TransportError as error:
            raise self._unreachable(error) from None

    # -- what a job did ------------------------------------------------------------------------------------------------

    def events(self, job_id: str, after: int = 0) -> list[Event]:
        """The events behind number `after`, oldest first."""
        return list(self._listing(f"{_path(job_id)}/events", {"after": after}))

    def metrics(
        self, job_id: str, checkpoint: int | str | None = None, measure: str | None = None, split: str | None = None
    ) -> list[Measured]:
        """What was measured, the base first in each step."""
        params = {"checkpoint": checkpoint, "measure": measure, "split": split}
        answer = self._get(f"{_path(job_id)}/metrics", {name: value for name, value in params.items() if value is not None})
        return cast(list[Measured], answer["data"])

    def series(self, job_id: str, name: str, step: str | None = None, points: int | None = None) -> dict[str, Any]:
        """A training series as columns: {"step": [...], "value": [...]}."""
        params = {"name": name, "step": step, "points": points}
        path = f"{_path(job_id)}/metrics/series"
        return cast(dict[str, Any], self._get(path, {key: value for key, value in params.items() if value is not None}))

    def checkpoints(self, job_id: str, rank_by: str | None = None) -> list[dict[str, Any]]:
        """Oldest first, or the one to choose by a measure first."""
        return list(self._listing(f"{_path(job_id)}/checkpoints", {"rank_by": rank_by} if rank_by else {}))

    def measured_checkpoints(self, job_id: str, rank_by: str | None = None) -> list[dict[str, Any]]:
        """What the job's steps that measure took, in the order of their lists, or the one to choose by a measure first."""
        found = self._get(f"{_path(job_id)}/checkpoints", {"rank_by": rank_by} if rank_by else {})
        return list(found.get("measured", []))

    def artifacts(self, job_id: str) -> list[dict[str, Any]]:
        """The files that a job made: name, size, sha256."""
        return list(self._listing(f"{_path(job_id)}/artifacts", {}))

    def download(self, job_id: str, name: str, to: Path) -> Path:
        """Fetches a file to a path, or into a folder, and checks its SHA-256. What an earlier try had fetched is kept.

        Raises Corrupt when the bytes are not those that were stored.
        """
        target = to / Path(name).name if to.is_dir() else to
        part = target.with_name(target.name + ".part")
        sha256 = self._tried(lambda: self._fetch(f"{_path(job_id)}/artifacts/{quote(name, safe='/')}", part))
        if _sha256(part) != sha256:
            part.unlink()
            raise Corrupt(f"{name} arrived damaged (its SHA-256 is not {sha256}); the download is to be tried again.")
        part.replace(target)
        return target

    def logs(self, job_id: str) -> str:
        return self._response("GET", f"{_path(job_id)}/logs", again=True).text

    # -- workers -------------------------------------------------------------------------------------------------------

    def workers(self) -> list[dict[str, Any]]:
        """All that have reported: status, slots, what runs, last heartbeat."""
        return list(self._listing("/workers", {}))

    def worker(self, name: str) -> dict[str, Any]:
        return cast(dict[str, Any], self._get(f"/workers/{quote(name, safe='')}"))

    def drain(self, name: str, now: bool = False) -> dict[str, Any]:
        """The worker takes no new jobs; with `now` those that run save a checkpoint and go on elsewhere."""
        path = f"/workers/{quote(name, safe='')}/drain"
        return cast(dict[str, Any], self._json("POST", path, again=True, params={"now": "true"} if now else {}))

    def undrain(self, name: str) -> dict[str, Any]:
        return cast(dict[str, Any], self._json("POST", f"/workers/{quote(name, safe='')}/undrain", again=True))

    # -- the service ---------------------------------------------------------------------------------------------------

    def measures(self) -> list[dict[str, Any]]:
        """The catalogue of measures: names, units, definitions, sources."""
        return list(self._listing("/measures", {}))

    def is_ready(self) -> bool:
        """Whether the service can take jobs now; False also when it does not answer."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    # -- requests ------------------------------------------------------------------------------------------------------

    def _listing(self, path: str, params: dict[str, Any]) -> Iterator[Any]:
        """A list's items, page after page."""
        while True:
            page = self._get(path, params)
            yield from page["data"]
            if not page.get("has_more") or not page["data"]:
                return
            params = {**params, "after": page["next_after"] if "next_after" in page else page["data"][-1]["id"]}

    def _get(self, path: str, params: dict[str, Any] | None = None) -> Any:
        return self._json("GET", path, again=True, params=params or {})

    def _json(self, method: str, path: str, again: bool = False, **request: Any) -> Any:
        response = self._response(method, path, again, **request)
        try:
            return response.json()
        except ValueError:
            raise Unreachable(f"What answers at {self.base_url} is not Finebits: it sent something other than JSON.") from None

    def _response(self, method: str, path: str, again: bool = False, **request: Any) -> httpx2.Response:
        """The answer, when it is a good one. `again`: the request may safely arrive twice."""
        return self._tried(lambda: self._accepted(self._http.request(method, path, **request)), again)

    def _tried(self, ask: Callable[[], Answer], again: bool = True) -> Answer:
        """What `ask` returns; it is asked again after a lost connection, or by a service that is away for a moment."""
        for delay in DELAYS if again else ():
            try:
                return ask()
            except httpx2.TransportError:
                pass
            except Problem as problem:
                if not problem.is_passing:
                    raise
            time.sleep(delay * random.uniform(0.5, 1.5))
        try:
            return ask()
        except httpx2.TransportError as error:
            raise self._unreachable(error) from None

    def _fetch(self, path: str, part: Path) -> str:
        """Brings `part` to the file's end, going on from the bytes it has; the SHA-256 that the service names."""
        present = part.stat().st_size if part.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={present}-"} if present else {})
        with self._http.stream("GET", path, headers=headers) as response:
            if response.status_code == 416 and present:  # what is here is not the beginning of that file
                part.unlink()
                return self._fetch(path, part)
            if not response.is_success:
                response.read()
            self._accepted(response)
            with part.open("ab" if response.status_code == 206 else "wb") as file:
                for chunk in response.iter_bytes():
                    file.write(chunk)
            return _etag(response)

    def _accepted(self, response: httpx2.Response) -> httpx2.Response:
        if response.is_success:
            return response
        if response.headers.get("content-type", "").startswith("application/problem+json"):
            raise Problem(response.status_code, response.json())
        detail = f"{self.base_url} answered {response.status_code}, and not as Finebits does. Is something else there?"
        raise Problem(response.status_code, {"detail": detail})

    def _unreachable(self, error: Exception) -> Unreachable:
        if isinstance(error, httpx2.ConnectError):
            return Unreachable(f"No Finebits answers at {self.base_url}; start one with `make up`.")
        if isinstance(error, httpx2.TimeoutException):
            return Unreachable(f"Finebits at {self.base_url} took too long to answer.")
        return Unreachable(f"The connection to {self.base_url} broke ({error}).")


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _body(document: dict[str, Any] | Path) -> tuple[bytes, str]:
    if not isinstance(document, Path):
        return json.dumps(document).encode(), "application/json"
    content_type = CONTENT_TYPES.get(document.suffix.lower())
    if content_type is None:
        raise ClientError(f"{document} is neither a .json nor a .yaml file.")
    try:
        return document.read_bytes(), content_type
    except OSError as error:
        raise ClientError(f"{document} cannot be read: {os.strerror(error.errno or 0)}.") from None


def _path(job_id: str) -> str:
    return f"/jobs/{quote(job_id, safe='')}"


def _told(lines: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """(event, data) of server-sent events, which an empty line ends; a line that begins with a colon is a sign of life."""
    event: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if name:
            event[name] = value.removeprefix(" ")
        elif not line and "data" in event:
            yield event.get("event", "message"), json.loads(event["data"])
            event = {}


def _etag(response: httpx2.Response) -> str:
    return str(response.headers.get("etag", "")).removeprefix("W/").strip('"')


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
