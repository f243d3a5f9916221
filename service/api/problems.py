"""Every error as an RFC 9457 problem document.

To add an error: one line in STATUS. A test holds the table against the error trees.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from math import ceil
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.routing import Match

from service.api import errors as api
from service.api.etags import quoted
from service.api.openai import errors as openai
from service.library.errors import LibraryError
from service.specs.redaction import redacted
from service.specs.refusals import SpecRefused
from service.storage import errors as storage
from service.store import errors as store

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

# A body with a hundred thousand unknown keys is not answered with as many errors.
MOST_ERRORS = 100

# Of a sentence or a pointer, in which what was sent may stand again.
MOST_CHARACTERS = 2000


class Code(StrEnum):
    """What went wrong, for programs. New codes may come; a code's meaning never changes."""

    INVALID_JOB = "invalid_job"  # the document is not a job that can run; `errors` says every place and why
    INVALID_PARAMETER = "invalid_parameter"  # a parameter of the query, the path or the headers; `errors` says which
    MALFORMED_BODY = "malformed_body"  # not JSON or YAML; `line` and `column` say where
    MALFORMED_REQUEST = "malformed_request"  # not a request that can be read
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"  # neither JSON nor YAML
    BODY_TOO_LARGE = "body_too_large"  # larger than FINEBITS_MAX_BODY_BYTES
    UNAUTHORIZED = "unauthorized"  # no bearer key, or another
    FORBIDDEN = "forbidden"  # the key has not the scope that this needs
    QUOTA_REACHED = "quota_reached"  # the owner has as much as its quota allows; Retry-After says when to ask again
    RATE_LIMITED = "rate_limited"  # too many requests of one key or address; Retry-After says when to ask again
    NOT_FOUND = "not_found"  # no such address, job, file or part of a job
    METHOD_NOT_ALLOWED = "method_not_allowed"  # the address is there, the method is not; `Allow` says which are
    GONE = "gone"  # the file was there, and is no more
    RANGE_NOT_SATISFIABLE = "range_not_satisfiable"  # the file is shorter than that
    STATE_CONFLICT = "state_conflict"  # the job's present `state` does not allow this
    IN_USE = "in_use"  # jobs that have not ended need it; `jobs` says which
    OFFSET_CONFLICT = "offset_conflict"  # the piece begins elsewhere than the file ends; `offset` says where it does
    PRECONDITION_FAILED = "precondition_failed"  # If-Match names another version than the job has now
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"  # the key was used with another request
    IDEMPOTENCY_BUSY = "idempotency_busy"  # the key is being answered now; ask again
    ANSWER_LOST = "answer_lost"  # the key was answered with a secret that is not kept
    BAD_CURSOR = "bad_cursor"  # `after` is not of this list
    LEASE_LOST = "lease_lost"  # the attempt no longer holds the job
    WORKER_CONFLICT = "worker_conflict"  # another worker is registered under that name
    NO_WORKER_FREE = "no_worker_free"  # no worker is there, or came free in time; Retry-After says when to ask again
    NOT_READY = "not_ready"  # the service cannot take jobs now; `checks` says why
    UNAVAILABLE = "unavailable"  # the database or the artifact store cannot be reached now; ask again
    INTERNAL_ERROR = "internal_error"  # a fault of ours; the log has it under the request id


