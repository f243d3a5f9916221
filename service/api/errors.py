"""What the API itself refuses, beside what the store and the spec do.

ApiError
├── Unauthorized             no bearer key, or not the right one
├── Forbidden                the key is one, and not for this
├── TooManyRequests          an address has sent too many keys that are none; the header Retry-After says when to ask again
├── UnreadableBody           the body is no JSON or YAML; `line` and `column` say where
├── UnreadableRange          the header Range is no range of bytes
├── UnsupportedMediaType     the body is of a kind that is not read
├── BodyTooLarge             the body is larger than the operator allows
├── OffsetConflict           a piece of a file begins elsewhere than the file ends; `offset` says where it does
├── BadParameter             a parameter of the request has no such value; `pointer` says which
├── NoSuchThing              the job is there, and has no such part
├── Gone                     the file was there, and is no more
├── RangeNotSatisfiable      the file is shorter than the range that is asked for
├── NoWorkerFree             what must be done at once cannot be; the header Retry-After says when to ask again
└── NotReady                 the service cannot take jobs now; `checks` says why
"""

from typing import Any


class ApiError(Exception):
    """The API refuses. `members` and `headers` go into the answer as they stand."""

    def __init__(self, sentence: str, headers: dict[str, str] | None = None, **members: Any):
        self.headers = headers or {}
        self.members = members
        super().__init__(sentence)


class Unauthorized(ApiError):
    """There is no bearer key, or not the right one. `caller`: whose it was, of one that opens nothing any more."""

    caller: Any = None


class Forbidden(ApiError):
    """The key is one, and has not the scope that this needs."""


class TooManyRequests(ApiError):
    """Too many keys that open nothing came from this address."""


class UnreadableBody(ApiError):
    """The body cannot be parsed."""


class UnreadableRange(ApiError):
    """The header Range is no range of bytes."""


class UnsupportedMediaType(ApiError):
    """The body is of a kind that is not read."""


class BodyTooLarge(ApiError):
    """The body is larger than the operator allows."""


class OffsetConflict(ApiError):
    """A piece of a file does not begin where the file ends."""


class BadParameter(ApiError):
    """A parameter of the request has no such value."""

    def __init__(self, pointer: str, sentence: str):
        super().__init__(sentence, errors=[{"pointer": pointer, "detail": sentence}])


class NoSuchThing(ApiError):
    """The job has no such part."""


class Gone(ApiError):
    """The file was there, and is no more."""


class RangeNotSatisfiable(ApiError):
    """The file is shorter than the range that is asked for."""


class NoWorkerFree(ApiError):
    """No worker is free to do at once what somebody waits for."""


class NotReady(ApiError):
    """The service cannot take jobs now."""
