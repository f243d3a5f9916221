import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from service.checkup.finding import Finding, Level
from service.checkup.places import places
from service.home_key import kept_key
from service.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a home where everything is as it should be."""
    settings = Settings(home=tmp_path / "home")
    for root in (settings.artifacts_root, settings.exports_root, settings.cache_root, settings.models_root / "tiny"):
        root.mkdir(parents=True)
    (settings.models_root / "tiny" / "config.json").write_text("{}")
    (settings.datasets_root / "data").mkdir(parents=True)
    (settings.datasets_root / "data" / "dataset_info.json").write_text("{}")
    kept_key(settings.home)
    return settings


def of(settings: Settings, about: str) -> Finding:
    (found,) = [finding for finding in places(settings) if finding.about == about]
    return found


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    free_on_disk(monkeypatch, 500e9)


def free_on_disk(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))


def test_a_home_that_is_as_it_should_be_is_well(settings: Settings) -> None:
    assert {finding.level for finding in places(settings)} == {Level.WELL}


def test_a_home_that_is_not_there_yet_is_no_fault(tmp_path: Path) -> None:
    assert {finding.level for finding in places(Settings(home=tmp_path / "new"))} <= {Level.WELL, Level.NOTE}


@pytest.mark.parametrize(("free", "level"), [(0.5e9, Level.FAULT), (5e9, Level.WARNING), (50e9, Level.WELL)])
def test_a_disk_is_held_against_what_a_worker_keeps_free(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, free: float, level: Level
) -> None:
    free_on_disk(monkeypatch, free)
    assert of(settings, "disk").level is level
    monkeypatch.setenv("FINEBITS_MIN_FREE_BYTES", "100")
    assert of(settings, "disk").level is Level.WELL


def test_folders_without_models_and_data_are_said(settings: Settings) -> None:
    shutil.rmtree(settings.models_root / "tiny")
    shutil.rmtree(settings.datasets_root)
    assert "holds a config.json" in of(settings, "models").said
    assert "FINEBITS_DATASETS_ROOT" in of(settings, "data sets").mend


def test_a_key_that_is_spoilt_or_that_others_can_read_is_said(settings: Settings) -> None:
    file = settings.home / "secret.key"
    file.chmod(0o644)
    assert (of(settings, "key for secrets").level, of(settings, "key for secrets").mend) == (Level.WARNING, f"chmod 600 {file}")
    file.write_text("half")
    assert of(settings, "key for secrets").level is Level.FAULT
    file.unlink()
    assert of(settings, "key for secrets").level is Level.NOTE


def test_a_folder_that_cannot_be_written_is_a_fault(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda folder, mode: folder != settings.cache_root)  # whoever is root may write anything
    assert of(settings, "cache").level is Level.FAULT
    assert of(settings, "home").level is Level.WELL
