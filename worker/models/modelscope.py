"""Models that lie on ModelScope, fetched as those of the other hub are: code that comes with them is left there."""

import importlib
import os
from pathlib import Path
from typing import Any

from service.specs.reasons import Reason
from worker.failures import JobFailure
from worker.models.hub import TEXTS, named

# What its first branch is called, where the arguments' default says "main".
BRANCH = "master"


def fetched(name: str, revision: str, cache: Path, token: str | None) -> Path:
    """The model's folder under `cache`, whose name is the model's and its revision's.

    It tells no commit, so a branch that moves between two attempts at a job is not seen: a tag as model_revision stays.
    """
    revision = BRANCH if revision == "main" else revision
    try:
        snapshot = _download(name, revision, cache, token, "*.safetensors")
        if not any(snapshot.glob("*.safetensors")):
            snapshot = _download(name, revision, cache, token, "*.bin")
    except (JobFailure, MemoryError):
        raise
    except OSError as error:  # requests' errors are such, and have no number; a full disk's has
        if error.errno:
            raise
        raise _refused(name, revision, error) from None
    except Exception as error:  # its errors have no root that is the same in every release
        raise _refused(name, revision, error) from None
    return named(name, snapshot, cache, revision.replace("/", "-"))


def _download(name: str, revision: str, cache: Path, token: str | None, weights: str) -> Path:
    return Path(
        _library().snapshot_download(
            name,
            revision=revision,
            cache_dir=str(cache / "modelscope"),
            token=token or "",  # None would lend the token of whoever runs the worker to its clients
            allow_patterns=[*TEXTS, weights],
            ignore_patterns=["*/*"],
            endpoint=os.environ.get("MODELSCOPE_ENDPOINT"),
        )
    )


def _library() -> Any:
    try:
        return importlib.import_module("modelscope")
    except ImportError:
        sentence = "This worker reaches ModelScope and does not have its library: pip install 'finebits[modelscope]'."
        raise JobFailure(Reason.MISSING_LIBRARY, sentence) from None


def _refused(name: str, revision: str, error: Exception) -> JobFailure:
    status = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
    where = f"The model {name!r} at {revision!r} could not be fetched from ModelScope"
    if status in (401, 403, 404):
        sentence = f"{where}: there is none of that name and revision, or it is private and ms_hub_token does not open it."
        return JobFailure(Reason.UNREACHABLE_HUB, sentence)
    return JobFailure(Reason.UNREACHABLE_HUB, f"{where}: {type(error).__name__}.")
