"""What may not be read by others, taken out of lines that people and programs read: what looks like a credential, and control
characters, with which a line could pass for two, or tell a terminal what to do.

What a job brings as a secret never gets here. This is for what is elsewhere by mistake: in a URL, a header, a library's words.
"""

import re
from collections.abc import Collection, Iterator
from typing import Any

STARS = "**********"

# Each with what stays of it; all take a time that grows with the text alone. The shapes are those of keys of this service and of
# its webhooks, and of Hugging Face's, OpenAI's, GitHub's and AWS's.
_SHAPES = (
    (re.compile(r"\b((?:bearer|basic) )[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\1{STARS}"),
    (re.compile(r"\b(fb_[a-z2-7]{8}_)[a-z2-7]{32}"), rf"\1{STARS}"),
    (re.compile(r"\b(hf_|api_org_|ghp_)[A-Za-z0-9]{16,}"), rf"\1{STARS}"),
    (re.compile(r"\b(whsec_|sk-|github_pat_)[A-Za-z0-9_/+=-]{16,}"), rf"\1{STARS}"),
    (re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"), rf"\1{STARS}"),
    (re.compile(r"\b([a-z][a-z0-9+.-]{0,20}://)[^\s/?#@\"']{1,500}@", re.IGNORECASE), rf"\1{STARS}@"),
    (
        re.compile(
            r"([?&][^=&\s\"']{0,40}(?:key|token|secret|passw|pwd|signature|auth|cred)[^=&\s\"']{0,40}=)[^&\s\"'#]+", re.IGNORECASE
        ),
        rf"\1{STARS}",
    ),
)

# Nobody writes these by chance.
_CREDENTIAL = re.compile(
    r"\bfb_[a-z2-7]{8}_[a-z2-7]{32}\b|\bwhsec_[A-Za-z0-9+/]{24,}|\bhf_[A-Za-z0-9]{30,}\b|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
)

# All that is no character of a text: C0 but for the tabulator and the end of a line, DEL, C1; and what turns the direction of
# writing around, or ends a line in Unicode.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def redacted(text: str) -> str:
    """The text with stars where it looks like a credential."""
    for shape, stays in _SHAPES:
        text = shape.sub(stays, text)
    return text


def credentials_in(document: dict[str, Any], but: Collection[str]) -> Iterator[tuple[str | int, ...]]:
    """Where a document has a key or a token by its shape, whatever it stands in, other than the fields that are for them."""
    todo: list[tuple[tuple[str | int, ...], Any]] = [((), document)]
    while todo:
        place, value = todo.pop()
        if isinstance(value, str) and _CREDENTIAL.search(value):
            yield place
        elif isinstance(value, dict):
            todo += [((*place, key), value[key]) for key in reversed(value) if key not in but]
        elif isinstance(value, list):
            todo += [((*place, index), value[index]) for index in reversed(range(len(value)))]


def visible(text: str) -> str:
    """The text with control characters written out, ends of lines left."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
