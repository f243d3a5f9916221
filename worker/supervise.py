"""The child's keeper: claims a job, starts a child for it, and writes what the child says behind the fence.

One short transaction at a time: renew the lease (which is the fence), then whatever the child has said since. A lease that is
lost means that another worker may have the job: the child is killed and nothing more is written.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from service import log
from service.library import space
from service.library.check import Roots
from service.library.errors import LibraryError
from service.library.space import StepSpace
from service.library.training_files import Uploaded
from service.specs.job import ResolvedJob
from service.specs.reasons import Reason
from service.storage.opening import open_storage
from service.storage.storage import Storage
from service.store import (
    alerts,
    artifacts,
    checkpoints,
    counters,
    events,
    files,
    generations,
    jobs,
    leases,
    metrics,
    referred,
    retention,
    scheduling,
    steps,
    tokens,
    turns,
)
from service.store.counters import Tally
from service.store.errors import LeaseLost
from service.store.leases import Claim, Wish
from service.store.scheduling import Placement
from service.store.session import Database
from service.store.workers import Identity
from service.tracing import OFF, Tracing
from worker import warm
from worker.deliveries import MOST_WAITING
from worker.disk import Disk
from worker.log_copies import LogCopies
from worker.post_mortem import post_mortem
from worker.settings import WorkerSettings, is_stand_in
from worker.warm import Child, NotStarted
from worker.work import Work

logger = logging.getLogger(__name__)

# Jobs that one look passes over, because there is no room for what they would write or another worker was first.
MOST_PASSED = 100


@dataclass
class _Attempt:
    """What the supervisor knows of the attempt that it keeps."""

    held: Claim
    child: Child
    lease_ends: float  # by this host's monotonic clock, counted from before the renewal was sent
    kept: dict[str, tuple[int | None, int | None]] = field(default_factory=dict)  # by step: newest and best checkpoints
    unwritten: list[dict[str, Any]] = field(default_factory=list)
    unsure: tuple[float, int] | None = None  # the lease before a commit that may have no answer, and how many messages it has
    outcome: dict[str, Any] | None = None
    renewed_at: float = 0.0
    asked_to_stop_at: float | None = None
    pipe_is_open: bool = True
    log: LogCopies | None = None  # where the artifact store is elsewhere

    def forget_written(self) -> None:
        """What was said so far is committed, and known to be."""
        self.unwritten.clear()
        self.unsure = None


def run_next(
    database: Database,
    settings: WorkerSettings,
    disk: Disk,
    me: Identity,
    is_stopping: Callable[[], bool],
    begun: Callable[[], None] = lambda: None,
    traces: Tracing = OFF,
) -> bool:
    """Claims the best ready job that there is room for and keeps its attempt to the end. False when there was nothing to do.

    `begun` is called once its child is at work. Raises WorkerReplaced.
    """
    with disk.turn:
        claimed = _claim(database, settings, disk, me)
    if claimed is None:
        return False
    held, work, asked_at = claimed
    which = {"job": held.job_id, "attempt": held.attempt}
    try:
        with (
            log.about(**which, request_id=work.request_id),
            traces.span("attempt", work.trace, **which, worker=held.worker) as span,
        ):
            _attempt(database, settings, held, replace(work, trace=span.trace), asked_at, is_stopping, begun)
    finally:
        disk.done(held.job_id)
    return True


def _attempt(
    database: Database,
    settings: WorkerSettings,
    held: Claim,
    work: Work,
    asked_at: float,
    is_stopping: Callable[[], bool],
    begun: Callable[[], None],
) -> None:
    logger.info("attempt %d of %s began", held.attempt, held.job_id)
    try:
        child = warm.start(work.to_document())
    except NotStarted as error:
        return _write_not_started(database, settings, held, str(error))
    attempt = _Attempt(held, child, asked_at + settings.lease_seconds, _kept(work.resolved))
    attempt.log = _log_copies(settings, work)
    begun()
    try:
        _keep(database, settings, attempt, is_stopping)
    finally:
        attempt.child.kill()
        attempt.child.wait(5)
        attempt.child.close()
        if attempt.log is not None:
            attempt.log.finish(0)


def _write_not_started(database: Database, settings: WorkerSettings, held: Claim, why: str) -> None:
    try:
        with database.transaction() as session:
            leases.lose(session, held, Reason.KILLED, why, settings.retry_seconds)
    except LeaseLost:
        _count_fenced(database)


def _kept(resolved: ResolvedJob) -> dict[str, tuple[int | None, int | None]]:
    """Of what is predicted so far the newest has all."""
    return {
        step.name: (1, None) if step.do == "predict" else (step.training.save_total_limit, step.training.keep_best)
        for step in resolved.steps
    }


def _log_copies(settings: WorkerSettings, work: Work) -> LogCopies | None:
    if not settings.artifacts_url:
        return None
    storage = _storage(settings.artifacts_root, settings.artifacts_url, settings.s3_endpoint)
    copies = LogCopies(storage, settings.artifacts_root, work.folder, settings.log_seconds, settings.store_patience_seconds)
    copies.start()
    return copies


@cache
def _storage(root: Path, url: str, s3_endpoint: str) -> Storage:
    """One client for all attempts."""
    return open_storage(root, url, s3_endpoint)


def _claim(database: Database, settings: WorkerSettings, disk: Disk, me: Identity) -> tuple[Claim, Work, float] | None:
    """The first that fits, with its slots taken and its room promised, and when it was asked for.

    A job that there is no room for is held with the reason, and looked at again when the sweep rings for it.
    """
    passed: list[str] = []
    while len(passed) < MOST_PASSED:
        with turns.turn(database, settings.queue_names):
            found = _look(database, settings, me, passed)
            if found is None:
                return None
            claimed = _claim_it(database, settings, disk, me, *found)
        if claimed is not None:
            return claimed
        passed.append(found[0])
    return None


def _look(
    database: Database, settings: WorkerSettings, me: Identity, passed: list[str]
) -> tuple[str, dict[str, StepSpace]] | None:
    """The job to take, and what it has still to write."""
    with database.reading() as session:
        job_id = scheduling.best(session, me, passed, settings.quota)
        return None if job_id is None else (job_id, _still_to_write(session, settings, job_id))


def _claim_it(
    database: Database, settings: WorkerSettings, disk: Disk, me: Identity, job_id: str, needed: dict[str, StepSpace]
) -> tuple[Claim, Work, float] | None:
    """None where there is no room for it, or it is another's by now."""
    lack = disk.lack(needed)
    asked_at = time.monotonic()
    with database.transaction() as session:
        if lack is not None:
            leases.hold(session, job_id, settings.name, lack)
            return None
        placed = scheduling.claim(session, me, settings.lease_seconds, job_id, settings.quota)
        if placed is None:
            return None
        work = _work(session, settings, placed, needed)
    disk.promise(job_id, work.folder, needed)
    return placed.held, work, asked_at


