"""The life of a job: the states, and the one table of what may follow what."""

from enum import StrEnum


class State(StrEnum):
    """Where a job is. Stages (loading, training, measuring) are events, not states."""

    QUEUED = "queued"  # waits for a worker
    RUNNING = "running"  # an attempt holds its lease
    PAUSED = "paused"  # waits for its client to say resume
    SUCCEEDED = "succeeded"  # every step is done
    FAILED = "failed"  # it ended with a reason
    CANCELLED = "cancelled"  # its client ended it


TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.RUNNING, State.PAUSED, State.FAILED, State.CANCELLED}),
    State.RUNNING: frozenset({State.QUEUED, State.PAUSED, State.SUCCEEDED, State.FAILED, State.CANCELLED}),
    State.PAUSED: frozenset({State.QUEUED, State.FAILED, State.CANCELLED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset({State.QUEUED}),
    State.CANCELLED: frozenset({State.QUEUED}),
}

ENDED = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})


def sources(to: State) -> tuple[State, ...]:
    """The states from which a job may come to `to`."""
    return tuple(state for state, targets in TRANSITIONS.items() if to in targets)
