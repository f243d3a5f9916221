"""One POST to a receiver that nobody here knows: to the address that was looked at, within a time, and no further.

The name is looked up once, at the moment of connecting, and the connection goes to the address that was found good: a name that
means another address a moment later leads nowhere else. Redirects are answers like any other, and are not followed; no proxy of
the environment stands between. httpcore2 is what httpx2 stands on, and lets a caller make the connection.
"""

import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Any

import httpcore2
from httpcore2 import NetworkBackend, NetworkStream, SyncBackend

from service.store.webhook_deliveries import Went
from service.webhooks.addresses import Network, is_address, why_not

# For everything: the connection, TLS, the request and the answer's headers. Nobody reads the answer's body.
ANSWER_SECONDS = 15.0

# The addresses of a name, in the order in which they are to be tried.
Resolve = Callable[[str, int], Sequence[str]]


class Refused(Exception):
    """The receiver's name leads nowhere that a webhook may go."""


def resolve(host: str, port: int) -> Sequence[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Sender:
    """Posts messages. `allowed` are networks that may be reached although they are not public."""

    def __init__(
        self,
        allowed: Sequence[Network] = (),
        answer_seconds: float = ANSWER_SECONDS,
        resolve: Resolve = resolve,
        trusted: ssl.SSLContext | None = None,
    ):
        self._allowed = allowed
        self._answer_seconds = answer_seconds
        self._resolve = resolve
        self._trusted = trusted or ssl.create_default_context()

    def post(self, url: str, headers: dict[str, str], body: bytes) -> Went:
        """How it went, whatever happens. `detail` never has what the receiver said: it may not be the asker's to read."""
        began_at = monotonic()
        try:
            status, retry_after = self._posted(url, headers, body, began_at + self._answer_seconds)
        except Refused as error:
            return Went(None, str(error), monotonic() - began_at)
        except (httpcore2.TimeoutException, TimeoutError):
            return Went(None, f"There was no answer within {self._answer_seconds:g} seconds.", monotonic() - began_at)
        except socket.gaierror:
            return Went(None, "The host's name is not known.", monotonic() - began_at)
        except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
            return Went(None, f"The receiver cannot be reached: {_said(error)}.", monotonic() - began_at)
        return Went(status, _told(status), monotonic() - began_at, retry_after)

    def _posted(self, url: str, headers: dict[str, str], body: bytes, ends_at: float) -> tuple[int, float | None]:
        backend = _Checked(self._allowed, self._resolve, ends_at)
        limits = dict.fromkeys(("connect", "read", "write", "pool"), self._answer_seconds)
        with (
            httpcore2.ConnectionPool(ssl_context=self._trusted, network_backend=backend) as pool,
            pool.stream("POST", url, headers=[*headers.items()], content=body, extensions={"timeout": limits}) as answer,
        ):
            found = {name.lower(): value for name, value in answer.headers}
            return answer.status, _retry_after(found.get(b"retry-after"))


class _Checked(NetworkBackend):
    """Connects to addresses that may be reached, and to no others; what it connects ends in time."""

    def __init__(self, allowed: Sequence[Network], resolve: Resolve, ends_at: float):
        self._allowed = allowed
        self._resolve = resolve
        self._ends_at = ends_at
        self._plain = SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> NetworkStream:
        failure: Exception | None = None
        for address in self._reachable(host, port):
            try:
                left = _left(self._ends_at, timeout)
                return _InTime(self._plain.connect_tcp(address, port, left, local_address, socket_options), self._ends_at)
            except httpcore2.ConnectError as error:
                failure = error
        raise failure or Refused(f"{host} has no address.")

    def _reachable(self, host: str, port: int) -> list[str]:
        found = [host] if is_address(host) else self._resolve(host, port)
        reasons = {address: why_not(address, self._allowed) for address in found}
        reachable = [address for address, reason in reasons.items() if reason is None]
        if found and not reachable:
            raise Refused(f"{host} is not to be reached: {next(iter(reasons.values()))}")
        return reachable


class _InTime(NetworkStream):
    """A connection whose every part ends at one moment: one that sends a byte now and then would never be late otherwise."""

    def __init__(self, stream: NetworkStream, ends_at: float):
        self._stream = stream
        self._ends_at = ends_at

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._ends_at, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._ends_at, timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> NetworkStream:
        return _InTime(self._stream.start_tls(ssl_context, server_hostname, _left(self._ends_at, timeout)), self._ends_at)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(ends_at: float, timeout: float | None) -> float:
    """Raises TimeoutError."""
    left = ends_at - monotonic()
    if left <= 0:
        raise TimeoutError
    return left if timeout is None else min(left, timeout)


def _told(status: int) -> str:
    if 200 <= status < 300:
        return "Delivered."
    if 300 <= status < 400:
        return f"The receiver sends on to another place (status {status}), which is not followed."
    return f"The receiver answered with the status {status}."


def _said(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")


def _retry_after(header: bytes | None) -> float | None:
    """In seconds, of either form that HTTP has (RFC 9110, section 10.2.3); None where there is none that can be read."""
    if header is None:
        return None
    text = header.decode("latin-1")
    if text.strip().isdecimal():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
