import asyncio
import json
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from service.api.cut_off import CutOff
from service.api.request_id import RequestId


def cut_off(answers_first: bool) -> list[Message]:
    """What goes out of a request that is cancelled while it waits."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if answers_first:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.Event().wait()

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError

    async def run() -> None:
        scope: dict[str, Any] = {"type": "http", "path": "/jobs", "method": "POST", "headers": []}
        task = asyncio.create_task(RequestId(CutOff(app))(scope, receive, send))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    return sent


def test_a_request_that_the_shutdown_cuts_off_is_told_to_ask_again() -> None:
    start, body = cut_off(answers_first=False)
    assert start["status"] == 503
    headers = dict(start["headers"])
    assert headers[b"retry-after"] == b"2"
    told = json.loads(body["body"])
    assert told["code"] == "unavailable"
    assert told["request_id"].encode() == headers[b"x-request-id"]


def test_one_that_has_begun_to_be_answered_is_not_answered_twice() -> None:
    assert [message["status"] for message in cut_off(answers_first=True)] == [200]