def _still_to_write(session: Session, settings: WorkerSettings, job_id: str) -> dict[str, StepSpace]:
    """By step. Nothing where that cannot be known: what is wrong with the job's files is for its attempt to say."""
    document = jobs.resolved_document(session, job_id)
    resolved = ResolvedJob.model_validate_json(orjson.dumps(document))
    done = [step.name for step in steps.of_job(session, job_id)]
    n_saved = Counter(checkpoint.step for checkpoint in checkpoints.of_job(session, job_id))
    try:
        uploaded = [(name, Uploaded.of(file["entry"], file["rows"])) for name, file in _files(session, job_id, document).items()]
        roots = Roots(settings.models_root, settings.datasets_root, settings.hub, settings.modelscope, uploaded=tuple(uploaded))
        needed = space.still_to_write(roots, resolved, done, n_saved)
    except (LibraryError, OSError):
        return {}
    if not settings.artifacts_url:
        return needed
    # of what is sent elsewhere only the newest stays, beside those that wait
    return {name: replace(step, n_checkpoints=min(step.n_checkpoints, MOST_WAITING + 2)) for name, step in needed.items()}


def _work(session: Session, settings: WorkerSettings, placed: Placement, needed: dict[str, StepSpace] | None = None) -> Work:
    """All that the child needs, read in the transaction that claimed the job."""
    held = placed.held
    [job] = jobs.of_ids(session, [held.job_id])
    document = job.resolved
    measured: dict[str, list[dict[str, Any]]] = {}
    evaluates = {step["name"] for step in document["steps"] if step.get("do") == "evaluate"}
    for row in metrics.measurements(session, held.job_id):
        is_base = row.global_step == metrics.BASE
        if is_base and row.step not in evaluates:
            continue  # every attempt measures its base anew: it needs more of it than its sums
        kept = {"global_step": None if is_base else row.global_step, "split": row.split, "documents": row.documents}
        measured.setdefault(row.step, []).append(kept)
    return Work(
        job_id=held.job_id,
        attempt=held.attempt,
        job=document,
        artifacts_root=str(settings.artifacts_root),
        models_root=str(settings.models_root),
        datasets_root=str(settings.datasets_root),
        exports_root=str(settings.exports_root),
        cache_root=str(settings.cache_root),
        hub=settings.hub,
        modelscope=settings.modelscope,
        hub_push=settings.hub_push,
        reward_hosts=settings.reward_hosts,
        request_id=job.request_id,
        trace=job.trace,
        traces_url=settings.traces_url,
        mlflow_url=settings.mlflow_url,
        wandb_url=settings.wandb_url,
        tokens=tokens.of_job(session, held.job_id, settings.secret_key),
        device=",".join(device for device in placed.devices if not is_stand_in(device)) or None,
        ranks=max(1, len(placed.devices)),
        stand_ins=any(map(is_stand_in, placed.devices)),
        gpu_memory_fraction=placed.fraction,
        threads=settings.job_threads,
        lease_seconds=settings.lease_seconds,
        grace_seconds=settings.grace_seconds,
        artifacts_url=settings.artifacts_url,
        s3_endpoint=settings.s3_endpoint,
        store_patience_seconds=settings.store_patience_seconds,
        outputs={step.name: step.output for step in steps.of_job(session, held.job_id)},
        checkpoints=referred.by_step(checkpoints.kept(session, held.job_id)),
        removed=[one.path for one in checkpoints.of_job(session, held.job_id) if one.removed_at is not None],
        files=_files(session, held.job_id, document),
        earlier=referred.earlier_jobs(session, held.job_id, ResolvedJob.model_validate_json(orjson.dumps(document))),
        measurements=measured,
        checkpoint_bytes={name: step.checkpoint_bytes for name, step in (needed or {}).items()},
        kept_free_bytes=settings.min_free_bytes,
    )


