"""Writing together: one commit, one answer each, and nobody suffers for another."""

import asyncio
import threading
from collections.abc import Sequence

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from service.store import jobs
from service.store.group_commit import MOST_TOGETHER, GroupCommit
from service.store.jobs import New
from service.store.session import Database
from service.store.tables import Job
from tests.service.store.stored import a_document, a_read_job, job_of, kinds_of


def named(name: str) -> New:
    document = a_document(name=name)
    return New("ann", document, a_read_job(**document))


def count(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(Job)) or 0


class Slowly:
    """`create_all`, noting how many come together; the first transaction waits until it is let go."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.go = threading.Event()

    def __call__(self, session: Session, asked: Sequence[New]) -> list[Job]:
        self.sizes.append(len(asked))
        assert self.go.wait(120)
        return jobs.create_all(session, asked)


def test_each_gets_its_own_answer_once_it_is_committed(database: Database) -> None:
    writer = GroupCommit(database, jobs.create_all)

    async def one(name: str) -> None:
        job = await writer.write(named(name))
        assert job.name == name == job_of(database, job.id).name
        assert kinds_of(database, job.id) == ["submitted"]

    async def all_at_once() -> None:
        await asyncio.gather(*(one(f"job {number}") for number in range(20)))

    asyncio.run(all_at_once())
    writer.close()
    assert count(database) == 20


def test_those_that_come_while_one_commits_share_the_next_commit(database: Database) -> None:
    slowly = Slowly()
    writer = GroupCommit(database, slowly)

    async def all_at_once() -> None:
        first = asyncio.ensure_future(writer.write(named("first")))
        while not slowly.sizes:
            await asyncio.sleep(0.001)
        rest = [asyncio.ensure_future(writer.write(named(str(number)))) for number in range(MOST_TOGETHER + 6)]
        await asyncio.sleep(0)
        slowly.go.set()
        await asyncio.gather(first, *rest)

    asyncio.run(all_at_once())
    writer.close()
    assert slowly.sizes == [1, MOST_TOGETHER, 6]


def test_what_spoils_the_transaction_costs_the_others_nothing(database: Database) -> None:
    slowly = Slowly()
    writer = GroupCommit(database, slowly)
    spoilt = named("spoilt")._replace(owner=None)  # type: ignore[arg-type]

    async def all_at_once() -> list[object]:
        first = asyncio.ensure_future(writer.write(named("first")))
        while not slowly.sizes:
            await asyncio.sleep(0.001)
        rest = [asyncio.ensure_future(writer.write(new)) for new in (named("a"), spoilt, named("b"))]
        await asyncio.sleep(0)
        slowly.go.set()
        return list(await asyncio.gather(first, *rest, return_exceptions=True))

    _, a, error, b = asyncio.run(all_at_once())
    writer.close()
    assert isinstance(a, Job)
    assert isinstance(b, Job)
    assert isinstance(error, Exception)
    assert count(database) == 3


def test_a_database_that_is_away_is_asked_once_for_all() -> None:
    away = Database("postgresql+psycopg://nobody@/nowhere?host=/nowhere")
    slowly = Slowly()
    slowly.go.set()
    writer = GroupCommit(away, lambda session, asked: (slowly.sizes.append(len(asked)), session.connection())[1])  # type: ignore[arg-type,return-value]

    async def all_at_once() -> list[object]:
        return list(await asyncio.gather(*(writer.write(named(str(number))) for number in range(5)), return_exceptions=True))

    outcomes = asyncio.run(all_at_once())
    writer.close()
    assert all(isinstance(outcome, OperationalError) for outcome in outcomes)
    assert len(slowly.sizes) <= 2  # whoever came first, perhaps, and the rest


def test_closing_writes_what_was_asked_for_and_then_takes_no_more(database: Database) -> None:
    slowly = Slowly()
    writer = GroupCommit(database, slowly)

    async def ask_and_close() -> None:
        asked = [asyncio.ensure_future(writer.write(named(str(number)))) for number in range(3)]
        await asyncio.sleep(0)
        slowly.go.set()
        await asyncio.to_thread(writer.close)
        await asyncio.gather(*asked)
        with pytest.raises(RuntimeError, match="closed"):
            await writer.write(named("late"))

    asyncio.run(ask_and_close())
    assert count(database) == 3


def test_nobody_has_to_wait_for_the_answer(database: Database) -> None:
    slowly = Slowly()
    writer = GroupCommit(database, slowly)

    async def ask_and_leave() -> None:
        asked = asyncio.ensure_future(writer.write(named("left alone")))
        await asyncio.sleep(0)
        asked.cancel()
        slowly.go.set()

    asyncio.run(ask_and_leave())
    writer.close()
    assert count(database) == 1
