"""`finebits ...`: the command line. Each command is in the file of its name, which is imported when the command is run."""

import sys
from io import TextIOWrapper

import typer

from service.cli.connection import Connection
from service.cli.lazy import group_of

# What `finebits --help` shows. A command's sentence is the first of its function's docstring, which a test compares.
COMMANDS: dict[str, dict[str, str]] = {
    "Here": {
        "up": "Run the whole service here: API, worker and broker, until Ctrl-C.",
        "demo": "Train a tiny model here, in two steps, and see in bits how near it comes to the best there can be.",
        "doctor": "Say what is wrong with this installation, and how to mend it.",
        "completion": "Print what a shell needs to complete commands and the ids of jobs.",
        "version": "Print the version.",
    },
    "Jobs": {
        "submit": "Submit a job. The file is sent as it is, unless --set changes it.",
        "watch": "Show a job until it ends; Ctrl-C leaves it running.",
        "top": "Show the queue, the workers and what runs, as it changes; q ends it.",
        "jobs": "List jobs, the newest first.",
        "show": "Show a job: where it stands, its steps, its loss, and what was measured last.",
        "logs": "Print what the training process of a job wrote.",
        "pause": "Pause a job. One that runs saves a checkpoint and gives its GPU free within moments.",
        "resume": "Let a paused job go on, from its last checkpoint.",
        "cancel": "Cancel a job. One that runs stops within seconds, and keeps its checkpoints.",
        "retry": "Queue a job that failed or was cancelled again. What it has done stays done.",
        "patch": "Change a job's priority, name or labels.",
        "delete": "Forget a job that has ended, with its checkpoints, measures and logs. This cannot be undone.",
    },
    "What they learned": {
        "metrics": "Show what was measured: the base and each checkpoint, and how far they are apart.",
        "checkpoints": "List the checkpoints: how far each had trained, its rank, and whether another gives more for less drift.",
        "compare": "Show the measures of several jobs side by side, and how far they are apart.",
        "diff": "Show in which arguments two jobs differ.",
        "download": "Fetch what a job made, each file held against its SHA-256; an earlier try is gone on with.",
    },
    "With a checkpoint": {
        "generate": "See what a checkpoint writes, as it writes it.",
        "predict": "Have a checkpoint answer the rows of a data set, and compare with the labels.",
        "evaluate": "Ask a checkpoint the questions of a benchmark.",
        "measure": "Measure checkpoints of earlier jobs on any data set; nothing is trained.",
        "export": "Write a checkpoint as a folder that other programs load, and prove that it is what was trained.",
    },
    "Data": {
        "data": "List, upload, look at, validate and delete data sets.",
        "upload": "Send a data set, or a new version of one; a connection that breaks is gone on with.",
        "inspect": "Look at a data set before anything is trained on it, and wait for what is found.",
    },
    "For operators": {
        "workers": "List the workers: each slot with what it runs, its memory, temperature and use.",
        "drain": "Let a worker take no new jobs, as before maintenance of its host.",
        "keys": "Make, list and revoke keys, in the database itself (FINEBITS_DATABASE_URL, or the one in FINEBITS_HOME).",
        "webhooks": "Have a URL of yours told when jobs end.",
        "init": "Write .env with fresh secrets, for `docker compose up`.",
        "serve": "Run the API alone, where the database, the broker and the workers are elsewhere.",
        "migrate": "Bring the database (FINEBITS_DATABASE_URL, or the one in FINEBITS_HOME) to the newest migration.",
        "backup": "Copy the database and the artifacts of `finebits up` (FINEBITS_HOME) into a new folder, also while it runs.",
        "restore": "Put a backup where `finebits up` (FINEBITS_HOME) will look for its database and artifacts.",
    },
}

# service.clients.requests has it, too; a test compares. To import that one would take longer than all the rest.
DEFAULT_URL = "http://127.0.0.1:8765"

app = typer.Typer(cls=group_of(COMMANDS), no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def finebits(
    context: typer.Context,
    url: str = typer.Option(DEFAULT_URL, envvar="FINEBITS_URL", help="Where the service is."),
    api_key: str | None = typer.Option(None, envvar="FINEBITS_API_KEY", help="Its key, where it has one."),
) -> None:
    """Fine-tune language models, and see in bits what every checkpoint learned."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a letter shows another
    context.obj = Connection(url, api_key)
