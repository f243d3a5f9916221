"""Takes the screenshots of docs/how-to/dashboard.md: `python -m tests.web.screenshots`, at the root of the repository.

Every view at three widths in both themes, of a service with jobs as workers would have left them. `--only submit` takes those of
one view, `--into` another folder.
"""

import argparse
import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page
from sqlalchemy import update

from service.store import leases, wishes
from service.store.clock import now
from service.store.tables import Slot, Worker
from tests.service.store import staffed
from tests.web import measured
from tests.web.chromium import chromium
from tests.web.standing import Standing, standing

IMAGES = Path(__file__).parents[2] / "docs" / "images" / "dashboard"

SIZES = {390: 844, 820: 1100, 1440: 900}
THEMES = ("light", "dark")
COLOURS = 128  # of the palette, those that differ most: flat surfaces and a few accents need no more


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--into", type=Path, default=IMAGES)
    parser.add_argument("--only", default="", help="a view, as its file is called")
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, standing(Path(home)) as service, chromium() as browser:
        views = _views(service)
        for name, page in _pages(browser, service, views, options.only):
            (options.into / f"{name}.png").write_bytes(_packed(page.screenshot()))
            print(options.into / f"{name}.png", flush=True)


def _pages(browser: Browser, service: Standing, views: dict[str, str], only: str) -> Iterator[tuple[str, Page]]:
    for theme in THEMES:
        for width, height in SIZES.items():
            for view, place in views.items():
                if only in ("", view):
                    with _shown(browser, f"{service.url}#{place}", view, (width, height), theme) as page:
                        yield f"{view}-{width}-{theme}", page


@contextmanager
def _shown(browser: Browser, address: str, view: str, size: tuple[int, int], theme: str) -> Iterator[Page]:
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if theme == "dark" else "light",
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(address)
    page.locator("main:not([aria-busy]) h1").wait_for()
    page.wait_for_timeout(1500)  # what is drawn after the view is there: charts, the dry run
    if view == "refused":
        _refuse(page)
    if view == "tokens":
        page.get_by_role("img", name="Lima").hover()
    yield page
    context.close()


def _refuse(page: Page) -> None:
    for name, value in (("training-learning_rate", "-1"), ("data-dataset", "leters")):
        page.locator(f"form #{name}").fill(value)
    page.get_by_role("button", name="Submit", exact=True).click()
    page.get_by_role("alert").wait_for()
    page.wait_for_timeout(1000)


def _views(service: Standing) -> dict[str, str]:
    """By the name of the file, the address, once there is something to see."""
    database, root = service.database, service.artifacts
    mild = measured.a_measured_job(database, root, "answers, rank 8", gain=1.0)
    strong = measured.a_measured_job(
        database, root, "answers, rank 64", gain=1.6, training={"learning_rate": 0.01}, labels={"team": "nlp"}
    )
    _a_crowd(service)
    _a_large_model(service.app.state.settings.models_root / "llama-1b")
    model = {"model_name_or_path": "llama-1b"}
    training = {"learning_rate": 0.0002, "lr_scheduler_type": "cosine"}
    large = service.submit(name="instructions, rank 16", model=model, finetuning={"lora_rank": 16}, training=training)
    return {
        "overview": "/",
        "jobs": "/jobs",
        "submit": f"/submit?from={large}",
        "refused": f"/submit?from={mild}",
        "workers": "/workers",
        "sign-in": "/sign-in",
        "job": f"/jobs/{strong}",
        "checkpoints": f"/jobs/{strong}?tab=checkpoints",
        "tokens": f"/jobs/{strong}?tab=tokens",
        "compare": f"/compare?jobs={mild},{strong}",
        "measures": "/measures",
        "measure": "/measures/kl_from_base",
    }


# The sizes of a model of 1.2 billion parameters.
SIZES_OF_1B = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128_256,
    "tie_word_embeddings": True,
}


def _a_large_model(folder: Path) -> None:
    """Its config and the header of its weights, which is all that the service reads: the weights themselves are a hole."""
    hidden, inner, vocabulary = (SIZES_OF_1B[name] for name in ("hidden_size", "intermediate_size", "vocab_size"))
    shapes = {"model.embed_tokens.weight": [vocabulary, hidden], "model.norm.weight": [hidden]}
    for layer in range(SIZES_OF_1B["num_hidden_layers"]):
        for name, shape in (
            ("self_attn.q_proj", [hidden, hidden]),
            ("self_attn.k_proj", [hidden // 4, hidden]),
            ("self_attn.v_proj", [hidden // 4, hidden]),
            ("self_attn.o_proj", [hidden, hidden]),
            ("mlp.gate_proj", [inner, hidden]),
            ("mlp.up_proj", [inner, hidden]),
            ("mlp.down_proj", [hidden, inner]),
        ):
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **SIZES_OF_1B}))
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    encoded = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        file.truncate(8 + len(encoded) + end)


def _a_crowd(service: Standing) -> None:
    """Two hosts at work, a line behind them, and jobs that ended in every way."""
    database = service.database
    hosts = [staffed.enter(database, name, gpus=gpus, cpus=0) for name, gpus in (("gpu-a", 2), ("gpu-b", 4))]
    for number in range(1, 7):
        service.submit(name=f"sweep, learning rate {number}e-5", labels={"team": "nlp", "sweep": "lr"})
    running = staffed.place_all(database, *hosts)
    for number, placed in enumerate(running):
        told = {
            "step": "sft",
            "phase": "training",
            "global_step": 60 + 70 * number,
            "max_steps": 500,
            "loss": 2.41 - 0.3 * number,
            "tokens_per_second": 41_000 + 800 * number,
            "eta_seconds": 5400 - 800 * number,
        }
        with database.transaction() as session:
            leases.renew(session, placed.held, 600, told)
    with database.transaction() as session:
        busy = {"memory_used_bytes": 61 * 10**9, "temperature_celsius": 64, "utilization_percent": 97}
        session.execute(update(Slot).where(Slot.used_permille > 0).values(readings=busy))
        session.execute(update(Worker).values(heartbeat_at=now() + 3600))  # they do not stop while pictures are taken
    for number in range(3):
        service.submit(name=f"preferences, beta 0.{number + 1}", labels={"team": "chat"})
    cancelled = service.submit(name="a mistake")
    with database.transaction() as session:
        wishes.cancel(session, "local", cancelled)


def _packed(png: bytes) -> bytes:
    image = Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    packed = io.BytesIO()
    image.save(packed, "PNG", optimize=True)
    return packed.getvalue()


if __name__ == "__main__":
    main()
