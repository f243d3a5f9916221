from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner, Result

from service.cli.main import app
from service.clients import pace
from tests.service.fake_service import FakeService, fake_service

Finebits = Callable[..., Result]


@pytest.fixture
def fake() -> Iterator[tuple[FakeService, str]]:
    with fake_service() as (service, url):
        yield service, url


@pytest.fixture
def service(fake: tuple[FakeService, str]) -> FakeService:
    return fake[0]


@pytest.fixture
def finebits(fake: tuple[FakeService, str], monkeypatch: pytest.MonkeyPatch) -> Finebits:
    """Runs a command against the fake service; standard output is no terminal."""
    monkeypatch.setenv("FINEBITS_URL", fake[1])
    monkeypatch.delenv("FINEBITS_API_KEY", raising=False)
    monkeypatch.setattr(pace, "DELAYS", ())
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])
