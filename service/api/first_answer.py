"""A request with an Idempotency-Key that was answered before is answered so again, word for word, and does nothing.

For what makes a job there is once.py: a job is shown as it stands.
"""

import hashlib
from typing import Any

import orjson
from fastapi import Request, Response
from pydantic import BaseModel, SecretStr
from sqlalchemy.orm import Session

from service.api.once import REPLAYED, digest
from service.store import idempotency
from service.store.errors import AnswerLost
from service.store.idempotency import Kept
from service.store.sealed import opened, seal
from service.store.session import Database


class Again(Exception):
    """Instead of going on: the first answer."""

    def __init__(self, response: Response):
        self.response = response
        super().__init__("This request was answered before.")


async def again(request: Request, error: Exception) -> Response:
    """The application's handler of Again."""
    assert isinstance(error, Again)
    return error.response


class FirstAnswer:
    """To one key. What it was sent with is heard first; then it is claimed and kept in the transaction that does it."""

    def __init__(self, database: Database, secret_key: SecretStr | None, key: str, request: Request, response: Response):
        self.answer: tuple[Any, bool] | None = None  # what it is answered with, and whether that is secret
        self._database = database
        self._secret_key = secret_key
        self._owner = request.state.caller.owner
        self._key = key
        self._address = f"{request.method} {request.url.path}?{request.url.query}"
        self._status = request.scope["route"].status_code or 200
        self._response = response  # whose headers the endpoint sets
        self._sha256 = ""

    def hear(self, body: Any) -> None:
        """What is asked for, as a document. Raises Again, IdempotencyMismatch and AnswerLost."""
        self._sha256 = digest([self._address, body])
        self.look_up()

    def look_up(self) -> None:
        with self._database.reading() as session:
            kept = idempotency.answered(session, self._owner, self._key, self._sha256)
        if kept is not None:
            raise Again(self._read(kept))

    def claim(self, session: Session) -> None:
        """Before anything is done. Raises IdempotencyBusy."""
        assert self._sha256, "what a key was sent with must be heard before it is claimed"
        idempotency.claim(session, self._owner, self._key, self._sha256)

    def keep(self, session: Session, subject: str) -> None:
        """In the transaction that has claimed it, once all is done."""
        assert self.answer is not None, "say within the transaction what the request is answered with"
        view, is_secret = self.answer
        body = view.model_dump(mode="json") if isinstance(view, BaseModel) else view
        answer = {"status": self._status, "headers": dict(self._response.headers), "body": body}
        kept = Kept(subject, None, self._sealed(answer)) if is_secret else Kept(subject, answer, None)
        idempotency.keep(session, self._owner, self._key, kept)

    def _sealed(self, answer: dict[str, Any]) -> str | None:
        return None if self._secret_key is None else seal(orjson.dumps(answer).decode(), self._secret_key)

    def _read(self, kept: Kept) -> Response:
        answer = kept.answer
        if answer is None and kept.sealed is not None:
            clear = opened(kept.sealed, self._secret_key)
            if clear is None:
                raise AnswerLost(kept.subject, "the operator has changed FINEBITS_SECRET_KEY since.")
            answer = orjson.loads(clear)
        if answer is None:
            raise AnswerLost(kept.subject, "no secrets are kept where the operator has set no FINEBITS_SECRET_KEY.")
        headers = {**answer["headers"], **REPLAYED}
        return Response(orjson.dumps(answer["body"]), answer["status"], headers, "application/json")


def body_of(raw: bytes) -> Any:
    """The document, however it is spaced; of what is no JSON the hash."""
    try:
        return orjson.loads(raw) if raw.strip() else None
    except orjson.JSONDecodeError:
        return hashlib.sha256(raw).hexdigest()
