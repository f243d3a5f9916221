"""finebits webhooks: who is told of what becomes of jobs."""

from typing import TYPE_CHECKING

import typer

from service.cli.as_json import AsJson
from service.cli.connection import connected
from service.cli.lazy import app_of
from service.cli.screen import Screen

if TYPE_CHECKING:
    from service.clients.answers import Webhook

app = app_of("Have a URL of yours told when jobs end.")

COLUMNS = ["webhook", "url", "events", "description", "created", ""]


@app.command()
def add(
    context: typer.Context,
    url: str = typer.Argument(help="Where messages are posted to."),
    event: list[str] = typer.Option([], help="Of what it is told, again for each; the ends of jobs when not given."),
    description: str | None = typer.Option(None, help="What it is for."),
    as_json: AsJson = False,
) -> None:
    """Make a webhook, and print its secret this once."""
    from service.specs.webhooks import OF_AN_END  # here, since it takes longer than all the rest

    with connected(context) as client:
        made = client.create_webhook(url, event or list(OF_AN_END), description)
    if as_json:
        Screen().json(made)
    else:
        print(f"{made['id']} {made['secret']}")  # alone on its line, for a script to take


@app.command("list")
def list_webhooks(context: typer.Context, as_json: AsJson = False) -> None:
    """List your webhooks, the oldest first, without their secrets."""
    with connected(context) as client:
        found = client.webhooks()
    screen = Screen()
    if as_json:
        screen.json(found)
    elif found:
        screen.table("Webhooks", COLUMNS, [_row(webhook) for webhook in found])
    else:
        screen.say("There are no webhooks yet.")


@app.command()
def remove(
    context: typer.Context, webhook_id: str = typer.Argument(help="As `finebits webhooks list` has it."), as_json: AsJson = False
) -> None:
    """Forget a webhook, and what is on its way to it."""
    with connected(context) as client:
        client.delete_webhook(webhook_id)
    if as_json:
        Screen().json({"id": webhook_id, "deleted": True})
    else:
        Screen().say(f"{webhook_id} is told nothing more.")


@app.command("test")
def send_test(
    context: typer.Context, webhook_id: str = typer.Argument(help="As `finebits webhooks list` has it."), as_json: AsJson = False
) -> None:
    """Send a webhook a message that says nothing but that it is a test."""
    with connected(context) as client:
        sent = client.test_webhook(webhook_id)
    if as_json:
        Screen().json(sent)
    else:
        Screen().say(f"{sent['id']} is on its way; GET /webhooks/{webhook_id}/deliveries says how it goes.")


def _row(webhook: "Webhook") -> list[str]:
    state = "" if webhook["enabled"] else f"disabled: {webhook['disabled_why']}"
    created = webhook["created_at"][:19].replace("T", " ")
    return [webhook["id"], webhook["url"], " ".join(webhook["events"]), webhook["description"] or "", created, state]
