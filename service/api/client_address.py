"""From where a request comes that a proxy hands on: what the proxy says, where it is one that the operator trusts."""

from ipaddress import ip_address, ip_network
from typing import Any, cast

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn._types import ASGI3Application
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware


class ClientAddress:
    """ASGI middleware. The server's own, which would believe whoever is on this host, is switched off where ours starts it."""

    def __init__(self, app: ASGIApp, proxies: str):
        self._app = ProxyHeadersMiddleware(cast(ASGI3Application, app), trusted_hosts=proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)  # type: ignore[arg-type]


def address_of(scope: Any) -> str:
    """By which clients are told apart. Of IPv6 the network: whoever has one address there has them all."""
    host = scope["client"][0] if scope.get("client") else ""
    try:
        address = ip_address(host)
    except ValueError:
        return host or "nowhere"  # a socket of this host
    return host if address.version == 4 else str(ip_network((address, 64), strict=False))
