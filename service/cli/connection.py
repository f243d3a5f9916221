"""The service that a command speaks to, and its refusals as people read them, or with --json as programs do."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from service.cli.exit_codes import ExitCode
from service.cli.screen import give_up

if TYPE_CHECKING:  # what speaks HTTP is imported when a command has something to say
    from service.client import Client, ClientError

LONGEST_WAIT = 5  # seconds; whoever looks at a terminal would rather be told than wait

PASSING = (502, 503, 504)


@dataclass(frozen=True)
class Connection:
    """Where the service is. The command line's options, or FINEBITS_URL and FINEBITS_API_KEY."""

    url: str
    api_key: str | None


@contextmanager
def connected(context: typer.Context) -> "Iterator[Client]":
    """A client of the command's service. What the service refuses ends the command with a sentence."""
    from service.client import Client, ClientError

    connection: Connection = context.obj
    as_json = bool(context.params.get("as_json"))
    try:
        client = Client(connection.url, connection.api_key, longest_wait=LONGEST_WAIT)
    except ClientError as error:  # what was given is no address
        _give_up(error, ExitCode.USAGE, as_json)
    try:
        with client:
            yield client
    except ClientError as error:
        _give_up(error, code_of(error), as_json)


def _give_up(error: "ClientError", code: ExitCode, as_json: bool) -> NoReturn:
    give_up(json.dumps(document_of(error, code)) if as_json else told(error), code)


def code_of(error: "ClientError") -> ExitCode:
    from service.client import Corrupt, Problem

    if isinstance(error, Corrupt):
        return ExitCode.FAILED
    if isinstance(error, Problem) and error.status not in PASSING:
        return ExitCode.REFUSED
    return ExitCode.UNREACHABLE


def told(error: "ClientError") -> str:
    """The error, and each place that is wrong on a line of its own."""
    from service.client import Problem

    if not isinstance(error, Problem):
        return str(error)
    head = error.title if error.errors or not error.detail else f"{error.title}: {error.detail}"  # the detail sums up the errors
    places = [f"  {place.get('pointer') or '/'}: {place.get('detail', '')}" for place in error.errors]
    hint = ["Give the key with --api-key, or in FINEBITS_API_KEY."] if error.status == 401 else []
    return "\n".join([head, *places, *hint])


def document_of(error: "ClientError", code: ExitCode) -> dict[str, Any]:
    """The same for programs, on a line of standard error."""
    from service.client import Problem

    answered = {"status": error.status, "code": error.code, "errors": error.errors} if isinstance(error, Problem) else {}
    return {"error": str(error), "exit_code": int(code), **answered}
