"""The dashboard: files that a browser shows, served as they lie in service/web.

They hold nothing of anyone's, so whoever reaches the service may have them; what they show is asked of the API, with its keys.
"""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from service.api.form import form

FOLDER = Path(__file__).parents[1] / "web"

# What is served, and as what: browsers run no module, and apply no style, of another type.
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}
AS_THEY_ARE = (".woff2",)  # compressed already

# Nothing comes from another host and nothing is sent to one, no script or style stands in the page itself, and nobody frames it.
# Pictures may come from the page's own memory: that is how a plot becomes a PNG.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data: blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    # kept by the browser and asked after each time: a new version of the service is a new page at once
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)


@router.api_route("/", methods=["GET", "HEAD"])
def get_dashboard(request: Request) -> Response:
    """The page, for whoever takes HTML; a client that asks for JSON is told that nothing is here, as ever."""
    if not _takes_html(request):
        raise HTTPException(404, headers={"Vary": "Accept"})
    return _answer(request, _file(FOLDER / "index.html"), TYPES[".html"], {"Vary": "Accept, Accept-Encoding"})


@router.get("/web/job.json")
def get_job_form(request: Request) -> Response:
    """What the form for jobs is made of."""
    return _answer(request, _form(), TYPES[".json"], {"Vary": "Accept-Encoding"})


@router.api_route("/web/{name:path}", methods=["GET", "HEAD"])
def get_dashboard_file(request: Request, name: str) -> Response:
    path = (FOLDER / name).resolve()
    if not path.is_relative_to(FOLDER) or path.suffix not in TYPES or not path.is_file():
        raise HTTPException(404)
    return _answer(request, _file(path), TYPES[path.suffix], {"Vary": "Accept-Encoding"})


@dataclass(frozen=True)
class _File:
    """What is served; `packed` is gzip's, None where that is no smaller."""

    body: bytes
    packed: bytes | None
    tag: str


_read: dict[Path, tuple[int, _File]] = {}


def _answer(request: Request, file: _File, kind: str, headers: dict[str, str]) -> Response:
    headers = {**HEADERS, **headers, "ETag": file.tag}
    if file.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if file.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=kind)
    return Response(file.body, headers=headers, media_type=kind)


def _file(path: Path) -> _File:
    """Read once, and again when it has changed."""
    changed = path.stat().st_mtime_ns
    known = _read.get(path)
    if known is None or known[0] != changed:
        known = _read[path] = (changed, _packed(path.read_bytes(), path.suffix not in AS_THEY_ARE))
    return known[1]


@cache
def _form() -> _File:
    return _packed(form())


def _packed(body: bytes, is_packed: bool = True) -> _File:
    packed = gzip.compress(body, 9, mtime=0) if is_packed else body
    tag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
    return _File(body, packed if len(packed) < len(body) else None, tag)


def _takes_html(request: Request) -> bool:
    accepted = request.headers.get("accept", "*/*")
    return "text/html" in accepted or ("*/*" in accepted and "json" not in accepted)
