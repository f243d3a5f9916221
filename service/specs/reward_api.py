"""Which reward APIs a job may name: those on the hosts that the operator lists."""

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}

# Letters, digits, and what RFC 3986 has beside them: what two parsers could read as two hosts is not among them.
_URL = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
_HOST = re.compile(r"[A-Za-z0-9.\-]+|[0-9A-Fa-f:.]+")


def hosts_of(setting: str) -> tuple[str, ...]:
    """FINEBITS_REWARD_HOSTS as it is written: hosts, each with its port or for the usual ones, with commas between them."""
    return tuple(host.strip().lower() for host in setting.split(",") if host.strip())


def why_not_allowed(url: str, hosts: Iterable[str]) -> str | None:
    """None where the URL's host and port are among `hosts`; an entry without a port stands for 80 of http and 443 of https."""
    found = _host_and_port(url)
    if found is None:
        return "A reward model of the type api is the URL of its endpoint, http or https, with neither user nor password in it."
    host, port, usual = found
    named = f"[{host}]" if ":" in host else host
    allowed = list(hosts)
    if f"{named}:{port}" in allowed or (usual and named in allowed):
        return None
    there_are = f"there are {', '.join(allowed)}" if allowed else "it lists none"
    return f"The reward API's host {named}:{port} is not among the operator's FINEBITS_REWARD_HOSTS; {there_are}."


# Names under which a query has what nobody else should read.
_NAMES_OF_SECRETS = re.compile(r"key|token|secret|passw|pwd|sig|auth|cred", re.IGNORECASE)


def secret_in(url: str) -> str | None:
    """The name of the first parameter of the query that looks like a credential, which would be stored and shown with the URL."""
    names = (name for name, _ in parse_qsl(url.partition("?")[2], keep_blank_values=True))
    return next((name for name in names if _NAMES_OF_SECRETS.search(name)), None)


def _host_and_port(url: str) -> tuple[str, int, bool] | None:
    """(host, port, whether the port is the scheme's own)"""
    if not _URL.fullmatch(url):
        return None
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in DEFAULT_PORTS or "@" in parts.netloc or not host or not _HOST.fullmatch(host) or parts.fragment:
        return None
    usual = DEFAULT_PORTS[parts.scheme]
    return host, usual if port is None else port, port in (None, usual)
