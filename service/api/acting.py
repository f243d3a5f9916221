"""What a request writes with that changes something: every transaction leaves a row of who asked, in the same commit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Request, Response
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from service.api.first_answer import FirstAnswer, body_of
from service.store import audit
from service.store.audit import Trace
from service.store.errors import IdempotencyBusy
from service.store.session import Database

View = TypeVar("View")

# What an address may have, of longer ones that a proxy could send.
MOST_CHARACTERS = 200


class Acting:
    """One request's doings. `subject` is what is changed: where the path does not say, whoever makes it does.

    With an Idempotency-Key (`first`) they are done once, and answered the same as often as the request comes.
    """

    def __init__(self, database: Database, trace: Trace, first: FirstAnswer | None = None):
        self.subject = trace.subject
        self._trace = trace
        self._database = database
        self._first = first

    @property
    def may_come_again(self) -> bool:
        """Whether the request has a key."""
        return self._first is not None

    def hear(self, read: Callable[[], Any]) -> None:
        """What is asked for, as a document, which is read where there is a key. Raises what `FirstAnswer.hear` does."""
        if self._first is not None:
            self._first.hear(read())

    def answer(self, view: View, is_secret: bool = False) -> View:
        """Says, within the transaction, what the request is answered with, now and again. `is_secret`: kept encrypted or not."""
        if self._first is not None:
            self._first.answer = (view, is_secret)
        return view

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Raises Again where another request with the same key was answered meanwhile, IdempotencyBusy where one is still."""
        first = self._first
        try:
            with self._database.transaction() as session:
                if first is not None:
                    first.claim(session)
                yield session
                audit.note(session, [self._trace.of(self.subject)])
                if first is not None:
                    first.keep(session, self.subject)
        except IdempotencyBusy:
            if first is not None:
                first.look_up()
            raise


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


OnceKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="The same key and request within 24 hours are answered as the first was; another request is refused.",
    ),
]


async def _doing(request: Request, response: Response, idempotency_key: OnceKey = None) -> Acting:
    acting = _doing_of(request, response, idempotency_key)
    if acting.may_come_again:
        raw = await request.body()
        await run_in_threadpool(acting.hear, lambda: body_of(raw))
    return acting


async def _doing_with_form(request: Request, response: Response, idempotency_key: OnceKey = None) -> Acting:
    return _doing_of(request, response, idempotency_key)


def _doing_of(request: Request, response: Response, key: str | None) -> Acting:
    given = request.app.state
    first = None if key is None else FirstAnswer(given.database, given.settings.secret_key, key, request, response)
    return Acting(given.database, trace_of(request), first)


async def _trace(request: Request) -> Trace:
    return trace_of(request)


TheActing = Annotated[Acting, Depends(_acting)]
# Of a POST, which may carry a key and be sent again: its transaction must say what it is answered with.
TheDoing = Annotated[Acting, Depends(_doing)]

# The same, where the body is a form with a file: the endpoint takes it in, and must `hear` it.
TheDoingWithForm = Annotated[Acting, Depends(_doing_with_form)]

TheTrace = Annotated[Trace, Depends(_trace)]
