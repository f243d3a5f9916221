"""finebits compare and diff."""

import json
from typing import Any

import pytest

from service.cli.comparing import difference, side, splits
from service.cli.diff import differences, flat, without_others_steps
from tests.service.cli.conftest import Finebits
from tests.service.cli.world import ONE, OTHER, measured, row, stocked
from tests.service.fake_service import FakeService


def a_side(job: str, rows: list[dict[str, Any]], at: str | None = None) -> Any:
    return side(job, None, at, rows, "validation")  # type: ignore[arg-type]


def test_two_jobs_are_as_far_apart_as_at_most_their_errors_let_them_be() -> None:
    found = difference(a_side("a", measured(2.0)), a_side("b", measured(2.1)), "cross_entropy")
    assert found is not None
    # each is 0.01 from the same base, and 0.02 by itself: 0.01 + 0.01 is the less of the two bounds
    assert (found.value, found.standard_error, found.is_paired) == (pytest.approx(0.1), pytest.approx(0.02), False)
    assert found.interval == (pytest.approx(0.1 - 1.96 * 0.02), pytest.approx(0.1 + 1.96 * 0.02))


def test_a_divergence_from_another_base_is_not_subtracted() -> None:
    sides = []
    for bits in (6.0, 7.0):
        rows = [row("base", bits, 0.05), row(40, 2.0, 0.02)]
        rows[1]["measures"]["kl_from_base"] = rows[1]["measures"]["cross_entropy"]
        sides.append(a_side(f"of {bits}", rows))
    assert difference(*sides, "kl_from_base") is None
    assert difference(sides[0], sides[0], "kl_from_base") is not None


def test_of_other_bases_only_the_values_bound_it() -> None:
    other = [row("base", 7.0, 0.05), row(40, 2.1, 0.03, versus=-4.9)]
    found = difference(a_side("a", measured(2.0)), a_side("b", other), "cross_entropy")
    assert found is not None
    assert found.standard_error == pytest.approx(0.02 + 0.03)


def test_what_was_measured_on_other_texts_is_not_subtracted() -> None:
    other = measured(2.1)
    for one in other:
        one["measures"]["cross_entropy"] |= {"n_tokens": 1}
    assert difference(a_side("a", measured(2.0)), a_side("b", other), "cross_entropy") is None
    assert difference(a_side("a", measured(2.0)), a_side("b", other), "nothing") is None


def test_what_the_service_has_paired_is_told_as_it_is() -> None:
    rows = measured(2.0)
    found = difference(a_side("a", rows, "base"), a_side("a", rows, "40"), "cross_entropy")
    assert found is not None
    assert (found.value, found.standard_error, found.interval, found.is_paired) == (-4.0, 0.01, (-4.02, -3.98), True)
    back = difference(a_side("a", rows, "40"), a_side("a", rows, "base"), "cross_entropy")
    assert back is not None
    assert (back.value, back.interval, back.is_paired) == (4.0, (3.98, 4.02), True)
    rows[1]["measures"]["cross_entropy"]["versus_leader"] = {"value": 0.5, "standard_error": 0.004, "global_step": 40}
    leader = difference(a_side("a", rows, "40"), a_side("a", rows, "20"), "cross_entropy")
    assert leader is not None
    assert (leader.value, leader.standard_error, leader.is_paired) == (0.5, 0.004, True)


def test_only_texts_that_all_were_measured_on_are_compared() -> None:
    also = [*measured(2.0), row(40, 3.0, 0.1) | {"split": "train"}]
    assert splits([also, also]) == ["validation", "train"]  # type: ignore[list-item]
    assert splits([also, measured(2.0)]) == ["validation"]  # type: ignore[list-item]


def test_compare_shows_values_and_differences(service: FakeService, finebits: Finebits) -> None:
    stocked(service)
    lines = [" ".join(line.split()) for line in finebits("compare", ONE, OTHER).stdout.splitlines()]
    assert lines[1:3] == [f"1 {ONE}/sft/40", f"2 {OTHER}/sft/40"]
    assert "cross_entropy [bits/token] 2.000 ± 0.020 2.100 ± 0.020" in lines
    assert "cross_entropy [bits/token] +0.100 ± ≤0.020 [+0.061, +0.139]" in lines
    (text,) = json.loads(finebits("compare", ONE, f"{OTHER}/sft/20", "--json").stdout)
    assert [one["checkpoint"] for one in text["checkpoints"]] == [40, 20]
    assert text["differences"]["cross_entropy"][0]["value"] == pytest.approx(0.6)


def test_where_no_difference_can_be_told_it_is_said(service: FakeService, finebits: Finebits) -> None:
    stocked(service)
    rows = measured(2.1)
    for one in rows:
        for value in one["measures"].values():
            value |= {"n_tokens": 1}
    service.answers("GET", f"/jobs/{OTHER}/metrics", {"job_id": OTHER, "data": rows})
    assert "their difference says nothing" in finebits("compare", ONE, OTHER).stdout
    service.answers("GET", f"/jobs/{OTHER}/metrics", {"job_id": OTHER, "data": []})
    assert "There is no text on which all of them were measured." in finebits("compare", ONE, OTHER).stdout


def test_series_are_plotted_on_one_scale(service: FakeService, finebits: Finebits) -> None:
    stocked(service)
    shown = finebits("compare", ONE, OTHER, "--series", "loss").stdout
    assert f"{ONE}/sft: loss" in shown
    assert shown.count("     9 ┤") == 2
    assert finebits("compare", ONE, OTHER, "--series", "none").stdout == "None of them has a series none yet.\n"


def test_diff_names_each_argument_by_its_place(service: FakeService, finebits: Finebits) -> None:
    stocked(service)
    assert json.loads(finebits("diff", ONE, OTHER, "--json").stdout) == [
        {"argument": "steps.sft.training.learning_rate", ONE: 0.001, OTHER: 0.002}
    ]
    assert finebits("diff", ONE, OTHER, "--spec").stdout == "They differ in no argument.\n"
    assert finebits("diff", ONE, OTHER).stdout.splitlines()[-1].split() == ["steps.sft.training.learning_rate", "0.001", "0.002"]


def test_a_step_that_only_one_has_is_a_line() -> None:
    one = {"steps": [{"name": "sft", "do": "train", "x": {"y": 1}}]}
    other = {"steps": [{"name": "asked", "do": "evaluate", "x": {"y": 1, "z": 2}}]}
    found = differences(*(flat(document) for document in without_others_steps(one, other)))
    assert found == {"steps.sft.do": ("train", None), "steps.asked.do": (None, "evaluate")}
    assert without_others_steps({"name": "a"}, one)[0] == {"name": "a"}


def test_steps_are_held_against_each_other_by_their_names() -> None:
    one = flat({"name": "a", "steps": [{"name": "pt", "x": {"y": 1}}, {"name": "sft", "x": {"y": [1, 2], "z": {}}}]})
    other = flat({"name": "a", "steps": [{"name": "sft", "x": {"y": [1, 2], "z": {}, "name": "inner"}}]})
    assert differences(one, other) == {"steps.pt.x.y": (1, None), "steps.sft.x.name": (None, "inner")}
