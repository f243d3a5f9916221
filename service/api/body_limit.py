"""Refuses a body that is too large: at once where its length is announced, else as soon as too much of it has come."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import BodyTooLarge
from service.api.problems import Code, problem

# Else the server would take in and throw away the rest of the body, to keep the connection.
HANG_UP = {"Connection": "close"}


class BodyLimit:
    """ASGI middleware. What is too much is never held in memory."""

    def __init__(self, app: ASGIApp, most_bytes: int):
        self.app = app
        self.most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and (len(announced) > 18 or int(announced) > self.most_bytes):
            refusal = problem(scope, 413, Code.BODY_TOO_LARGE, self._sentence(), headers=HANG_UP)
            await refusal(scope, receive, send)
            return
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.most_bytes:
                raise BodyTooLarge(self._sentence(), HANG_UP)
            return message

        await self.app(scope, receive_counted, send)

    def _sentence(self) -> str:
        return f"A body may have {self.most_bytes} bytes here (FINEBITS_MAX_BODY_BYTES)."