def _files(session: Session, job_id: str, document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The uploaded files that the job names, as a child is told of them."""
    return {
        name: {"path": file.path, "size": file.size, "sha256": file.sha256, "entry": file.entry, "rows": file.rows}
        for name, file in files.of_job(session, job_id, document).items()
        if file.entry is not None
    }


def _keep(database: Database, settings: WorkerSettings, attempt: _Attempt, is_stopping: Callable[[], bool]) -> None:
    """Until the child has ended and its end is written, or the lease is lost."""
    while True:
        _listen(attempt, settings.flush_seconds)
        ended = attempt.child.exit_code()
        if ended is not None:
            _hear_out(attempt)
        if is_stopping():
            _ask_to_stop(attempt, settings.grace_seconds)
        try:
            if ended is None:
                _renew_when_due(database, settings, attempt)
            else:
                if attempt.log is not None:  # before the job's end can be seen; a store that is slow must not cost the lease
                    attempt.log.finish(min(10.0, settings.lease_seconds / 4))
                _write_end(database, settings, attempt, ended)
                return
        except LeaseLost:
            logger.warning("attempt %d of %s lost its lease", attempt.held.attempt, attempt.held.job_id)
            _count_fenced(database)
            return
        except DBAPIError as error:
            if time.monotonic() > attempt.lease_ends:
                logger.error("the database was away for a whole lease; attempt given up (%s)", error)
                return
            logger.warning("the database does not answer; %d messages wait (%s)", len(attempt.unwritten), error)
            time.sleep(min(1.0, settings.flush_seconds))


def _count_fenced(database: Database) -> None:
    """What this attempt would have written was refused, and its transaction is gone: the count has one of its own."""
    with suppress(DBAPIError), database.transaction() as session:
        counters.add(session, Tally.WRITES_FENCED)


def _listen(attempt: _Attempt, seconds: float) -> None:
    """Collects what the child says, for at most about that long; an outcome ends the wait, for it is written at once."""
    deadline = time.monotonic() + seconds
    while attempt.pipe_is_open and _hear(attempt, deadline - time.monotonic()):
        if attempt.outcome is not None:
            attempt.child.wait(5)
            return
        if time.monotonic() > deadline:
            return
    if not attempt.pipe_is_open:
        attempt.child.wait(max(0.0, deadline - time.monotonic()))


def _hear_out(attempt: _Attempt) -> None:
    """Collects all that a child has said which is no more: what this process was too slow to hear, its outcome perhaps."""
    while attempt.outcome is None and attempt.pipe_is_open and _hear(attempt, 0):
        pass


def _hear(attempt: _Attempt, seconds: float) -> bool:
    """Whether a message came within that time. Notes where the pipe has ended."""
    pipe = attempt.child.pipe
    try:
        if not pipe.poll(max(0.0, seconds)):
            return False
        message = orjson.loads(pipe.recv_bytes())
    except (EOFError, OSError):
        attempt.pipe_is_open = False
        return False
    if message["message"] == "outcome":
        attempt.outcome = message
    else:
        attempt.unwritten.append(message)
    return True


def _renew_when_due(database: Database, settings: WorkerSettings, attempt: _Attempt) -> None:
    asked_at = time.monotonic()
    due = settings.flush_seconds if attempt.unwritten else settings.heartbeat_seconds
    if asked_at - attempt.renewed_at < due:
        return
    with database.transaction() as session:
        wish = _renew_and_write(session, settings, attempt)
    attempt.forget_written()
    attempt.renewed_at = asked_at
    attempt.lease_ends = asked_at + settings.lease_seconds
    attempt.child.say(WORDS[wish])
    if wish in (Wish.CANCEL, Wish.LIMIT):
        _end_when_late(attempt, settings.grace_seconds)


def _renew_and_write(session: Session, settings: WorkerSettings, attempt: _Attempt) -> Wish | None:
    """The fence, and all that stands behind it. What the child is to do instead of going on."""
    _drop_what_is_written(session, attempt)
    told = [message["progress"] for message in attempt.unwritten if message["message"] == "progress"]
    wish = leases.renew(session, attempt.held, settings.lease_seconds, told[-1] if told else None, more=bool(attempt.unwritten))
    for message in attempt.unwritten:
        WRITERS[message["message"]](session, attempt.held, message)
    # what was saved or measured may have made an earlier checkpoint one too many
    for step in {message["step"] for message in attempt.unwritten if message["message"] in ("checkpoint", "measurement")}:
        retention.thin(session, attempt.held, step, *attempt.kept.get(step, (None, None)))
    return wish


def _drop_what_is_written(session: Session, attempt: _Attempt) -> None:
    """A connection may break between a commit and its answer. Only this attempt moves its lease: one that has moved since was
    committed, and the messages with it; written once more, each event would be there twice.
    """
    if not attempt.unwritten:
        return
    lease_until = leases.lease_until(session, attempt.held)
    if attempt.unsure is not None and attempt.unsure[0] != lease_until:
        del attempt.unwritten[: attempt.unsure[1]]
    attempt.unsure = (lease_until, len(attempt.unwritten))


def _write_end(database: Database, settings: WorkerSettings, attempt: _Attempt, exit_code: int) -> None:
    """The child's last words and how it ended, in one transaction."""
    with database.transaction() as session:
        _renew_and_write(session, settings, attempt)
        outcome = attempt.outcome
        if outcome is None:
            why = post_mortem("The training process", exit_code)
            leases.lose(session, attempt.held, Reason.KILLED, why, settings.retry_seconds)
        elif outcome["outcome"] == "succeeded":
            leases.succeed(session, attempt.held)
        elif outcome["outcome"] == "lost":
            leases.lose(session, attempt.held, Reason.KILLED, outcome["sentence"], settings.retry_seconds)
        elif outcome["outcome"] == "failed":
            reason = Reason(outcome["reason"])
            leases.fail(session, attempt.held, reason, outcome["sentence"], outcome["details"], settings.retry_seconds)
        else:
            leases.give_back(session, attempt.held, f"{attempt.held.worker} stops; the job goes on from its last checkpoint.")
    attempt.forget_written()


def _ask_to_stop(attempt: _Attempt, grace_seconds: float) -> None:
    if attempt.asked_to_stop_at is None:
        attempt.child.say(b"stop")
    _end_when_late(attempt, grace_seconds)


def _end_when_late(attempt: _Attempt, grace_seconds: float) -> None:
    """A child that was told to stop has so long; one that is only to be paused may take its time."""
    if attempt.asked_to_stop_at is None:
        attempt.asked_to_stop_at = time.monotonic()
    elif time.monotonic() - attempt.asked_to_stop_at > grace_seconds:
        attempt.child.kill()


def _write_event(session: Session, held: Claim, message: dict[str, Any]) -> None:
    events.add(session, held.job_id, message["kind"], message["text"], message["data"])


def _write_progress(session: Session, held: Claim, message: dict[str, Any]) -> None:
    """Written with the renewal: only the last word on progress counts."""


def _write_points(session: Session, held: Claim, message: dict[str, Any]) -> None:
    metrics.record_points(session, held, message["step"], message["global_step"], message["values"])


def _write_checkpoint(session: Session, held: Claim, message: dict[str, Any]) -> None:
    step, global_step = message["step"], message["global_step"]
    checkpoints.record(
        session, held, step, global_step, message["path"], message["epoch"], message["train_loss"], message["files"]
    )
    told = {"step": step, "global_step": global_step}
    events.add(session, held.job_id, events.Kind.CHECKPOINT_SAVED, f"Checkpoint {global_step} of {step} is saved.", told)


def _write_measurement(session: Session, held: Claim, message: dict[str, Any]) -> None:
    step, split = message["step"], message["split"]
    metrics.record_measurement(session, held, step, _stored(message["global_step"]), split, message["documents"])
    rows = [row | {"global_step": _stored(row["global_step"])} for row in message["metrics"]]
    metrics.record(session, held, step, split, rows)
    alerts.record(session, held, step, split, message["alerts"])
    for guard in message["guards"]:
        told = {"step": step, "global_step": message["global_step"]} | guard["data"]
        events.add(session, held.job_id, events.Kind.GUARDED, guard["text"], told)
        if guard["data"]["then"] == "pause":
            leases.ask_to_pause(session, held)


def _stored(global_step: int | None) -> int:
    """The child calls the base's update None; a key of the database cannot be."""
    return metrics.BASE if global_step is None else global_step


def _write_artifact(session: Session, held: Claim, message: dict[str, Any]) -> None:
    artifacts.record(session, held, message["name"], message["path"], message["size"], message["sha256"])


def _write_piece(session: Session, held: Claim, message: dict[str, Any]) -> None:
    generations.add(session, held, message["number"], message["text"])


def _write_step(session: Session, held: Claim, message: dict[str, Any]) -> None:
    steps.finish(session, held, message["position"], message["step"], message["output"], message["summary"])
    events.add(session, held.job_id, events.Kind.STEP_FINISHED, f"Step {message['step']} is done.", message["summary"])


# What the child is told of each wish, beside that the lease holds.
WORDS: dict[Wish | None, bytes] = {None: b"ok", Wish.CANCEL: b"cancel", Wish.LIMIT: b"stop", Wish.PAUSE: b"stop"}

# What each message of worker/run.py becomes in the store.
WRITERS: dict[str, Callable[[Session, Claim, dict[str, Any]], None]] = {
    "event": _write_event,
    "progress": _write_progress,
    "points": _write_points,
    "checkpoint": _write_checkpoint,
    "measurement": _write_measurement,
    "artifact": _write_artifact,
    "piece": _write_piece,
    "step": _write_step,
}
