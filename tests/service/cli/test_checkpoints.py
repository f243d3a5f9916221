import json
from typing import Any

from tests.service.cli.conftest import Finebits
from tests.service.fake_service import FakeService


def a_checkpoint(at: int, rank: dict[str, Any] | None = None, pareto: bool | None = None, **metrics: float) -> dict[str, Any]:
    return {"step": "sft", "global_step": at, "epoch": at / 40, "metrics": metrics, "pareto": pareto, "rank": rank}


def test_checkpoints_are_listed_with_what_they_gain_and_cost(service: FakeService, finebits: Finebits) -> None:
    found = [a_checkpoint(20, pareto=True, cross_entropy=2.5, kl_from_base=0.25), a_checkpoint(40)]
    service.answers("GET", "/jobs/job-1/checkpoints", {"data": found})
    assert finebits("checkpoints", "job-1").stdout.splitlines() == [
        "Checkpoints",
        "checkpoint  epoch  cross_entropy  kl_from_base  front",
        "sft 20       0.50            2.5          0.25    yes",
        "sft 40       1.00",
    ]


def test_ranked_they_come_with_how_far_they_are_from_the_best(service: FakeService, finebits: Finebits) -> None:
    near = {"place": 1, "value": 2.25, "versus_leader": {"value": 0.01, "standard_error": 0.012}}
    best = {"place": 2, "value": 2.24, "versus_leader": None}
    found = [a_checkpoint(20, near, True), a_checkpoint(40, best, False), a_checkpoint(60)]
    service.answers("GET", "/jobs/job-1/checkpoints", {"data": found})
    assert finebits("checkpoints", "job-1", "--rank-by", "cross_entropy").stdout.splitlines() == [
        "Checkpoints by cross_entropy, ± standard error",
        "checkpoint  cross_entropy   from the best  rank  front",
        "sft 20               2.25  +0.010 ± 0.012     1    yes",
        "sft 40               2.24               0     2     no",
        "sft 60                  –",
    ]
    assert service.asked[0].query == "rank_by=cross_entropy"


def test_json_and_none_yet(service: FakeService, finebits: Finebits) -> None:
    service.answers("GET", "/jobs/job-1/checkpoints", {"data": [a_checkpoint(20)]})
    assert json.loads(finebits("checkpoints", "job-1", "--json").stdout) == [a_checkpoint(20)]
    service.answers("GET", "/jobs/job-2/checkpoints", {"data": []})
    assert finebits("checkpoints", "job-2").stdout == "There are no checkpoints yet.\n"


def test_what_a_step_measured_is_listed_by_its_place(service: FakeService, finebits: Finebits) -> None:
    rank = {"place": 1, "value": 2.25, "versus_leader": None}
    one = {"step": "measure", "number": 2, "of": {}, "metrics": {"cross_entropy": 2.25}, "pareto": True, "rank": rank}
    service.answers("GET", "/jobs/job-1/checkpoints", {"data": [], "measured": [one]})
    assert finebits("checkpoints", "job-1").stdout.splitlines()[-1].split() == ["measure", "2", "2.25", "yes"]
    ranked = finebits("checkpoints", "job-1", "--rank-by", "cross_entropy").stdout.splitlines()[-1]
    assert ranked.split() == ["measure", "2", "2.25", "0", "1", "yes"]
