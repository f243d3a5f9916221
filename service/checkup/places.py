"""The folders, what is free on their disks, and the key for secrets."""

import base64
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from service import home_key
from service.checkup.finding import Finding, fault, note, warning, well
from service.settings import Settings

MIN_FREE_BYTES = 1_000_000_000  # a worker's, where FINEBITS_MIN_FREE_BYTES does not say otherwise
SCARCE = 10  # times as much is little: a checkpoint of a model of 7 billion weights takes 15 GB


def places(settings: Settings) -> Iterator[Finding]:
    yield from _written(settings)
    yield from _read("models", settings.models_root, "FINEBITS_MODELS_ROOT", "config.json")
    yield from _read("data sets", settings.datasets_root, "FINEBITS_DATASETS_ROOT", "dataset_info.json")
    yield from _disk(settings.artifacts_root)
    yield _key(settings)


def _written(settings: Settings) -> Iterator[Finding]:
    folders = {
        "home": settings.home,
        "artifacts": settings.artifacts_root,
        "exports": settings.exports_root,
        "cache": settings.cache_root,
    }
    for about, folder in folders.items():
        above = nearest(folder)
        if not os.access(above, os.W_OK | os.X_OK):
            mend = "Give it to whom the service and its workers run as, or name another folder; `finebits doctor` runs as you."
            yield fault(about, f"{above} cannot be written to.", mend)
        elif above != folder:
            yield note(about, f"{folder} is not there yet, and will be made.")
        else:
            yield well(about, str(folder))


def _read(about: str, folder: Path, variable: str, what: str) -> Iterator[Finding]:
    if not folder.is_dir():
        yield note(about, f"There is no folder {folder}: jobs can name none.", f"Make it, or name another in {variable}.")
    elif not os.access(folder, os.R_OK | os.X_OK):
        yield fault(about, f"{folder} cannot be read.", f"Give it to whom the service runs as, or name another in {variable}.")
    elif not any(_within(folder, what)):
        yield note(about, f"No folder in {folder} holds a {what}: jobs can name none.", f"Put some there, or set {variable}.")
    else:
        yield well(about, str(folder))


def _within(folder: Path, name: str) -> Iterator[Path]:
    """Here, or two folders down: models of hubs stand under their owner's name."""
    for pattern in (name, f"*/{name}", f"*/*/{name}"):
        yield from folder.glob(pattern)


def _disk(folder: Path) -> Iterator[Finding]:
    needed = int(os.environ.get("FINEBITS_MIN_FREE_BYTES") or MIN_FREE_BYTES)
    above = nearest(folder)
    free = shutil.disk_usage(above).free
    said = f"{free / 1e9:.1f} GB are free where {above} is."
    mend = "Free some, or set training.save_total_limit and FINEBITS_ARTIFACTS_TTL_SECONDS: what is kept is then bounded."
    if free < needed:
        yield fault("disk", f"{said} Jobs are held below {needed / 1e9:.1f} GB (FINEBITS_MIN_FREE_BYTES).", mend)
    elif free < SCARCE * needed:
        yield warning("disk", said, mend)
    else:
        yield well("disk", said)


def _key(settings: Settings) -> Finding:
    about, file = "key for secrets", settings.home / home_key.NAME
    if settings.secret_key is not None:
        return well(about, "FINEBITS_SECRET_KEY is set.")
    if not file.exists():
        return note(
            about, "There is none: no tokens and no webhooks.", "`finebits up` makes one; elsewhere set FINEBITS_SECRET_KEY."
        )
    try:
        raw = base64.urlsafe_b64decode(file.read_text(encoding="ascii", errors="replace").strip())
    except (OSError, ValueError):
        raw = b""
    if len(raw) != 32:
        mend = "Put back the one that it held; or move it away, and lose the secrets that are stored."
        return fault(about, f"{file} holds no key, or cannot be read.", mend)
    if file.stat().st_mode & 0o077:
        return warning(about, f"Others can read {file}.", f"chmod 600 {file}")
    return well(about, str(file))


def nearest(folder: Path) -> Path:
    """The folder, or what is there of those above it."""
    return next(one for one in (folder, *folder.parents) if one.exists())
