"""From where a request comes that a proxy hands on: what the proxy says, where it is one that the operator trusts."""

from typing import cast

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn._types import ASGI3Application
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware


class ClientAddress:
    """ASGI middleware. The server's own, which would believe whoever is on this host, is switched off where ours starts it."""

    def __init__(self, app: ASGIApp, proxies: str):
        self._app = ProxyHeadersMiddleware(cast(ASGI3Application, app), trusted_hosts=proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)  # type: ignore[arg-type]
