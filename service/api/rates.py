"""How often somebody may ask: a bucket that drips, after the generic cell rate algorithm (ITU-T I.371).

All that is kept of a bucket is when it will be full again. What is taken moves that moment on; where it would lie further ahead
than a whole bucket takes to fill, nothing is taken, and the difference is how long to wait.
"""

import time
from collections.abc import Callable
from typing import Protocol

# What is kept of buckets at most, of those that are not full.
MOST_BUCKETS = 100_000


class Bucket:
    """A rate: `per_second`, and how many may come at once. At 0 a second there is no limit."""

    def __init__(self, per_second: float, burst: int):
        self.is_limited = per_second > 0
        self.seconds_each = 1 / per_second if self.is_limited else 0.0
        self.seconds_full = burst * self.seconds_each


class Rates(Protocol):
    """The buckets of one rate, by whose they are."""

    bucket: Bucket

    async def take(self, name: str) -> float:
        """Takes one; or, where there is none, the seconds until there is."""

    async def give_back(self, name: str) -> None:
        """It was not needed."""


class OwnRates:
    """Those of this process."""

    def __init__(self, bucket: Bucket, clock: Callable[[], float] = time.monotonic):
        self.bucket = bucket
        self._clock = clock
        self._full_at: dict[str, float] = {}

    async def take(self, name: str) -> float:
        if not self.bucket.is_limited:
            return 0.0
        now = self._clock()
        full_at = max(self._full_at.get(name, now), now) + self.bucket.seconds_each
        wait_seconds = full_at - now - self.bucket.seconds_full
        if wait_seconds > 1e-9:
            return wait_seconds
        if len(self._full_at) >= MOST_BUCKETS and name not in self._full_at:
            self._make_room(now)
        self._full_at[name] = full_at
        return 0.0

    async def give_back(self, name: str) -> None:
        if name in self._full_at:
            self._full_at[name] -= self.bucket.seconds_each

    def _make_room(self, now: float) -> None:
        """A full bucket is as good as none. Of others the fuller half goes: they would be full soonest."""
        emptier = sorted((full_at, name) for name, full_at in self._full_at.items() if full_at > now)[-MOST_BUCKETS // 2 :]
        self._full_at = {name: full_at for full_at, name in emptier}
