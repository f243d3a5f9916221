"""finebits logs JOB, finebits logs JOB -f"""

import typer

from service.cli.as_json import AsJson
from service.cli.connection import connected
from service.cli.exit_codes import ExitCode
from service.cli.job_id import JobId
from service.cli.screen import Screen, plain


def logs(
    context: typer.Context,
    job_id: JobId,
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on with what is written, until the job ends."),
    attempt: int | None = typer.Option(None, min=1, help="Which attempt; the last, or with -f all of them, when not given."),
    tail: int | None = typer.Option(None, min=1, help="Only so many lines of the end."),
    as_json: AsJson = False,
) -> None:
    """Print what the training process of a job wrote.

    With --json it is {"text": ...}; with -f, too, an object with attempt and text for each piece, a line each.
    """
    screen = Screen()
    with connected(context) as client:
        if not follow:
            text = client.logs(job_id, attempt, tail)
            screen.json({"job": job_id, "text": text}) if as_json else screen.say(text.rstrip("\n"))
            return
        try:
            for lines in client.follow_logs(job_id, attempt):
                screen.json_line(lines) if as_json else print(plain(lines["text"]), end="", flush=True)
        except KeyboardInterrupt:
            raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
