"""`finebits ...`: the command line. Each command is in the file of its name."""

import typer

from service.cli import keys, webhooks
from service.cli.backup import backup
from service.cli.cancel import cancel
from service.cli.checkpoints import checkpoints
from service.cli.connection import Connection
from service.cli.delete import delete
from service.cli.demo import demo
from service.cli.download import download
from service.cli.drain import drain
from service.cli.export import export
from service.cli.generate import generate
from service.cli.init import init
from service.cli.inspect import inspect
from service.cli.jobs import jobs
from service.cli.logs import logs
from service.cli.measure import measure
from service.cli.metrics import metrics
from service.cli.migrate import migrate
from service.cli.patch import patch
from service.cli.pause import pause
from service.cli.restore import restore
from service.cli.resume import resume
from service.cli.retry import retry
from service.cli.serve import serve
from service.cli.submit import submit
from service.cli.up import up
from service.cli.upload import upload
from service.cli.version import version
from service.cli.watch import watch
from service.cli.workers import workers
from service.client import DEFAULT_URL

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def finebits(
    context: typer.Context,
    url: str = typer.Option(DEFAULT_URL, envvar="FINEBITS_URL", help="Where the service is."),
    api_key: str | None = typer.Option(None, envvar="FINEBITS_API_KEY", help="Its key, where it has one."),
) -> None:
    """Fine-tune language models, and see in bits what every checkpoint learned."""
    context.obj = Connection(url, api_key)


COMMANDS = (
    *(up, demo, submit, watch, jobs, metrics, checkpoints, logs),
    *(pause, resume, cancel, retry, patch, delete),
    *(inspect, measure, generate, export),
    *(upload, download),
    *(workers, drain),
    *(init, serve, migrate, backup, restore, version),
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(keys.app, name="keys")
app.add_typer(webhooks.app, name="webhooks")
