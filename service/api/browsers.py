"""What a browser may not be talked into with a cookie, which it sends whoever's page asks it to. Where no key is needed at all,
same_site.py says who may ask.

A page of another site cannot set a header of its own without asking first, which nothing here permits, and cannot hide whose it
is: browsers add Origin to what changes something, and Sec-Fetch-Site wherever they trust the connection.
"""

from urllib.parse import urlsplit

from fastapi import Request

from service.api.errors import Forbidden

# That the dashboard's own scripts ask; its value does not matter.
OWN_PAGE = "x-finebits-page"

LOOKING = ("GET", "HEAD")


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


def _is_of(origin: str, request: Request) -> bool:
    return urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()
