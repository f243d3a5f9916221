"""What can go wrong between a client and its service.

ClientError
├── Unreachable              nothing answers, or what answers is not Finebits
├── Problem                  Finebits refuses, and says why
├── Corrupt                  a file that was downloaded is not what was stored
└── NotEnded                 a job that was waited for goes on still
"""

from typing import Any


class ClientError(Exception):
    """Something between this client and its service went wrong; the message is for people."""


class Unreachable(ClientError):
    """Nothing answers, or what answers is not Finebits."""


class Problem(ClientError):
    """Finebits refuses. `detail` is its sentence; `errors` are the places in the request that are wrong, as {pointer, detail}.

    `retry_after`: in how many seconds the same request may go well, where the service says so.
    """

    def __init__(self, status: int, document: dict[str, Any], retry_after: float | None = None):
        self.status = status
        self.title = str(document.get("title") or f"HTTP {status}")
        self.detail = str(document.get("detail") or "")
        self.code = str(document.get("code") or "")
        self.request_id = str(document.get("request_id") or "")
        self.errors: list[dict[str, str]] = document.get("errors") or []
        self.retry_after = retry_after
        super().__init__(self.detail or self.title)

    @property
    def is_passing(self) -> bool:
        """Whether the same request may go well in a moment."""
        return self.status in (429, 502, 503, 504) or self.code in ("idempotency_busy", "offset_conflict")


class Corrupt(ClientError):
    """A file that was downloaded is not what was stored."""


class NotEnded(ClientError):
    """A job that was waited for goes on still."""
