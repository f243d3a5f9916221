import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from service.cli import demo
from service.client import Client
from service.embedded import ChildDied
from service.settings import Settings
from tests.service.cli.conftest import Finebits
from tests.service.fake_service import DROPPED, FakeService, a_job, an_event

SOURCE = demo._source(demo.EXAMPLES)
RATE = SOURCE.entropy_rate()


def a_row(step: str, checkpoint: Any, bits: float | None) -> dict[str, Any]:
    value = {"value": bits, "unit": "bits/token", "standard_error": 0.01, "n_documents": 80, "n_tokens": 9600}
    return {"step": step, "checkpoint": checkpoint, "split": "validation", "measures": {"cross_entropy": value}}


ROWS = [
    a_row("pretrain", "base", RATE * 5),
    a_row("pretrain", 43, RATE * 1.5),
    a_row("pretrain", 215, RATE * 1.042),
    a_row("sft", "base", 6.0),
    a_row("sft", 204, 3.0),
]


@pytest.fixture
def served(fake: tuple[FakeService, str], monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The demo's service is the fake one. `settings` are those that the demo wanted."""
    seen = SimpleNamespace(settings=None, url=fake[1], client=lambda: Client(fake[1]), check=lambda: None)

    @contextmanager
    def running(settings: Settings) -> Iterator[SimpleNamespace]:
        seen.settings = settings
        yield seen

    monkeypatch.setattr("service.cli.serving.running", running)
    return seen


def script(service: FakeService, **end: Any) -> None:
    steps = [{"name": "pretrain"}, {"name": "sft"}]
    service.answers("POST", "/jobs", a_job(steps=steps))
    service.answers("GET", "/jobs/job-1", a_job(state="running"), a_job(**end))
    pages = [
        {"data": [an_event(1, "step_finished", "Step pretrain is done.")], "has_more": False},
        {"data": [an_event(2, "step_finished", "Step sft is done.")], "has_more": False},
    ]
    service.answers("GET", "/jobs/job-1/events", *pages)
    service.answers("GET", "/jobs/job-1/metrics", {"job_id": "job-1", "data": ROWS})


def test_it_shows_a_table_after_each_step_and_how_near_the_floor_the_model_came(
    service: FakeService, finebits: Finebits, served: SimpleNamespace, tmp_path: Path
) -> None:
    script(service, state="succeeded")
    done = finebits("demo", "--home", tmp_path / "data")
    assert done.exit_code == 0, done.output
    assert service.asked[0].body == (demo.EXAMPLES / "demo.yaml").read_bytes()
    lines = done.stdout.splitlines()
    at = lines.index("10:00:01  Step pretrain is done.")
    assert lines[at + 1 : at + 6] == [
        "pretrain, validation: measured, ± standard error",
        "checkpoint  cross_entropy [bits/token]  entropy rate of the source  above it",
        f"base                    {RATE * 5:>6.3f} ± 0.010                      1.9777  +400.0 %",
        f"43                      {RATE * 1.5:>6.3f} ± 0.010                      1.9777   +50.0 %",
        f"215                     {RATE * 1.042:>6.3f} ± 0.010                      1.9777    +4.2 %",
    ]
    at = lines.index("10:00:02  Step sft is done.")
    assert lines[at + 2] == "checkpoint  cross_entropy [bits/token]"
    floor = "the entropy rate of the source (1.9777 bits a word), the floor that no model can beat"
    first_word = 100 * (SOURCE.entropy_of_text(120) / 120 / RATE - 1)
    assert lines[-2] == (
        f"The last checkpoint is 4.2 % above {floor}; {first_word:.1f} % of that is each text's first word, "
        "which nothing comes before."
    )
    assert lines[-1].startswith(f"The service has stopped. Its data is in {tmp_path}/data;")


def test_with_json_every_line_is_an_object_and_the_last_says_how_near(
    service: FakeService, finebits: Finebits, served: SimpleNamespace, tmp_path: Path
) -> None:
    script(service, state="succeeded")
    done = finebits("demo", "--home", tmp_path / "data", "--json")
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [next(iter(line)) for line in lines] == ["event", "event", "job", "measured", "home"]
    assert "4.2 % above" in lines[-1]["told"]
    script(service, state="failed", reason="diverged", sentence="The loss became infinite.")
    assert finebits("demo", "--home", tmp_path / "data", "--json").exit_code == 1


def test_everything_is_in_its_home_whatever_the_environment_says(
    service: FakeService, finebits: Finebits, served: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINEBITS_DATABASE_URL", "postgresql+psycopg://somewhere/else")
    monkeypatch.setenv("FINEBITS_BROKER_URL", "redis://somewhere")
    monkeypatch.setenv("FINEBITS_MODELS_ROOT", "/elsewhere")
    monkeypatch.setenv("FINEBITS_PORT", "1")
    monkeypatch.chdir(tmp_path)
    script(service, state="succeeded")
    assert finebits("demo").exit_code == 0
    settings = served.settings
    assert settings.home.parent == tmp_path / "finebits-data"
    assert settings.home.name.startswith("demo-2")
    assert settings.database_url == f"sqlite:///{settings.home}/finebits.db"
    assert settings.broker_url == f"redis+socket://{settings.home}/broker/broker.sock"
    assert (settings.models_root, settings.datasets_root) == (demo.EXAMPLES / "models", demo.EXAMPLES)
    assert (settings.host, settings.port) == ("127.0.0.1", 0)


def test_a_job_that_fails_fails_the_demo_with_its_reason(
    service: FakeService, finebits: Finebits, served: SimpleNamespace, tmp_path: Path
) -> None:
    script(service, state="failed", reason="diverged", sentence="The loss became infinite.")
    done = finebits("demo", "--home", tmp_path)
    assert done.exit_code == 1
    assert "job-1 failed (diverged: The loss became infinite.)" in done.stderr


def test_a_part_that_dies_is_told_and_not_waited_for(
    service: FakeService, finebits: Finebits, served: SimpleNamespace, tmp_path: Path
) -> None:
    def check() -> None:
        raise ChildDied("The worker ended with exit code 7.")

    script(service, state="running")
    served.check = check
    done = finebits("demo", "--home", tmp_path)
    assert (done.exit_code, done.stderr) == (1, "The worker ended with exit code 7.\n")
    service.answers("POST", "/jobs", DROPPED)
    assert "The worker ended" in finebits("demo", "--home", tmp_path).stderr
    served.check = lambda: None
    assert "broke" in finebits("demo", "--home", tmp_path).stderr


def test_without_the_examples_it_says_so(finebits: Finebits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "EXAMPLES", tmp_path / "examples")
    done = finebits("demo", "--home", tmp_path / "home")
    assert done.exit_code == 1
    assert "needs the folder examples/ of a checkout" in done.stderr
    assert not (tmp_path / "home").exists()


def test_the_floor_is_the_source_s_entropy_rate() -> None:
    assert demo.above_percent(a_row("pretrain", 43, RATE), SOURCE) == pytest.approx(0)  # type: ignore[arg-type]
    assert demo.above_percent(a_row("pretrain", 43, None), SOURCE) == float("inf")  # type: ignore[arg-type]


def test_a_model_that_was_lucky_is_below() -> None:
    assert "is 1.0 % below the entropy rate" in demo._last_sentence([a_row("pretrain", 43, RATE * 0.99)], SOURCE)  # type: ignore[list-item]


def test_the_demo_s_steps_are_those_it_knows() -> None:
    steps = yaml.safe_load((demo.EXAMPLES / "demo.yaml").read_text())["steps"]
    assert [step["name"] for step in steps] == ["pretrain", "sft"]
    assert steps[0]["data"]["dataset"] == "markov"
