"""finebits demo"""

import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, cast

import typer

from service.cli.connection import told
from service.cli.exit_codes import ExitCode
from service.cli.following import follow, follow_as_json, outcome
from service.cli.measured import Column, show_measured
from service.cli.screen import Screen, give_up
from service.cli.serving import read_settings, serving
from service.client import Client, ClientError, Event, Measured, Sighting
from service.embedded import Embedded, EmbeddedError
from service.settings import Settings

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class Source(Protocol):
    """What the demo needs of examples/source.py."""

    def entropy_rate(self) -> float:
        """Bits per word, in the long run."""

    def entropy_of_text(self, n_words: float) -> float:
        """Bits of a text of n words, on average: linear in n beyond the first word."""


def demo(
    home: Path | None = typer.Option(
        None, help="The folder of all data; ./finebits-data/demo-<time> when not given.", file_okay=False
    ),
    as_json: bool = typer.Option(False, "--json", help="Print events, progress, measures and the end as JSON, a line each."),
) -> None:
    """Train a tiny model here, in two steps, and see in bits how near it comes to the best there can be."""
    screen = Screen()
    source = _source(EXAMPLES)
    settings = _settings(home or Path("finebits-data", time.strftime("demo-%Y%m%d-%H%M%S")))
    try:
        with serving(settings) as service:
            if not as_json:
                screen.say(f"Finebits is at {service.url}; its data is in {settings.home}")
            with service.client() as client:
                run = _run_as_json if as_json else _run
                sentence = _told_by(service, lambda: run(service, client, screen, source))
    except KeyboardInterrupt:
        give_up(f"\nStopped before the end. The data is in {settings.home}", ExitCode.INTERRUPTED)
    if as_json:
        screen.json_line({"home": str(settings.home), "told": sentence})
        return
    screen.say(sentence, style="bold")
    screen.say(f"The service has stopped. Its data is in {settings.home}; `finebits up --home {settings.home}` serves it again.")


def _settings(home: Path) -> Settings:
    """Everything in one folder, whatever the environment says of another service."""
    home = home.absolute()
    return read_settings(
        home=home,
        database_url=f"sqlite:///{home}/finebits.db",
        broker_url=f"redis+socket://{home}/broker/broker.sock",
        artifacts_root=home / "artifacts",
        models_root=EXAMPLES / "models",
        datasets_root=EXAMPLES,
        host="127.0.0.1",
        port=0,
    )


def _told_by(service: Embedded, run: Callable[[], str]) -> str:
    """What `run` returns. Where it failed because a part of the service has ended, that is what is told."""
    try:
        return run()
    except ClientError as error:
        service.check()
        raise EmbeddedError(told(error)) from None


def _run(service: Embedded, client: Client, screen: Screen, source: Source) -> str:
    """The job from its file to its end; the last sentence."""
    file = EXAMPLES / "demo.yaml"
    job = client.submit(file)
    unfinished = iter(step["name"] for step in job["steps"])
    screen.say(f"Submitted {file.name} as {job['id']}.")

    def show_finished(event: Event) -> None:
        if event["kind"] == "step_finished":
            step = next(unfinished, None)
            rows = [row for row in client.metrics(job["id"]) if row["step"] == step]
            show_measured(screen, rows, _beside_the_source(source) if step == "pretrain" else [])

    ended = follow(_checked(service, client.watch(job["id"], patience=5)), screen, show_finished)
    if ended["state"] != "succeeded":
        raise EmbeddedError(f"The demo's job did not succeed. {outcome(ended)}")
    return _last_sentence(client.metrics(job["id"], measure="cross_entropy"), source)


def _run_as_json(service: Embedded, client: Client, screen: Screen, source: Source) -> str:
    job = client.submit(EXAMPLES / "demo.yaml")
    ended = follow_as_json(_checked(service, client.watch(job["id"], patience=5)), screen)
    if ended["state"] != "succeeded":
        raise EmbeddedError(f"The demo's job did not succeed. {outcome(ended)}")
    screen.json_line({"measured": client.metrics(job["id"])})
    return _last_sentence(client.metrics(job["id"], measure="cross_entropy"), source)


def _checked(service: Embedded, sightings: Iterator[Sighting]) -> Iterator[Sighting]:
    """The sightings, for as long as every part of the service lives: without a worker a job would wait forever."""
    for sighting in sightings:
        service.check()
        yield sighting


# -- the source and its floor ------------------------------------------------------------------------------------------


def _source(examples: Path) -> Source:
    """examples/source.py, which is beside the package in a checkout and in no wheel."""
    file = examples / "source.py"
    if not file.exists():
        give_up(f"The demo needs the folder {examples.name}/ of a checkout, and {examples} is not there.")
    spec = importlib.util.spec_from_file_location("finebits_demo_source", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast(Source, module)


def _beside_the_source(source: Source) -> list[Column]:
    return [
        ("entropy rate\nof the source", lambda row: f"{source.entropy_rate():.4f}"),
        ("above it", lambda row: f"{above_percent(row, source):+.1f} %"),
    ]


def above_percent(row: Measured, source: Source) -> float:
    """How much more the model spends on a word than the source's entropy rate. Every word is one token."""
    value = row["measures"]["cross_entropy"].get("value")
    return float("inf") if value is None else 100 * (value / source.entropy_rate() - 1)


def text_percent(row: Measured, source: Source) -> float:
    """How much above it even a model that knew the source would be: nothing comes before a text's first word."""
    measured = row["measures"]["cross_entropy"]
    n_words = measured["n_tokens"] / measured["n_documents"]
    return 100 * (source.entropy_of_text(n_words) / n_words / source.entropy_rate() - 1)


def _last_sentence(rows: list[Measured], source: Source) -> str:
    last = [row for row in rows if row["step"] == "pretrain"][-1]
    above = above_percent(last, source)
    side = "above" if above >= 0 else "below"
    rate = f"the entropy rate of the source ({source.entropy_rate():.4f} bits a word), the floor that no model can beat"
    return (
        f"The last checkpoint is {abs(above):.1f} % {side} {rate}; {text_percent(last, source):.1f} % of that is each text's "
        "first word, which nothing comes before."
    )
