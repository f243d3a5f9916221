"""finebits pause, resume, retry, patch and delete."""

import json

import pytest

from tests.service.cli.conftest import Finebits
from tests.service.fake_service import Answer, FakeService, a_job, problem


@pytest.mark.parametrize(
    ("verb", "state", "sentence"),
    [
        ("pause", "paused", "job-1 is paused; `finebits resume job-1` lets it go on."),
        ("pause", "running", "job-1 will be paused at its next step;"),
        ("resume", "queued", "job-1 is queued;"),
        ("retry", "queued", "job-1 is queued again;"),
    ],
)
def test_a_job_is_told_and_what_becomes_of_it_is_said(
    service: FakeService, finebits: Finebits, verb: str, state: str, sentence: str
) -> None:
    service.answers("POST", f"/jobs/job-1/{verb}", a_job(state=state))
    done = finebits(verb, "job-1")
    assert done.exit_code == 0
    assert done.stdout.startswith(sentence)


@pytest.mark.parametrize("verb", ["pause", "resume", "retry"])
def test_a_refusal_is_said(service: FakeService, finebits: Finebits, verb: str) -> None:
    service.answers("POST", f"/jobs/job-1/{verb}", problem(409, title="State conflict", detail="The job is succeeded."))
    done = finebits(verb, "job-1")
    assert (done.exit_code, done.stderr) == (3, "State conflict: The job is succeeded.\n")


def test_what_is_given_is_changed_and_nothing_else(service: FakeService, finebits: Finebits) -> None:
    service.answers("PATCH", "/jobs/job-1", a_job(priority=5, name="n", labels={"team": "a=b"}))
    done = finebits("patch", "job-1", "--priority", "5", "--label", "team=a=b", "--label", "old=")
    assert done.stdout == "job-1: priority 5, name n, team=a=b\n"
    assert json.loads(service.asked[-1].body) == {"priority": 5, "labels": {"team": "a=b", "old": None}}


@pytest.mark.parametrize(("arguments", "said"), [((), "Give --priority"), (("--label", "team"), "'team' is not key=value.")])
def test_a_change_of_nothing_is_not_asked_for(
    service: FakeService, finebits: Finebits, arguments: tuple[str, ...], said: str
) -> None:
    done = finebits("patch", "job-1", *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert service.asked == []


def test_nothing_is_deleted_unasked(service: FakeService, finebits: Finebits) -> None:
    service.answers("DELETE", "/jobs/job-1", Answer(204, b""))
    assert finebits("delete", "job-1").exit_code == 1
    assert service.asked == []
    done = finebits("delete", "job-1", "--yes")
    assert (done.exit_code, done.stdout) == (0, "job-1 is deleted.\n")
    assert [asked.method for asked in service.asked] == ["DELETE"]
