"""Buckets that all processes of the API take from: in the broker, which is Redis."""

import logging
import time
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.api.rates import Bucket, OwnRates

logger = logging.getLogger(__name__)

# A request waits no longer than this for what its limit is; a broker that is away is left alone for a while.
ANSWER_SECONDS = 0.25
AWAY_SECONDS = 5.0

# By the server's own clock, so that processes need not agree on theirs. What lies ahead is kept in microseconds.
_TAKE = """
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now) + ARGV[1]
if full_at - now > tonumber(ARGV[2]) then return full_at - now - ARGV[2] end
redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000) + 1)
return 0
"""

_GIVE_BACK = """
local full_at = redis.call('GET', KEYS[1])
if full_at then redis.call('SET', KEYS[1], string.format('%.0f', full_at - ARGV[1]), 'KEEPTTL') end
"""


class SharedRates:
    """While the broker is away, each process counts on its own."""

    def __init__(self, redis: Redis, kind: str, bucket: Bucket, clock: Callable[[], float] = time.monotonic):
        self.bucket = bucket
        self._redis = redis
        self._prefix = f"finebits.rate.{kind}."
        self._own = OwnRates(bucket, clock)
        self._clock = clock
        self._away_until = 0.0

    async def take(self, name: str) -> float:
        if not self.bucket.is_limited:
            return 0.0
        arguments = (self._microseconds(self.bucket.seconds_each), self._microseconds(self.bucket.seconds_full))
        waiting = await self._ask(_TAKE, name, *arguments)
        return await self._own.take(name) if waiting is None else waiting / 1e6

    async def give_back(self, name: str) -> None:
        if await self._ask(_GIVE_BACK, name, self._microseconds(self.bucket.seconds_each)) is None:
            await self._own.give_back(name)

    async def _ask(self, script: str, name: str, *arguments: int) -> int | None:
        """None where the broker does not answer."""
        if self._clock() < self._away_until:
            return None
        try:
            return int(await self._redis.eval(script, 1, self._prefix + name, *arguments) or 0)
        except (RedisError, OSError) as error:
            logger.warning("the broker does not count requests (%s): this process does, for %g s", error, AWAY_SECONDS)
            self._away_until = self._clock() + AWAY_SECONDS
            return None

    def _microseconds(self, seconds: float) -> int:
        return max(round(seconds * 1e6), 1)


def open_redis(url: str) -> Redis:
    """Connects when it is first asked. A URL as Celery has it."""
    told = url.replace("redis+socket://", "unix://")
    return Redis.from_url(told, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS)