STATUS: dict[type[Exception], tuple[int, Code]] = {
    SpecRefused: (422, Code.INVALID_JOB),
    LibraryError: (422, Code.INVALID_JOB),  # a file that changed between being checked and being counted
    store.NotFound: (404, Code.NOT_FOUND),
    store.StateConflict: (409, Code.STATE_CONFLICT),
    store.InUse: (409, Code.IN_USE),
    store.QuotaReached: (429, Code.QUOTA_REACHED),
    store.StaleVersion: (412, Code.PRECONDITION_FAILED),
    store.IdempotencyMismatch: (422, Code.IDEMPOTENCY_MISMATCH),
    store.IdempotencyBusy: (409, Code.IDEMPOTENCY_BUSY),
    store.AnswerLost: (409, Code.ANSWER_LOST),
    store.BadCursor: (422, Code.BAD_CURSOR),
    store.LeaseLost: (409, Code.LEASE_LOST),
    store.WebhookDisabled: (409, Code.STATE_CONFLICT),
    store.WorkerIsThere: (409, Code.WORKER_CONFLICT),
    store.WorkerReplaced: (409, Code.WORKER_CONFLICT),
    api.Unauthorized: (401, Code.UNAUTHORIZED),
    api.Forbidden: (403, Code.FORBIDDEN),
    api.TooManyRequests: (429, Code.RATE_LIMITED),
    api.UnreadableBody: (400, Code.MALFORMED_BODY),
    api.UnreadableRange: (400, Code.MALFORMED_REQUEST),
    api.UnsupportedMediaType: (415, Code.UNSUPPORTED_MEDIA_TYPE),
    api.BodyTooLarge: (413, Code.BODY_TOO_LARGE),
    api.OffsetConflict: (409, Code.OFFSET_CONFLICT),
    api.BadParameter: (422, Code.INVALID_PARAMETER),
    api.NoSuchThing: (404, Code.NOT_FOUND),
    api.Gone: (410, Code.GONE),
    api.RangeNotSatisfiable: (416, Code.RANGE_NOT_SATISFIABLE),
    api.NoWorkerFree: (503, Code.NO_WORKER_FREE),
    api.NotReady: (503, Code.NOT_READY),
    storage.Missing: (410, Code.GONE),
    storage.StorageError: (503, Code.UNAVAILABLE),
    OperationalError: (503, Code.UNAVAILABLE),
    PoolTimeout: (503, Code.UNAVAILABLE),
}

# Of the errors that are raised by the framework, by status.
_FRAMEWORK = {404: Code.NOT_FOUND, 405: Code.METHOD_NOT_ALLOWED, 500: Code.INTERNAL_ERROR}


class ErrorItem(BaseModel):
    """One thing that is wrong, and where."""

    pointer: str = Field(description="A JSON pointer into the document, or /query/..., /header/..., /path/... and a name.")
    detail: str


