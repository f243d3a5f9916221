import pytest
from sqlalchemy import update

from service.store import jobs
from service.store.errors import BadCursor
from service.store.session import Database
from service.store.states import State
from service.store.tables import Job
from tests.service.store.stored import cancel, hold, submit


def page(
    database: Database,
    limit: int = 10,
    after: str | None = None,
    owner: str = "ann",
    state: State | None = None,
    labels: dict[str, str] | None = None,
    name: str | None = None,
) -> tuple[list[str], bool]:
    with database.reading() as session:
        found, more = jobs.listing(session, owner, limit, after, state, labels, name)
        return [job.id for job in found], more


def every_page(database: Database, limit: int) -> list[str]:
    seen, more = page(database, limit)
    while more:
        next_page, more = page(database, limit, after=seen[-1])
        seen += next_page
    return seen


def test_an_owner_without_jobs_has_an_empty_list(database: Database) -> None:
    submit(database, owner="bob")
    assert page(database) == ([], False)


def test_jobs_are_listed_newest_first(database: Database) -> None:
    old, new, newest = (submit(database, created_at=at) for at in (1, 2, 3))
    assert page(database) == ([newest, new, old], False)


def test_a_page_says_whether_there_are_more(database: Database) -> None:
    third, second, first = (submit(database, created_at=at) for at in (1, 2, 3))
    assert page(database, limit=2) == ([first, second], True)
    assert page(database, limit=2, after=second) == ([third], False)
    assert page(database, limit=3) == ([first, second, third], False)
    assert page(database, after=third) == ([], False)


def test_pages_stay_as_they_were_while_jobs_arrive_and_change(database: Database) -> None:
    at_first = [submit(database, created_at=at) for at in range(7)][::-1]
    seen, more = page(database, limit=3)
    while more:
        submit(database)
        cancel(database, seen[0])
        next_page, more = page(database, limit=3, after=seen[-1])
        seen += next_page
    assert seen == at_first


def test_jobs_of_the_same_moment_come_once_each(database: Database) -> None:
    submitted = {submit(database) for _ in range(7)}
    with database.transaction() as session:
        session.execute(update(Job).values(created_at=1_700_000_000.123456))
    for limit in (1, 2, 3, 7):
        assert every_page(database, limit) == sorted(submitted, reverse=True)


def test_a_cursor_that_the_list_never_gave_out_is_refused(database: Database) -> None:
    submit(database)
    of_another = submit(database, owner="bob")
    for cursor in ("job-0", "", of_another, "job-0' OR '1'='1"):
        with pytest.raises(BadCursor):
            page(database, after=cursor)


def test_a_cursor_holds_its_place_when_its_job_no_longer_fits_the_filter(database: Database) -> None:
    old, middle, new = (submit(database, created_at=at) for at in (1, 2, 3))
    assert page(database, limit=2, state=State.QUEUED) == ([new, middle], True)
    cancel(database, middle)
    assert page(database, limit=2, after=middle, state=State.QUEUED) == ([old], False)


def test_jobs_are_chosen_by_state(database: Database) -> None:
    running = hold(database).job_id
    cancelled = submit(database)
    cancel(database, cancelled)
    queued = submit(database)
    assert page(database, state=State.RUNNING) == ([running], False)
    assert page(database, state=State.CANCELLED) == ([cancelled], False)
    assert page(database, state=State.QUEUED) == ([queued], False)
    assert page(database, state=State.FAILED) == ([], False)


def test_jobs_are_chosen_by_all_of_the_labels_asked_for(database: Database) -> None:
    red_small = submit(database, created_at=1, labels={"colour": "red", "size": "1"})
    red_large = submit(database, created_at=2, labels={"colour": "red", "size": "10"})
    submit(database, created_at=3, labels={"colour": "blue", "size": "1"})
    submit(database, created_at=4)
    assert page(database, labels={"colour": "red"}) == ([red_large, red_small], False)
    assert page(database, labels={"colour": "red", "size": "1"}) == ([red_small], False)
    assert page(database, labels={"colour": "green"}) == ([], False)
    assert page(database, labels={"shape": "red"}) == ([], False)


def test_jobs_are_chosen_by_what_stands_in_their_names(database: Database) -> None:
    names = ["Ten % more", "ten_more", "x", "more"]
    ids = [submit(database, created_at=at, labels={"a": "1"}) for at in range(1, 5)]
    with database.transaction() as session:
        for job_id, name in zip(ids, names, strict=True):
            session.execute(update(Job).where(Job.id == job_id).values(name=name))
    assert page(database, name="TEN") == ([ids[1], ids[0]], False)
    assert page(database, name="%") == ([ids[0]], False)
    assert page(database, name="n_m") == ([ids[1]], False)
    assert page(database, name="more", labels={"a": "1"}, limit=2) == ([ids[3], ids[1]], True)
    assert page(database, name="more", after=ids[1], state=State.QUEUED) == ([ids[0]], False)
    assert page(database, name="less") == ([], False)
    assert page(database, name="") == (ids[::-1], False)


def test_labels_are_compared_as_the_words_they_are(database: Database) -> None:
    values = ["1", "true", "null", "O'Hara", 'say "hi"', "a%b", "Ünïcode", "", "[1]"]
    for value in values:
        job_id = submit(database, labels={"k.e-y_1": value})
        assert page(database, labels={"k.e-y_1": value}) == ([job_id], False)


def test_a_name_that_no_label_can_have_finds_nothing(database: Database) -> None:
    submit(database, labels={"a": "b"})
    for name in ('a"', '"a"', "a'", "$", "a.b", "*", "[0]", "", "\\", "a[0]", '."a"'):
        assert page(database, labels={name: "b"}) == ([], False)
