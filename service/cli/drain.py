"""finebits drain WORKER, finebits drain WORKER --undo"""

import typer

from service.cli.as_json import AsJson
from service.cli.connection import connected
from service.cli.screen import Screen


def drain(
    context: typer.Context,
    name: str = typer.Argument(metavar="WORKER", help="The worker's name; `finebits workers` lists them."),
    now: bool = typer.Option(False, "--now", help="Have its jobs save a checkpoint and go on elsewhere."),
    undo: bool = typer.Option(False, "--undo", help="Let it take jobs again."),
    as_json: AsJson = False,
) -> None:
    """Let a worker take no new jobs, as before maintenance of its host."""
    with connected(context) as client:
        worker = client.undrain(name) if undo else client.drain(name, now)
    running = sorted({job["job"] for slot in worker["slots"] for job in slot["jobs"]})
    if as_json:
        Screen().json(worker)
    elif undo:
        Screen().say(f"{name} takes jobs again.")
    elif not running:
        Screen().say(f"{name} takes no new jobs, and runs none.")
    else:
        Screen().say(f"{name} takes no new jobs. {', '.join(running)} {'will be given back' if now else 'will run to the end'}.")
