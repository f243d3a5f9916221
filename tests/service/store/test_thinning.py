from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.store import metrics, thinning
from service.store.session import Database
from tests.service.store.stored import hold

POINTS = st.dictionaries(
    st.integers(min_value=0, max_value=500), st.floats(allow_nan=False, allow_infinity=False), max_size=200
).map(lambda points: sorted(points.items()))


@given(series=POINTS, points=st.integers(min_value=2, max_value=60))
def test_thinning_keeps_some_of_the_points_in_their_order_and_at_most_as_many_as_asked(
    series: list[tuple[int, float]], points: int
) -> None:
    kept = kept_of(series, points)
    assert len(kept) <= points
    assert kept == sorted(set(kept))
    assert set(kept) <= set(range(len(series)))


@given(series=POINTS, points=st.integers(min_value=4, max_value=60))
def test_thinning_keeps_the_first_the_last_the_lowest_and_the_highest(series: list[tuple[int, float]], points: int) -> None:
    kept = kept_of(series, points)
    assert kept[:1] == [0][: len(series)]
    assert kept[-1:] == [len(series) - 1][: len(series)]
    kept_values = [series[position][1] for position in kept]
    assert min(kept_values, default=0) == min((value for _, value in series), default=0)
    assert max(kept_values, default=0) == max((value for _, value in series), default=0)


@given(series=POINTS)
def test_what_is_short_enough_is_not_thinned(series: list[tuple[int, float]]) -> None:
    assert kept_of(series, max(len(series), 2)) == list(range(len(series)))


def kept_of(series: list[tuple[int, float]], points: int) -> list[int]:
    return thinning.kept([at for at, _ in series], [value for _, value in series], points)


@given(first=st.integers(0, 100), more=st.integers(1, 10**6), points=st.integers(4, 1000))
def test_the_stretches_are_alike_and_cover_all_between_the_first_and_the_last(first: int, more: int, points: int) -> None:
    edges = thinning.edges(first, first + more, points)
    assert (edges[0], edges[-1]) == (first + 1, first + more)
    lengths = {after - before for before, after in pairwise(edges)}
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("points", [2, 3, 4, 9, 30])
@pytest.mark.parametrize("every", [1, 7])
def test_both_databases_keep_the_same_points_whatever_is_missing_and_what_is_equal(
    database: Database, points: int, every: int
) -> None:
    """Some updates have none, a third of the values are alike, and others' series lie beside it."""
    there = {at: float(at * 7919 % 3) for at in range(10, 400, every) if at % 5 and not 100 < at < 200}
    held = hold(database)
    with database.transaction() as session:
        for at, value in there.items():
            metrics.record_points(session, held, "sft", at, {"a": 100.0, "loss": value, "z": -100.0})
    expected = [list(there)[position] for position in thinning.kept(list(there), list(there.values()), points)]
    with database.reading() as session:
        assert metrics.series(session, held.job_id, "sft", "loss", points=points) == (expected, [there[at] for at in expected])
        at, _ = metrics.series(session, held.job_id, "sft", "loss", from_step=50, to_step=300, points=points)
    there = {at: value for at, value in there.items() if 50 <= at <= 300}
    assert at == [list(there)[position] for position in thinning.kept(list(there), list(there.values()), points)]
