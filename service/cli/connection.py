"""The service that a command speaks to, and its refusals as people read them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import typer

from service.cli.screen import give_up
from service.client import Client, ClientError, Problem

# The exit code of a command whose service refused or did not answer; 0 to 2 are a watched job's.
REFUSED = 3

LONGEST_WAIT = 5  # seconds; whoever looks at a terminal would rather be told than wait


@dataclass(frozen=True)
class Connection:
    """Where the service is. The command line's options, or FINEBITS_URL and FINEBITS_API_KEY."""

    url: str
    api_key: str | None


@contextmanager
def connected(context: typer.Context) -> Iterator[Client]:
    """A client of the command's service. What the service refuses ends the command with a sentence."""
    connection: Connection = context.obj
    try:
        with Client(connection.url, connection.api_key, longest_wait=LONGEST_WAIT) as client:
            yield client
    except ClientError as error:
        give_up(told(error), REFUSED)


def told(error: ClientError) -> str:
    """The error, and each place that is wrong on a line of its own."""
    if not isinstance(error, Problem):
        return str(error)
    head = error.title if error.errors or not error.detail else f"{error.title}: {error.detail}"  # the detail sums up the errors
    places = [f"  {place.get('pointer') or '/'}: {place.get('detail', '')}" for place in error.errors]
    hint = ["Give the key with --api-key, or in FINEBITS_API_KEY."] if error.status == 401 else []
    return "\n".join([head, *places, *hint])
