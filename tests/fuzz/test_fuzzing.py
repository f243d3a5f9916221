"""The short form of `make fuzz`: each operation asked a few times, and that what is wrong would be seen."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import Response

from service.api import health
from service.app import KEYED
from tests.fuzz.__main__ import told
from tests.fuzz.fuzzing import Watched, at_the_borders, in_chains
from tests.fuzz.world import MARKS, World, a_world

SEED = 1

# Most of what there is to ask lies at the borders of a job's schema: `make fuzz` goes there.
LONG = ("create_job",)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with a_world(tmp_path_factory.mktemp("fuzz")) as made:
        yield made


def test_each_operation_is_asked_and_nothing_is_wrong(world: World) -> None:
    watched = Watched(world.app)
    at_the_borders(watched, world, "root", SEED, 600, without=LONG)
    at_the_borders(watched, world, "ann", SEED, 600, ("examples",))
    in_chains(watched, world, "ann", SEED, 100, 600)
    assert watched.found.wrong == []
    asked = {one.split()[0] for one in watched.found.operations}
    assert {route.name for router in (health.router, *KEYED) for route in router.routes} <= asked  # type: ignore[attr-defined]
    assert watched.found.requests > 1500


# What an operation says that it should not, and what is said of it.
WRONG = {
    "a status that is not declared": (Response(status_code=418), "Undocumented status code"),
    "another schema": (Response(b'{"data": 3}', media_type="application/json"), "Response violates schema"),
    "another type": (Response(b"hello", media_type="text/plain"), "Undocumented Content-Type"),
    "a crash": (Response(b"", 500), "Server error"),
    "another owner's": (Response(MARKS["bob"], media_type="application/json"), "What is another owner's"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_found(world: World, case: str) -> None:
    answer, title = WRONG[case]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await answer(scope, receive, send)
            if answer.status_code == 500:
                raise ZeroDivisionError  # as a server sees it: the answer is on its way by then

    names = [route.name for router in (health.router, *KEYED) for route in router.routes]  # type: ignore[attr-defined]
    watched = Watched(app)
    at_the_borders(watched, world, "ann", SEED, 600, ("coverage",), without=sorted({*names} - {"list_measures"}))
    assert title in {fault.title for fault in watched.found.faults.values()}
    said = told(watched.found, 1.0)
    assert title in said
    assert ("ZeroDivisionError" in said) == (case == "a crash")
