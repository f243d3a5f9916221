"""Refuses a body that is too large: at once where its length is announced, else as soon as too much of it has come."""

import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import BodyTooLarge
from service.api.problems import Code, problem

# What comes with a file in a form, and where such forms are taken.
FORM_BYTES = 65_536
_HAS_FILE = re.compile(r"/v1/files|/v1/uploads/[^/]+/parts|/datasets/[^/]+(/uploads/[^/]+)?")

_WITHOUT_BODY = frozenset(("GET", "HEAD"))

# Else the server would take in and throw away the rest of the body, to keep the connection.
HANG_UP = {"Connection": "close"}


class BodyLimit:
    """ASGI middleware. What is too much is never held in memory. Forms with files, which go to the disk, may be larger."""

    def __init__(self, app: ASGIApp, most_bytes: int, most_file_bytes: int):
        self.app = app
        self.most_bytes = most_bytes
        self.most_file_bytes = most_file_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if _is_framed_twice(scope):
            sentence = "A request has Content-Length or Transfer-Encoding, and not both: two readers could end it in two places."
            refusal = problem(scope, 400, Code.MALFORMED_REQUEST, sentence, headers=HANG_UP)
            await refusal(scope, receive, send)
            return
        if scope["method"] in _WITHOUT_BODY and not _has_body(scope):
            await self.app(scope, receive, send)
            return
        most_bytes, sentence = self._limit(scope["path"])
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and (len(announced) > 18 or int(announced) > most_bytes):
            refusal = problem(scope, 413, Code.BODY_TOO_LARGE, sentence, headers=HANG_UP)
            await refusal(scope, receive, send)
            return
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most_bytes:
                raise BodyTooLarge(sentence, HANG_UP)
            return message

        await self.app(scope, receive_counted, send)

    def _limit(self, path: str) -> tuple[int, str]:
        if _HAS_FILE.fullmatch(path):
            sentence = f"An uploaded file may have {self.most_file_bytes} bytes here (FINEBITS_MAX_FILE_BYTES)."
            return self.most_file_bytes + FORM_BYTES, sentence
        return self.most_bytes, f"A body may have {self.most_bytes} bytes here (FINEBITS_MAX_BODY_BYTES)."


def _is_framed_twice(scope: Scope) -> bool:
    """RFC 9112, section 6.3: such a request may be an attempt to smuggle another behind it."""
    names = [name for name, _ in scope["headers"]]
    return b"transfer-encoding" in names and b"content-length" in names


def _has_body(scope: Scope) -> bool:
    """Whether one is announced; without that a server has none to give."""
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])
