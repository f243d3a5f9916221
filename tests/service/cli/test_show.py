"""finebits show, top and logs -f."""

import json

from tests.service.cli.conftest import Finebits
from tests.service.cli.world import NAME, ONE, OTHER, PROGRESS, stocked, whole_job
from tests.service.fake_service import Answer, FakeService


def test_a_job_is_shown_with_its_steps_loss_and_last_measures(service: FakeService, finebits: Finebits) -> None:
    stocked(service)
    lines = [" ".join(line.split()) for line in finebits("show", ONE).stdout.splitlines()]
    assert lines[0] == ONE
    assert f"name {NAME}" in lines
    assert "notices /model/use_fast_tokenizer: Today's tokenizers are always the fast ones." in lines
    assert "sft sft lora" in lines
    assert "sft 40, validation 2.000 ± 0.020 2.000 ± 0.020 1.750 ± 0.020" in lines
    loss = next(line for line in lines if line.startswith("sft loss 9 █"))
    assert loss.endswith("▁ 0.0225")


def test_a_job_that_waits_says_for_what_and_one_that_failed_says_why(service: FakeService, finebits: Finebits) -> None:
    waits = {"state": "queued", "progress": {"held": "no GPU is free"}, "position": 3, "estimated_start": "2026-11-24T12:00:00Z"}
    service.answers("GET", "/jobs/job-1", whole_job("job-1", 1e-3, **waits, pause_requested=True))
    service.answers("GET", "/jobs/job-1/metrics", {"job_id": "job-1", "data": []})
    service.answers("GET", "/jobs/job-1/metrics/series", {"job_id": "job-1", "data": []})
    shown = finebits("show", "job-1").stdout
    for text in ("no GPU is free", "3, begins 2026-11-24 12:00:00", "be paused"):
        assert text in shown
    failed = {
        "state": "failed",
        "reason": "bad_row",
        "sentence": "Row 7 is empty.",
        "details": {"file": "a.json", "row": 7},
        "lost": 1,
    }
    service.answers("GET", "/jobs/job-1", whole_job("job-1", 1e-3, **failed))
    shown = finebits("show", "job-1").stdout
    for text in ("bad_row: Row 7 is empty.", "file a.json, row 7", "1, of which 1 lost their worker"):
        assert text in shown


def test_the_documents_of_a_job_are_yaml_or_json(service: FakeService, finebits: Finebits) -> None:
    stocked(service)
    assert (
        finebits("show", ONE, "--spec").stdout
        == "name: 'a name that is as long as the names of people''s jobs are: llama 8B, instructions, rank 64'\n"
    )
    assert json.loads(finebits("show", ONE, "--resolved", "--json").stdout)["steps"][0]["name"] == "sft"


def test_an_alert_that_fired_is_shown(service: FakeService, finebits: Finebits) -> None:
    stocked(service)
    data = json.loads(finebits("metrics", ONE, "--json").stdout)
    data[-1]["alerts"] = [{"alert": "forgetting", "suggests": "Train for less long."}]
    service.answers("GET", f"/jobs/{ONE}/metrics", {"job_id": ONE, "data": data})
    assert "alert at sft 40: forgetting. Train for less long." in finebits("show", ONE).stdout


def test_top_says_who_goes_first_and_what_is_taken(service: FakeService, finebits: Finebits) -> None:
    stocked(service)
    low = whole_job("job-low", 1, state="queued", priority=0, created_at="2026-11-24T09:00:00Z")
    high = whole_job("job-high", 1, state="queued", priority=5, created_at="2026-11-24T10:00:00Z")
    of_state = {"queued": [low, high], "running": [whole_job(OTHER, 1, state="running", progress=PROGRESS)], "paused": []}
    service.answers(
        "GET", "/jobs", lambda asked: Answer(body={"data": of_state[asked.query.rpartition("=")[2]], "has_more": False})
    )
    lines = finebits("top").stdout.splitlines()
    assert lines[0] == "1 running, 2 queued, 0 paused; 1 of 2 slots taken"
    places = [
        next(index for index, line in enumerate(lines) if name in line) for name in (OTHER, "job-high", "job-low", "host-a")
    ]
    assert places == sorted(places)
    assert "40/400  loss 3.214  12,300 tokens/s  1:05 left" in lines[places[0]]


def test_logs_are_followed_until_the_job_ends(service: FakeService, finebits: Finebits) -> None:
    stocked(service)
    assert finebits("logs", ONE, "-f").stdout == "one line\n"
    assert json.loads(finebits("logs", ONE, "-f", "--json").stdout) == {"attempt": 1, "text": "one line\n"}
    finebits("logs", ONE, "--tail", "5", "--attempt", "2")
    assert service.asked[-1].query == "attempt=2&tail=5"


def test_a_series_is_a_plot(service: FakeService, finebits: Finebits) -> None:
    stocked(service)
    lines = finebits("metrics", ONE, "--series", "loss").stdout.splitlines()
    assert lines[0] == "sft: loss"
    assert lines[1].startswith("     9 ┤")
    assert len(json.loads(finebits("metrics", ONE, "--series", "loss", "--json").stdout)[0]["value"]) == 400
    assert service.asked[-1].query == "name=loss&step=sft"
    assert finebits("metrics", ONE, "--series", "none").stdout == "There is no such series yet.\n"


def test_jobs_are_found_by_their_labels(service: FakeService, finebits: Finebits) -> None:
    stocked(service)
    finebits("jobs", "--label", "team=letters")
    assert service.asked[-1].query == "limit=20&label=team%3Dletters"
