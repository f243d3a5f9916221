"""finebits top"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import typer

from service.cli.as_json import AsJson
from service.cli.connection import connected
from service.cli.following import clock, heading, numbers
from service.cli.screen import Screen, words_of
from service.cli.workers import COLUMNS, rows_of

if TYPE_CHECKING:
    from service.client import Client, Job

MOST = 100  # jobs of a state that are asked for

Snapshot = dict[str, Any]


def top(
    context: typer.Context,
    every: float = typer.Option(2.0, min=0.2, help="Seconds between two looks."),
    as_json: AsJson = False,
) -> None:
    """Show the queue, the workers and what runs, as it changes; q ends it.

    With --json, and where there is no terminal, it is shown once.
    """
    screen = Screen()
    with connected(context) as client:
        if as_json:
            screen.json(look(client))
        elif not screen.can_move:
            _print(screen, look(client))
        else:
            _stay(client, screen, every)


def look(client: "Client") -> Snapshot:
    """All that is shown: of the jobs that wait the first MOST, those that go first before the others."""
    queued = list(islice(client.jobs(state="queued", page_size=MOST), MOST))
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "workers": client.workers(),
        "running": list(islice(client.jobs(state="running", page_size=MOST), MOST)),
        "queued": sorted(queued, key=lambda job: (-job["priority"], job["created_at"])),
        "paused": list(islice(client.jobs(state="paused", page_size=MOST), MOST)),
    }


def _print(screen: Screen, seen: Snapshot) -> None:
    screen.say(headline(seen))
    for title, columns, rows in tables(seen):
        screen.table(title, columns, rows)


def headline(seen: Snapshot) -> str:
    """ "2 run, 13 wait, 1 is paused; 3 of 4 slots are taken" """
    slots = [slot for worker in seen["workers"] if worker["status"] in ("up", "draining") for slot in worker["slots"]]
    taken = sum(bool(slot["jobs"]) for slot in slots)
    counts = {state: _counted(seen[state]) for state in ("running", "queued", "paused")}
    return (
        f"{counts['running']} running, {counts['queued']} queued, {counts['paused']} paused; {taken} of {len(slots)} slots taken"
    )


def _counted(jobs: "list[Job]") -> str:
    return f"{len(jobs)}{' or more' if len(jobs) == MOST else ''}"


def tables(seen: Snapshot) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Those that have rows."""
    if seen["running"]:
        yield "Running", ["job", "name", "how it goes"], [_running(job) for job in seen["running"]]
    if seen["queued"]:
        columns = ["job", "name", "priority", "waits", "for"]
        yield "Queued, those that go first before the others", columns, [_queued(job, seen["at"]) for job in seen["queued"]]
    if seen["workers"]:
        yield "Workers", COLUMNS, [row for worker in seen["workers"] for row in rows_of(worker)]


def _running(job: "Job") -> list[str]:
    return [job["id"], job["name"] or "", f"{heading(job)}  {numbers(job['progress'] or {})}".strip()]


def _queued(job: "Job", now: str) -> list[str]:
    since = (datetime.fromisoformat(now) - datetime.fromisoformat(job["created_at"])).total_seconds()
    return [job["id"], job["name"] or "", str(job["priority"]), clock(max(since, 0)), (job["progress"] or {}).get("held") or ""]


# -- on a terminal ------------------------------------------------------------------------------------------------------


def _stay(client: "Client", screen: Screen, every: float) -> None:
    """Until q, Ctrl-C or the end of what is typed."""
    from rich.live import Live

    with _keys() as wants_end, Live(console=screen.console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(_page(screen, look(client)), refresh=True)
            if wants_end(every):
                return


def _page(screen: Screen, seen: Snapshot) -> Any:
    """As much as the terminal has room for; how many lines are left out is said."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [Text(f"{headline(seen)}   {seen['at'][11:19]} UTC   q ends", style="bold")]
    for title, columns, rows in tables(seen):
        parts.append(Text(title, style="bold"))
        parts.append(words_of(columns, rows, screen.width))
    lines = screen.console.render_lines(Group(*parts), screen.console.options.update(height=None), pad=False)
    room = screen.console.height - 1
    if len(lines) > room:
        lines = lines[: room - 1]
        left_out = Text("... and more: a larger terminal, or finebits jobs, has the rest")
        lines += screen.console.render_lines(left_out, pad=False)
    return _Lines(lines)


def _waited(seconds: float) -> bool:
    """Where nothing is typed: only Ctrl-C ends it."""
    try:
        time.sleep(seconds)
    except KeyboardInterrupt:
        return True
    return False


class _Lines:
    """Lines that are rendered already."""

    def __init__(self, lines: Any):
        self._lines = lines

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.segment import Segment

        for line in self._lines:
            yield from line
            yield Segment.line()


@contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """Asks for seconds at a time whether q was typed, which shows nothing. Ctrl-C is the same as q."""
    import select
    import termios
    import tty

    def typed(seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        try:
            while (left := deadline - time.monotonic()) > 0:
                if select.select([sys.stdin], [], [], left)[0] and sys.stdin.read(1) in ("q", "Q", ""):
                    return True
        except KeyboardInterrupt:
            return True
        return False

    if not sys.stdin.isatty():
        yield _waited
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield typed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
