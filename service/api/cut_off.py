"""What a request is told that the shutdown cuts off: to ask again, as of everything that passes."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import Code, problem


class CutOff:
    """ASGI middleware. The server cancels what is not answered when its time to stop is up, and would say 500 without a word.

    What was asked may be done or not: a client that sends its Idempotency-Key again finds out.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_answered = False

        async def send_noted(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        try:
            await self.app(scope, receive, send_noted)
        except asyncio.CancelledError:
            if scope["type"] == "http" and not is_answered:
                detail = "The service stops, and had no answer by then; ask again in a moment."
                await problem(scope, 503, Code.UNAVAILABLE, detail, headers={"Retry-After": "2"})(scope, receive, send)
            raise
