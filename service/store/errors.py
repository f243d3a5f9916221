"""What the store refuses.

StoreError
├── NotFound                 there is no such thing, or it is not the caller's
├── StateConflict            the job's present state does not allow this; `state` says which it is
├── InUse                    jobs that have not ended refer to it; `jobs` are their ids
├── QuotaReached             the owner has as much as its quota allows; `retry_seconds` until it may have more
├── StaleVersion             the job has changed since the caller looked; `version` is what it is now
├── IdempotencyMismatch      the same key came with another request
├── IdempotencyBusy          the same key is being answered at this moment
├── AnswerLost               the same key was answered with a secret that is not kept
├── BadCursor                a cursor that this list never gave out
├── LeaseLost                this attempt no longer holds the job: stop, write nothing
├── WebhookDisabled          a webhook that is told nothing cannot be told this either
├── WorkerIsThere            a live worker has this name, or this GPU
└── WorkerReplaced           another process is this worker by now: stop

The store does not know HTTP: the API's STATUS table says which status each becomes.
"""

from collections.abc import Sequence

from service.store.tables import Worker


class StoreError(Exception):
    """The store refuses."""


class NotFound(StoreError):
    """There is no such thing."""

    def __init__(self, what: str, name: str):
        super().__init__(f"There is no {what} {name!r}.")


class StateConflict(StoreError):
    """The job's present state does not allow this."""

    def __init__(self, state: str, wanted: str, why: str = "", what: str = "job"):
        self.state = state
        super().__init__(f"The {what} is {state}; it cannot be {wanted}.{why and f' {why}'}")


class InUse(StoreError):
    """Jobs that have not ended refer to it."""

    def __init__(self, what: str, jobs: Sequence[str]):
        self.jobs = list(jobs)
        super().__init__(f"{what} is referred to by {', '.join(jobs)}; cancel or end those first.")


class QuotaReached(StoreError):
    """The owner has as much as its quota allows."""

    def __init__(self, sentence: str, retry_seconds: float):
        self.retry_seconds = retry_seconds
        super().__init__(sentence)


class StaleVersion(StoreError):
    """The job has changed since the caller looked."""

    def __init__(self, version: int):
        self.version = version
        super().__init__("The job has changed since; look at it again, and send the ETag that it has now in If-Match.")


class IdempotencyMismatch(StoreError):
    """This Idempotency-Key was used with another request within the last 24 hours."""


class IdempotencyBusy(StoreError):
    """A request with this Idempotency-Key is being answered now; ask again in a moment."""


class AnswerLost(StoreError):
    """This Idempotency-Key was answered with a secret, which is not kept."""

    def __init__(self, subject: str, why: str):
        super().__init__(
            f"This Idempotency-Key was answered before, with a secret of {subject} that cannot be shown again: {why} "
            "Give that up, and ask with a new key."
        )


class BadCursor(StoreError):
    """The cursor is not one that this list gave out."""


class LeaseLost(StoreError):
    """The attempt no longer holds its job."""


class WebhookDisabled(StoreError):
    """The webhook is disabled; enable it first."""


class WorkerIsThere(StoreError):
    """A live worker has this name, or this GPU."""

    def __init__(self, name: str, rival: Worker):
        self.heard_at = rival.heartbeat_at
        where = f"(process {rival.pid} on {rival.host})"
        if rival.name == name:
            sentence = (
                f"There is a worker {name!r} already {where}. Give this one another name in FINEBITS_WORKER_NAME, or stop it."
            )
        else:
            sentence = (
                f"The worker {rival.name!r} {where} owns a GPU that this one would use. Give each its own with FINEBITS_DEVICES, "
                "or stop that one."
            )
        super().__init__(sentence)


class WorkerReplaced(StoreError):
    """Another process is registered as this worker by now."""
