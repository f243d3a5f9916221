"""What a request writes with that changes something: every transaction leaves a row of who asked, in the same commit."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from service.store import audit
from service.store.audit import Trace
from service.store.session import Database

# What an address may have, of longer ones that a proxy could send.
MOST_CHARACTERS = 200


class Acting:
    """One request's doings. `subject` is what is changed: where the path does not say, whoever makes it does."""

    def __init__(self, database: Database, trace: Trace):
        self.subject = trace.subject
        self._trace = trace
        self._database = database

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        with self._database.transaction() as session:
            yield session
            audit.note(session, [self._trace.of(self.subject)])


def trace_of(request: Request) -> Trace:
    caller = request.state.caller
    return Trace(
        owner=caller.owner,
        key=caller.key,
        action=request.scope["route"].name,
        subject="/".join(str(value) for value in request.path_params.values()),
        client=(request.client.host if request.client else "")[:MOST_CHARACTERS],
        request_id=request.state.request_id,
    )


async def _acting(request: Request) -> Acting:
    return Acting(request.app.state.database, trace_of(request))


async def _trace(request: Request) -> Trace:
    return trace_of(request)


TheActing = Annotated[Acting, Depends(_acting)]
TheTrace = Annotated[Trace, Depends(_trace)]
