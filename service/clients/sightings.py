"""What one sees of a job that is watched."""

from dataclasses import dataclass

from service.clients.answers import Event, Job

ENDED = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True)
class Sighting:
    """A job as it is now, and the events since the sighting before."""

    job: Job
    events: list[Event]
