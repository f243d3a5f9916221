"""Gives every request an id, and every answer the header that names it."""

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import log
from service.store.ids import new_id

# What a client may choose itself: nothing that could break out of a line of the log.
_SANE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")


class RequestId:
    """ASGI middleware: `request.state.request_id`, the client's own where it sends a sane one."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), "")
        request_id = given if _SANE.fullmatch(given) else new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                named = [(name, value) for name, value in message.get("headers", ()) if name != b"x-request-id"]
                message["headers"] = [*named, (b"x-request-id", request_id.encode())]
            await send(message)

        with log.about(request_id=request_id):
            await self.app(scope, receive, send_named)
