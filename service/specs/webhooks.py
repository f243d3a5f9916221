"""What may be asked of a webhook: where it goes, and of what it tells."""

import ipaddress
import re
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from service.specs.base import Group
from service.specs.read import refusal_of
from service.specs.refusals import SpecRefused
from service.specs.tokens import HIDDEN

# The first three are OpenAI's, so that its client reads them.
Event = Literal[
    "fine_tuning.job.succeeded",
    "fine_tuning.job.failed",
    "fine_tuning.job.cancelled",
    "fine_tuning.job.alert",
    "fine_tuning.job.checkpoint",
]

OF_AN_END: tuple[Event, ...] = ("fine_tuning.job.succeeded", "fine_tuning.job.failed", "fine_tuning.job.cancelled")


def _deliverable(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise PydanticCustomError("url", "{why}", {"why": str(error)}) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not url.isascii() or not url.isprintable():
        raise PydanticCustomError("url", "Give an http or https URL with a host, as https://example.com/hook, in ASCII")
    if " " in url or "@" in parts.netloc or parts.fragment:
        raise PydanticCustomError("url", "The URL may have no user, no space and no fragment")
    return url


Url = Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_deliverable)]
Events = Annotated[list[Event], Field(min_length=1, max_length=5)]


class WebhookSpec(Group):
    """The body of POST /webhooks."""

    url: Url = Field(description="Where events are posted to. Private addresses only where the operator allows them.")
    events: Events = Field(default=list(OF_AN_END), description="Of what it tells; the three ends of a job when not given.")
    description: str | None = Field(default=None, max_length=500, description="For people.")


class WebhookChanges(Group):
    """A merge patch (RFC 7396): what is not named stays."""

    url: Url | None = Field(default=None, description="Where events are posted to from now on, earlier ones too.")
    events: Events | None = Field(default=None, description="Of what it tells from now on.")
    description: str | None = Field(default=None, max_length=500, description="For people; null takes it away.")
    enabled: bool | None = Field(default=None, description="Off: it is told nothing, and what waits is given up.")

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        for name in ("url", "events", "enabled"):
            if name in self.model_fields_set and getattr(self, name) is None:
                raise PydanticCustomError("null", "{name} cannot be null", {"name": name})
        if not self.model_fields_set:
            raise PydanticCustomError("nothing", "Give url, events, description or enabled")
        return self


_LIKE_A_CREDENTIAL = re.compile(r"(?=[^/]*[0-9])(?=[^/]*[A-Za-z])[^/]{20,}")


def shown(url: str) -> str:
    """What may be seen of a URL: receivers put their credentials into its query, or into its path as a long word with digits."""
    parts = urlsplit(url)
    path = "/".join(HIDDEN if _LIKE_A_CREDENTIAL.fullmatch(word) else word for word in parts.path.split("/"))
    query = "&".join(f"{name}={HIDDEN}" if is_set else HIDDEN for name, is_set, _ in _pairs(parts.query))
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))


def _pairs(query: str) -> list[tuple[str, str, str]]:
    return [pair.partition("=") for pair in query.split("&") if pair]


AnyBody = TypeVar("AnyBody", bound=Group)


def read_webhook(kind: type[AnyBody], document: Any) -> AnyBody:
    """Raises SpecRefused with everything that is wrong."""
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise SpecRefused(refusal_of(details) for details in error.errors(include_url=False)) from None


def literal_address(url: str) -> str | None:
    """The address that a URL has in place of a name."""
    host = urlsplit(url).hostname or ""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None
