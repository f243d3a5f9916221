from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from service.store import metrics
from service.store.leases import Claim
from service.store.session import Database
from tests.service.store.stored import hold, submit, take

SUMS = {"bits": [1.5, 2.5], "tokens": [3, 4]}


def a_measure(
    global_step: int = 10, measure: str = "cross_entropy", value: float | None = 1.25, **columns: Any
) -> dict[str, Any]:
    plain = {"unit": "bit/token", "n_documents": 2, "n_tokens": 7, "estimator": "mean over tokens"}
    return {"global_step": global_step, "measure": measure, "value": value} | plain | columns


def measured(database: Database, held: Claim, *rows: dict[str, Any], step: str = "sft", split: str = "validation") -> None:
    """Keeps measures, and the sums that they are made of."""
    with database.transaction() as session:
        for global_step in {row["global_step"] for row in rows}:
            metrics.record_measurement(session, held, step, global_step, split, SUMS)
        metrics.record(session, held, step, split, list(rows))


def found(database: Database, job_id: str, **filters: Any) -> list[tuple[int, str, float | None]]:
    with database.reading() as session:
        return [(row.global_step, row.measure, row.value) for row in metrics.of_job(session, job_id, **filters)]


def pointed(database: Database, held: Claim, values: list[float], step: str = "sft", name: str = "loss") -> None:
    with database.transaction() as session:
        for global_step, value in enumerate(values, start=1):
            metrics.record_points(session, held, step, global_step, {name: value})


def series(
    database: Database, job_id: str, step: str = "sft", name: str = "loss", **limits: int
) -> tuple[list[int], list[float]]:
    with database.reading() as session:
        return metrics.series(session, job_id, step, name, **limits)


def test_a_measure_is_kept_whole(database: Database) -> None:
    held = hold(database)
    row = a_measure(
        standard_error=0.25,
        interval=[1.0, 1.5],
        interval_reason=None,
        versus_base={"difference": -0.5, "interval": [-0.75, -0.25]},
        versus_best={"difference": 0.0},
    )
    measured(database, held, row)
    with database.reading() as session:
        (kept,) = metrics.of_job(session, held.job_id)
        (sums,) = metrics.measurements(session, held.job_id)
    assert {name: getattr(kept, name) for name in row} == row
    assert (kept.step, kept.split) == ("sft", "validation")
    assert (sums.step, sums.global_step, sums.split, sums.documents) == ("sft", 10, "validation", SUMS)


def test_a_measure_that_comes_again_replaces_the_earlier_one_whole(database: Database) -> None:
    held = hold(database)
    measured(database, held, a_measure(value=1.0, interval=[0.5, 1.5], standard_error=0.5))
    measured(database, held, a_measure(value=2.0), a_measure(measure="perplexity", value=4.0, interval=[3.5, 4.5]))
    assert found(database, held.job_id) == [(10, "cross_entropy", 2.0), (10, "perplexity", 4.0)]
    with database.reading() as session:
        again, beside = metrics.of_job(session, held.job_id)
    assert (again.interval, again.standard_error) == (None, None)
    assert beside.interval == [3.5, 4.5]


def test_sums_that_come_again_replace_the_earlier_ones_and_keep_their_measures(database: Database) -> None:
    held = hold(database)
    measured(database, held, a_measure())
    with database.transaction() as session:
        metrics.record_measurement(session, held, "sft", 10, "validation", {"bits": [9.0]})
    with database.reading() as session:
        assert [sums.documents for sums in metrics.measurements(session, held.job_id)] == [{"bits": [9.0]}]
    assert found(database, held.job_id) == [(10, "cross_entropy", 1.25)]


def test_a_measure_of_a_model_that_diverged_has_no_value(database: Database) -> None:
    held = hold(database)
    measured(database, held, a_measure(value=None))
    assert found(database, held.job_id) == [(10, "cross_entropy", None)]


def test_there_is_no_measure_without_its_sums(database: Database) -> None:
    held = hold(database)
    with pytest.raises(IntegrityError), database.transaction() as session:
        metrics.record(session, held, "sft", "validation", [a_measure()])


def test_no_measures_are_no_work(database: Database) -> None:
    held = hold(database)
    with database.transaction() as session:
        metrics.record(session, held, "sft", "validation", [])
        metrics.record_points(session, held, "sft", 1, {})
    assert found(database, held.job_id) == []


def test_the_base_comes_first_then_the_checkpoints_in_order(database: Database) -> None:
    held = hold(database)
    for global_step in (100, 20, metrics.BASE, 3):
        measured(database, held, a_measure(global_step, value=global_step))
    assert [step for step, _, _ in found(database, held.job_id)] == [-1, 3, 20, 100]
    with database.reading() as session:
        assert [sums.global_step for sums in metrics.measurements(session, held.job_id)] == [-1, 3, 20, 100]


