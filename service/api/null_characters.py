"""Refuses addresses with a null character, which no database column takes."""

from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems import Code, problem


class NullCharacters:
    """ASGI middleware: one look at the bytes, where a dependency would cost every request as much as its query."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and ("\0" in scope["path"] or b"%00" in scope["query_string"]):
            await _refusal(scope)(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _refusal(scope: Scope) -> ASGIApp:
    pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    pointer = next((f"/query/{name}" for name, value in pairs if "\0" in name + value), "/path")
    sentence = f"{'A query' if pointer != '/path' else 'An address'} may not hold a null character."
    return problem(scope, 422, Code.INVALID_PARAMETER, sentence, [{"pointer": pointer, "detail": sentence}])
