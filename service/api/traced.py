"""A span for every request, where the operator has a collector: `request.state.trace` is what a job goes on with."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.tracing import Tracing


class Traced:
    """ASGI middleware. A client's own traceparent is gone on with."""

    def __init__(self, app: ASGIApp, tracing: Tracing):
        self.app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        parent = Headers(scope=scope).get("traceparent")
        state = scope.setdefault("state", {})
        with self._tracing.span(f"{scope['method']} request", parent) as span:
            state["trace"] = span.trace
            span.note(
                {
                    "http.request.method": scope["method"],
                    "url.path": scope["path"],
                    "finebits.request_id": state.get("request_id"),
                }
            )

            async def send_noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    route = getattr(scope.get("route"), "path", None)
                    span.note({"http.response.status_code": message["status"], "http.route": route})
                await send(message)

            await self.app(scope, receive, send_noted)