def test_measures_are_chosen_by_step_checkpoint_measure_and_text(database: Database) -> None:
    held = hold(database)
    measured(database, held, a_measure(1, value=1), a_measure(2, value=2), a_measure(2, "perplexity", value=3))
    measured(database, held, a_measure(2, value=4), split="train")
    measured(database, held, a_measure(2, value=5), step="dpo")

    def values(**filters: Any) -> set[float | None]:
        return {value for _, _, value in found(database, held.job_id, **filters)}

    assert values() == {1, 2, 3, 4, 5}
    assert values(step="sft") == {1, 2, 3, 4}
    assert values(global_step=1) == {1}
    assert values(measure="perplexity") == {3}
    assert values(split="train") == {4}
    assert values(step="sft", global_step=2, measure="cross_entropy", split="validation") == {2}
    assert values(step="rm") == set()


def test_a_measure_comes_with_all_its_places_and_no_other_measure(database: Database) -> None:
    held = hold(database)
    names = ("effective_rank:layer_1", "effective_rank:layer_2", "effective_rank_of_another", "effectiveXrank:layer_1")
    measured(database, held, *(a_measure(1, name, value=n) for n, name in enumerate(names)))

    def values(measure: str) -> set[float | None]:
        return {value for _, _, value in found(database, held.job_id, measure=measure)}

    assert values("effective_rank") == {0, 1}
    assert values("effective_rank:layer_2") == {1}


def test_each_job_has_its_own_measures_and_series(database: Database) -> None:
    first, second = hold(database), hold(database, worker="worker-2")
    measured(database, first, a_measure(value=1))
    measured(database, second, a_measure(value=2))
    pointed(database, first, [0.5])
    assert found(database, second.job_id) == [(10, "cross_entropy", 2)]
    assert series(database, second.job_id) == ([], [])


def test_a_point_that_is_passed_again_is_overwritten(database: Database) -> None:
    held = hold(database)
    pointed(database, held, [4.0, 3.0, 2.0])
    pointed(database, held, [4.0, 3.5])
    assert series(database, held.job_id) == ([1, 2, 3], [4.0, 3.5, 2.0])


def test_a_point_that_is_not_a_finite_number_is_left_out(database: Database) -> None:
    held = hold(database)
    pointed(database, held, [4.0, float("nan"), float("inf"), 2.0])
    assert series(database, held.job_id) == ([1, 4], [4.0, 2.0])


def test_series_are_named_by_step(database: Database) -> None:
    held = hold(database)
    with database.transaction() as session:
        metrics.record_points(session, held, "sft", 1, {"loss": 1.0, "grad_norm": 2.0})
        metrics.record_points(session, held, "sft", 2, {"loss": 1.0})
        metrics.record_points(session, held, "dpo", 1, {"reward_margin": 0.5})
    with database.reading() as session:
        assert metrics.series_names(session, held.job_id) == {"sft": ["grad_norm", "loss"], "dpo": ["reward_margin"]}
        assert metrics.series_names(session, "job-0") == {}


def test_a_stretch_of_a_series_has_both_of_its_ends(database: Database) -> None:
    held = hold(database)
    pointed(database, held, [float(step) for step in range(1, 11)])
    assert series(database, held.job_id, from_step=3, to_step=5)[0] == [3, 4, 5]
    assert series(database, held.job_id, from_step=9)[0] == [9, 10]
    assert series(database, held.job_id, to_step=2)[0] == [1, 2]
    assert series(database, held.job_id, from_step=11) == ([], [])


def test_a_long_series_is_thinned_without_losing_its_spikes(database: Database) -> None:
    held = hold(database)
    values = [1.0 / step for step in range(1, 201)]
    values[77], values[150] = 99.0, -99.0
    pointed(database, held, values)
    steps, kept = series(database, held.job_id, points=20)
    assert len(steps) <= 20
    assert (steps[0], steps[-1]) == (1, 200)
    assert {78, 151} <= set(steps)
    assert [values[step - 1] for step in steps] == kept


def test_a_thinned_series_has_its_numbers_to_the_last_bit(database: Database) -> None:
    """And those that are as large as a number can be, which have too many digits for some ways to write them."""
    held = hold(database)
    values = [0.1 + 0.2, 2.0 / 3.0, 1.7976931348623157e308, -1.7976931348623157e308, 5e-324, 1e-17, 3.0, 4.0, 5.0, 6.0]
    pointed(database, held, values)
    steps, kept = series(database, held.job_id, points=8)
    assert 2 < len(steps) <= 8
    assert [values[step - 1] for step in steps] == kept
    assert {1.7976931348623157e308, -1.7976931348623157e308} <= set(kept)


def test_deleting_a_job_takes_its_measures_and_series_along(database: Database) -> None:
    held = hold(database)
    measured(database, held, a_measure())
    pointed(database, held, [1.0])
    submit(database)
    kept = take(database)
    assert kept is not None
    measured(database, kept, a_measure())
    with database.transaction() as session:
        session.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": held.job_id})
    assert found(database, held.job_id) == []
    assert series(database, held.job_id) == ([], [])
    assert len(found(database, kept.job_id)) == 1
