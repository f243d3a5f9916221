import pytest

from service.api.rendered import Rendered
from service.store import jobs, leases
from tests.service.api import made


@pytest.fixture
def running(door, database):
    door.submit()
    return made.claim(database)


def test_an_answer_is_made_once_for_each_version() -> None:
    rendered, made = Rendered(), []

    def make() -> bytes:
        made.append(len(made))
        return b"%d" % made[-1]

    assert [rendered.of("series", version, make) for version in (1, 1, 2, 2, 1)] == [b"0", b"0", b"1", b"1", b"2"]


def test_answers_of_two_questions_are_two() -> None:
    rendered = Rendered()
    assert rendered.of(("series", "loss"), 1, lambda: b"loss") == b"loss"
    assert rendered.of(("series", "grad_norm"), 1, lambda: b"grad_norm") == b"grad_norm"
    assert rendered.of(("series", "loss"), 1, lambda: b"not asked") == b"loss"


def test_what_was_not_asked_for_the_longest_makes_room() -> None:
    rendered = Rendered(most_bytes=20)
    for name in ("a", "b"):
        rendered.of(name, 1, lambda: b"0123456789")
    rendered.of("a", 1, lambda: b"made again")  # asked for, so b is older now
    rendered.of("c", 1, lambda: b"0123456789")
    assert rendered.of("a", 1, lambda: b"made again") == b"0123456789"
    assert rendered.of("b", 1, lambda: b"made again") == b"made again"


def test_an_answer_larger_than_the_room_is_given_and_not_kept() -> None:
    rendered = Rendered(most_bytes=5)
    assert rendered.of("a", 1, lambda: b"0123456789") == b"0123456789"
    assert rendered.of("a", 1, lambda: b"made again") == b"made again"


def test_a_list_shows_each_job_in_the_version_that_it_now_has(door, database, running) -> None:
    before = door.get("/jobs").json()["data"][0]
    again = door.get("/jobs").json()["data"][0]
    with database.transaction() as session:
        leases.renew(session, running, 60, {"global_step": 7})
    after = door.get("/jobs").json()["data"][0]
    assert before == again
    assert (before["progress"], after["progress"]) == (None, {"global_step": 7})
    assert door.get(f"/jobs/{running.job_id}").json() == after


def test_what_is_written_behind_the_fence_makes_another_version(database, running) -> None:
    def version() -> int:
        with database.reading() as session:
            return jobs.version(session, "local", running.job_id)

    before = version()
    with database.transaction() as session:
        leases.renew(session, running, 60)
    assert version() == before, "a heartbeat that says nothing changes nothing"
    with database.transaction() as session:
        leases.renew(session, running, 60, more=True)
    assert version() == before + 1
