"""finebits inspect DATASET --model MODEL"""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from service.cli.connection import connected
from service.cli.following import ENDED, follow_to_exit
from service.cli.screen import Screen

if TYPE_CHECKING:
    from service.client import Client


def inspect(
    context: typer.Context,
    dataset: str = typer.Argument(metavar="DATASET", help="A name in dataset_info.json."),
    model: str = typer.Option(..., help="The model whose tokenizer reads the rows."),
    template: str | None = typer.Option(None, help="How conversations become text."),
    cutoff_len: int | None = typer.Option(None, help="Beyond how many tokens a row would be cut."),
    val_size: float | None = typer.Option(None, help="The rows that a job would hold out."),
    held_out: str | None = typer.Option(None, help="Or the data sets that it would be measured on."),
    as_json: bool = typer.Option(False, "--json", help="Print inspection.json."),
) -> None:
    """Look at a data set before anything is trained on it, and wait for what is found."""
    given = {"template": template, "cutoff_len": cutoff_len, "val_size": val_size, "held_out": held_out}
    with connected(context) as client:
        job = client.inspect(dataset, model, **{name: value for name, value in given.items() if value is not None})
        screen = Screen()
        if as_json:
            screen.json(_found(client, job["id"], screen))
            return
        screen.say(f"{job['id']} is {job['state']}.")
        _when_ended(client, job["id"])
        if client.job(job["id"])["state"] == "succeeded":
            for line in lines(_document(client, job["id"])):
                screen.say(line)
            return
        follow_to_exit(client, job["id"], screen)


def lines(found: dict[str, Any]) -> list[str]:
    """What was found, a line each; then the rows that are most like another."""
    coverage, bounds = found["coverage"], found["lower_bounds"]
    shares = f"{100 * coverage['trained_tokens'] / max(coverage['tokens'], 1):.0f} %"
    said = [f"{found['rows']} rows, {found['held_out_rows']} held out; {shares} of {coverage['tokens']} tokens are trained."]
    for name, measure in found["measures"].items():
        value = "unknown" if measure["value"] is None else f"{measure['value']:.4g}"
        said.append(f"{name:32} {value:>10} {measure['unit']}{' or more' if name in bounds else ''}")
    for kind, sentence in (("duplicates", "is like"), ("leaks", "leaks from")):
        said += [
            f"{one['file']} row {one['row']} {sentence} {one['like_file']} row {one['like_row']}: "
            f"{100 * one['shared_n_grams']:.0f} % of its n-grams"
            for one in found[kind]
        ]
    return said


def _found(client: "Client", job_id: str, screen: Screen) -> Any:
    _when_ended(client, job_id)
    if client.job(job_id)["state"] != "succeeded":
        follow_to_exit(client, job_id, screen)
    return _document(client, job_id)


def _when_ended(client: "Client", job_id: str) -> None:
    for sighting in client.watch(job_id):
        if sighting.job["state"] in ENDED:
            return


def _document(client: "Client", job_id: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        document: dict[str, Any] = json.loads(client.download(job_id, "inspection.json", Path(folder)).read_text("utf-8"))
    return document
