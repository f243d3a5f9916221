"""Buckets: what they let through in any time, and that they forget nothing that matters."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api import rates, shared_rates
from service.api.rates import Bucket, OwnRates
from service.api.shared_rates import SharedRates, open_redis

HOUR = 3600


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def run(made: Any) -> Any:
    return asyncio.run(made)


@given(st.lists(st.floats(0, 2), min_size=1, max_size=200), st.floats(0.5, 20), st.integers(1, 20))
def test_in_no_span_of_time_does_more_come_through_than_the_burst_and_what_drips(pauses, per_second, burst):
    clock, taken = Clock(), []
    own = OwnRates(Bucket(per_second, burst), clock)
    for pause in pauses:
        clock.seconds += pause
        if run(own.take("ann")) == 0:
            taken.append(clock.seconds)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + per_second * (taken[last] - taken[first]) + 1e-6


@given(st.floats(0.1, 100), st.integers(1, 50))
def test_a_full_bucket_gives_the_burst_and_whoever_waits_as_told_is_served(per_second, burst):
    clock = Clock()
    own = OwnRates(Bucket(per_second, burst), clock)
    assert [run(own.take("ann")) for _ in range(burst)] == [0] * burst
    wait_seconds = run(own.take("ann"))
    assert wait_seconds == pytest.approx(1 / per_second)
    clock.seconds += wait_seconds * 0.99
    assert run(own.take("ann")) > 0
    clock.seconds += wait_seconds * 0.02
    assert run(own.take("ann")) == 0


def test_one_bucket_is_not_another_s_and_what_is_given_back_can_be_taken_again():
    own = OwnRates(Bucket(1, 2), Clock())
    assert [run(own.take("ann")) > 0 for _ in range(3)] == [False, False, True]
    assert run(own.take("bob")) == 0
    run(own.give_back("ann"))
    assert [run(own.take("ann")) > 0 for _ in range(2)] == [False, True]


def test_at_nothing_a_second_there_is_no_limit():
    own = OwnRates(Bucket(0, 1), Clock())
    assert {run(own.take("ann")) for _ in range(100)} == {0}


def test_memory_has_an_end_and_the_emptiest_buckets_are_kept(monkeypatch):
    monkeypatch.setattr(rates, "MOST_BUCKETS", 10)
    clock = Clock()
    own = OwnRates(Bucket(1, 3), clock)
    for _ in range(3):
        run(own.take("ann"))
    for number in range(1000):
        run(own.take(f"somebody {number}"))
        assert len(own._full_at) <= 10
    assert run(own.take("ann")) > 0


# -- several processes ---------------------------------------------------------------------------------------------------


def shared(url: str, do: Callable[..., Any], bucket: Bucket, clock: Clock | None = None) -> Any:
    """`do`, with the buckets as two processes have them."""

    async def done() -> Any:
        servers = [open_redis(url) for _ in range(2)]
        try:
            await servers[0].flushdb() if clock is None else None
            return await do(*(SharedRates(server, "test", bucket, *([clock] if clock else [])) for server in servers))
        finally:
            for server in servers:
                await server.aclose()

    return run(done())


@pytest.fixture
def patient(monkeypatch):
    """With a broker that is there and slow: one that does not answer at once is one that is away."""
    monkeypatch.setattr(shared_rates, "ANSWER_SECONDS", 60.0)


@pytest.mark.usefixtures("patient")
def test_processes_that_count_together_let_through_what_one_would(broker_url):
    async def do(one, other):
        taken = [await rates.take("ann") == 0 for rates in (one, other) * 5]
        await other.give_back("ann")
        return sum(taken), await one.take("ann"), await one.take("ann"), await other.take("bob")

    n_taken, given_back, wait_seconds, of_bob = shared(broker_url, do, Bucket(0.01, 4))
    assert (n_taken, given_back, of_bob) == (4, 0, 0)
    assert 0 < wait_seconds <= 100


@pytest.mark.usefixtures("patient")
def test_what_drips_in_the_broker_can_be_taken_and_a_full_bucket_is_not_kept(broker_url):
    async def do(one, other):
        key, redis = "finebits.rate.test.ann", one._redis
        waits = [await one.take("ann"), await one.take("ann")]
        lives = [await redis.pttl(key)]
        await redis.incrby(key, -HOUR * 1_000_000)  # an hour passes
        waits += [await other.take("ann"), await other.take("ann")]
        return waits, [*lives, await redis.pttl(key)]

    waits, lives = shared(broker_url, do, Bucket(1 / HOUR, 1))
    assert (waits[0], waits[2]) == (0, 0)
    assert all(HOUR - 600 < wait_seconds <= HOUR for wait_seconds in (waits[1], waits[3]))
    assert all(HOUR - 600 < milliseconds / 1000 <= HOUR + 0.002 for milliseconds in lives)


def test_while_the_broker_is_away_each_process_counts_and_does_not_ask_again_at_once(tmp_path, caplog):
    clock = Clock()

    async def do(one, other):
        return [[await rates.take("ann") > 0 for _ in range(3)] for rates in (one, other)]

    url = f"redis+socket://{tmp_path}/nowhere.sock"
    assert shared(url, do, Bucket(0.001, 2), clock) == [[False, False, True]] * 2
    assert caplog.text.count("the broker does not count requests") == 2
    assert shared_rates.AWAY_SECONDS > 0