class Problem(BaseModel):
    """RFC 9457. Some codes have members of their own: `state`, `jobs`, `line` and `column`, `checks`."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="urn:finebits:problem: and the code.")
    title: str
    status: int
    detail: str
    instance: str = Field(description="The address that was asked for.")
    code: Code
    request_id: str = Field(description="Also in x-request-id; the service's log has it.")
    errors: list[ErrorItem] = Field(description="Empty where no place in the request is to blame.")


def install(app: FastAPI) -> None:
    """Makes every error of the application a problem document; `app.state.refused` notes which requests are refused."""
    for kind in STATUS:
        app.add_exception_handler(kind, _noted(_known))
    app.add_exception_handler(RequestValidationError, _noted(_invalid_parameters))
    app.add_exception_handler(HTTPException, _noted(_of_framework))
    app.add_exception_handler(Exception, _unexpected)


def declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for OpenAPI."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _codes_of(status), "content": content} for status in statuses}


def problem(
    scope: Any,
    status: int,
    code: Code,
    detail: str,
    errors: Sequence[dict[str, str]] = (),
    headers: dict[str, str] | None = None,
    **members: Any,
) -> "ProblemResponse":
    """The answer to a request that goes wrong."""
    request_id = scope.get("state", {}).get("request_id", "")
    # what was sent is said again in many a sentence
    detail = _said(detail)
    errors = [{name: _said(text) for name, text in error.items()} for error in list(errors)[:MOST_ERRORS]]
    if openai.is_here(scope["path"]):
        members["error"] = openai.error_of(status, code, detail, errors)
        headers = {**openai.headers_of(status, code == Code.IDEMPOTENCY_BUSY), **(headers or {})}
    document = {
        "type": f"urn:finebits:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "detail": detail,
        "instance": redacted(scope["path"]),
        "code": code,
        "request_id": request_id,
        "errors": errors,
        **members,
    }
    # set here too: the answer to an unexpected error is sent from outside the middleware that sets it on all others
    answer_headers = {"x-request-id": request_id, **(headers or {})}
    response = ProblemResponse(orjson.dumps(document, default=str), status, answer_headers, MEDIA_TYPE)
    response.code = code
    return response


class ProblemResponse(Response):
    """A problem document, and its code."""

    code: Code


Answering = Callable[[Request, Exception], Awaitable[ProblemResponse]]


def _noted(answer: Answering) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answered(request: Request, error: Exception) -> Response:
        response = await answer(request, error)
        request.app.state.refused.note(request.scope, response.status_code, str(response.code))
        return response

    return answered


async def _known(request: Request, error: Exception) -> ProblemResponse:
    status, code = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    match error:
        case SpecRefused(refusals=refusals):
            found = [{"pointer": refusal.pointer, "detail": refusal.detail} for refusal in refusals[:MOST_ERRORS]]
            return problem(request.scope, status, code, _summary(found, len(refusals)), found)
        case store.StateConflict(state=state):
            return problem(request.scope, status, code, str(error), state=state)
        case store.InUse(jobs=users):
            return problem(request.scope, status, code, str(error), jobs=users)
        case store.StaleVersion(version=version):
            return problem(request.scope, status, code, str(error), headers={"ETag": quoted(f"v{version}")})
        case store.BadCursor():
            return problem(request.scope, status, code, str(error), [{"pointer": "/query/after", "detail": str(error)}])
        case store.QuotaReached(retry_seconds=seconds):
            return problem(request.scope, status, code, str(error), headers={"Retry-After": str(ceil(seconds))})
        case store.IdempotencyBusy():
            return problem(request.scope, status, code, str(error), headers={"Retry-After": "1"})
        case api.ApiError(headers=headers, members=members):
            return problem(request.scope, status, code, str(error), headers=headers, **members)
        case storage.StorageError() if status == 503:
            logger.error("request %s: %s", request.state.request_id, error)
            detail = "The artifact store cannot be reached now; ask again in a moment."
            return problem(request.scope, status, code, detail, headers={"Retry-After": "5"})
        case OperationalError() | PoolTimeout():
            logger.error("request %s: the database failed: %s", request.state.request_id, error)
            detail = "The database cannot be reached now; ask again in a moment."
            return problem(request.scope, status, code, detail, headers={"Retry-After": "2"})
    return problem(request.scope, status, code, str(error))


async def _invalid_parameters(request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, RequestValidationError)
    found = [{"pointer": "/" + "/".join(map(str, one["loc"])), "detail": f"{one['msg']}."} for one in error.errors()]
    return problem(request.scope, 422, Code.INVALID_PARAMETER, _summary(found, len(found)), found)


async def _of_framework(request: Request, error: Exception) -> ProblemResponse:
    """Errors of the routing, and of a framework that cannot read the request."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    detail = str(error.detail)
    if error.status_code == 404:
        detail = f"There is nothing at {request.url.path}."
    if error.status_code == 405:
        headers = {"Allow": ", ".join(_allowed(request))}
        detail = f"{request.method} is not possible at {request.url.path}; possible: {headers['Allow']}."
    code = _FRAMEWORK.get(error.status_code, Code.MALFORMED_REQUEST)
    return problem(request.scope, error.status_code, code, detail, headers=headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    # the server logs the traceback; this line says whose it is
    logger.error("request %s ended in an unexpected %s", request.scope.get("state", {}).get("request_id"), type(error).__name__)
    detail = "Something went wrong on the service's side; its log has more under the request id."
    return problem(request.scope, 500, Code.INTERNAL_ERROR, detail)


def _said(text: str) -> str:
    """Without a credential that stood in the wrong place, and no longer than somebody reads."""
    return redacted(text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…")


def _allowed(request: Request) -> list[str]:
    """All methods of an address. The router knows only those of the first route that fits."""
    scope = dict(request.scope)
    allowed = {
        method
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
        for route in request.app.routes
        if route.matches({**scope, "method": method})[0] is Match.FULL
    }
    return sorted(allowed)


def _summary(found: Sequence[dict[str, str]], number: int) -> str:
    first = f"{found[0]['pointer'] or 'The document'}: {found[0]['detail']}"
    return first if number == 1 else f"{first} And {number - 1} more; see errors."


def _codes_of(status: int) -> str:
    codes = [code for known, code in STATUS.values() if known == status]
    codes += [code for known, code in _FRAMEWORK.items() if known == status]
    return "Code: " + ", ".join(dict.fromkeys(codes)) + "."
