"""The service as its clients see it, and its workers."""

import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2

from service.checkup.finding import Finding, fault, note, warning, well
from service.client import Client, ClientError, Problem
from service.specs.version import SPEC_VERSION

PATIENCE_SECONDS = 5.0

# What mends what GET /readyz has found.
MENDS = {
    "database": "See that the database that the service was started with is up.",
    "broker": "See that the broker that the service was started with is up.",
    "migrations": "finebits migrate, with the settings of the service.",
    "artifacts": "See that the store of FINEBITS_ARTIFACTS_URL can be reached with its keys.",
}


def running(url: str, api_key: str | None, version: str) -> Iterator[Finding]:
    """`version`: of this client."""
    try:
        ready = httpx2.get(f"{url.rstrip('/')}/readyz", timeout=PATIENCE_SECONDS, trust_env=False)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        yield from _away(url, error)
        return
    checks = _checks(ready)
    if checks is None:
        yield fault("service", f"What answers at {url} is not Finebits.", "Give its address with --url, or in FINEBITS_URL.")
        return
    for name in (name for name, holds in checks.items() if not holds):
        yield fault("service", f"{url} answers, and is not ready: {name}.", MENDS.get(name, "Its log says more."))
    if all(checks.values()):
        yield well("service", f"{url} is ready.")
    yield from _version(url, version)
    with Client(url, api_key, timeout=PATIENCE_SECONDS, longest_wait=0) as client:
        yield from _asked(client, version)


def _version(url: str, version: str) -> Iterator[Finding]:
    """Of the service, which its contract names."""
    try:
        theirs = httpx2.get(f"{url.rstrip('/')}/openapi.json", timeout=PATIENCE_SECONDS, trust_env=False).json()["info"][
            "version"
        ]
    except (httpx2.HTTPError, ValueError, KeyError, TypeError):
        return
    if theirs != version:
        mend = "Bring both to one version: docs/how-to/upgrade.md."
        yield warning("versions", f"The service is Finebits {theirs}, and this is {version}.", mend)


def _away(url: str, error: Exception) -> Iterator[Finding]:
    parts = urlsplit(url)
    if parts.hostname and _listens(parts.hostname, parts.port or 80):
        mend = "Stop that one; or start Finebits on another port (FINEBITS_PORT), and name it in FINEBITS_URL."
        yield fault("service", f"Something listens at {url}, and it does not speak HTTP: {error}.", mend)
    else:
        mend = "finebits up, or docker compose up -d; where it is elsewhere, --url or FINEBITS_URL."
        yield warning("service", f"Nothing answers at {url}.", mend)


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), PATIENCE_SECONDS).close()
    except OSError:
        return False
    return True


def _checks(response: httpx2.Response) -> dict[str, bool] | None:
    try:
        checks = response.json()["checks"]
    except (ValueError, KeyError, TypeError):
        return None
    return checks if isinstance(checks, dict) else None


def _asked(client: Client, version: str) -> Iterator[Finding]:
    try:
        workers = client.workers()
    except Problem as error:
        if error.status in (401, 403):
            yield fault("key", error.detail or error.title, "Give a key with --api-key, or in FINEBITS_API_KEY.")
        return
    except ClientError:
        return
    up = [worker for worker in workers if worker["status"] in ("up", "draining")]
    if not up:
        yield warning("workers", "None is up: jobs wait.", "finebits up runs one; on another host, python -m worker.")
    for worker in up:
        yield from _of_worker(worker, version)
    for worker in (one for one in workers if one["status"] == "lost"):
        yield note(
            "workers", f"{worker['name']} was last heard of at {worker['heartbeat_at'][:19]}.", "Start it again, or forget it."
        )


def _of_worker(worker: Any, version: str) -> Iterator[Finding]:
    name = worker["name"]
    for slot in (slot for slot in worker["slots"] if slot["trouble"]):
        yield warning(
            "workers", f"Slot {slot['position']} of {name}: {slot['trouble']}.", "See that host; no job is put there now."
        )
    if SPEC_VERSION not in worker["spec_versions"]:
        mend = "Upgrade it: docs/how-to/upgrade.md."
        yield fault("versions", f"{name} cannot read jobs of this version ({SPEC_VERSION}).", mend)
    elif worker["software"] != version:
        mend = "Bring both to one version: docs/how-to/upgrade.md."
        yield warning("versions", f"{name} is Finebits {worker['software']}, and this is {version}.", mend)
    elif worker["draining"]:
        yield note("workers", f"{name} takes no new jobs.", f"finebits drain {name} --undo")
    else:
        yield well("workers", f"{name} is up, with {len(worker['slots'])} slots.")
