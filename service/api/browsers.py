"""What a browser may not be talked into. It sends a cookie, or reaches what is open on its own host, whoever's page asks it to.

A page of another site cannot set a header of its own without asking first, which nothing here permits, and cannot hide whose it
is: browsers add Origin to what changes something, and Sec-Fetch-Site wherever they trust the connection.
"""

import ipaddress
from urllib.parse import urlsplit

from fastapi import Request

from service.api.errors import Forbidden

# That the dashboard's own scripts ask; its value does not matter.
OWN_PAGE = "x-finebits-page"

LOOKING = ("GET", "HEAD")

_ONE_KEY = "Without a key this service answers only to programs on its host that ask for localhost or a loopback address"


def refuse_all_but_own_page(request: Request) -> None:
    """Of a request with a cookie that would change something. Raises Forbidden."""
    if request.method in LOOKING:
        return
    refuse_other_pages(request)
    if OWN_PAGE not in request.headers:
        raise Forbidden("A cookie opens this to the service's own page alone; programs send a key.")


def refuse_other_pages(request: Request) -> None:
    """Of a request that would change something, which a page of another site had the browser send. Raises Forbidden."""
    if request.method in LOOKING:
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    is_own = site in ("same-origin", "none") if site is not None else origin is None or _is_of(origin, request)
    if not is_own:
        raise Forbidden("Another site's page asked for this; only the service's own may.")


def refuse_other_sites(request: Request) -> None:
    """Where no key is needed, and all that asks is on this host: a page whose name has come to mean 127.0.0.1 still asks under
    its own name, in Host, and would be the service's own page to its browser; a page of another site says whose it is, in
    Origin. Raises Forbidden."""
    host = request.headers.get("host", "")
    if not _is_loopback(host):
        raise Forbidden(f"{_ONE_KEY}, and this asks for {host or 'no host'!r}. Make a key: `finebits keys create`.")
    origin = request.headers.get("origin")
    if origin is not None and not _is_of(origin, request):
        raise Forbidden(f"{_ONE_KEY}, and this comes from a page of {origin!r}. Make a key: `finebits keys create`.")


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    if name.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def _is_of(origin: str, request: Request) -> bool:
    return urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()
