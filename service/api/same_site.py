"""Who may ask where no key is needed: programs on this host, and pages that the service itself serves.

A browser on this host is no guard of the open door by itself. A page of somebody else's may have it send what needs no question
beforehand, such as a form or a POST without a body; and a page whose name has come to mean 127.0.0.1 may even read the answers.
The first says where it comes from, in Origin; the second still asks under its own name, in Host.
"""

import ipaddress

from fastapi import Request

from service.api.errors import Forbidden

_ONE_KEY = "Without a key this service answers only to programs on its host that ask for localhost or a loopback address"


def refuse_other_sites(request: Request) -> None:
    """Raises Forbidden."""
    host = request.headers.get("host", "")
    if not _is_loopback(host):
        raise Forbidden(f"{_ONE_KEY}, and this asks for {host or 'no host'!r}. Make a key: `finebits keys create`.")
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        raise Forbidden(f"{_ONE_KEY}, and this comes from a page of {origin!r}. Make a key: `finebits keys create`.")


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    if name.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False
