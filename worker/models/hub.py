"""Models that lie on a hub, fetched into a folder of the operator's; code that comes with them is left there."""

import os
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name

from service.specs.reasons import Reason
from worker.failures import JobFailure

TEXTS = ("*.json", "*.txt", "*.model", "*.jinja")


def fetched(name: str, revision: str, cache: Path, token: str | None, pinned: bool = False) -> Path:
    """The model's folder under `cache`, whose name is the model's and its commit's.

    A branch may move between two attempts at a job. A pinned one stays with the commit that the cache knows it by.
    """
    if pinned:
        revision = _known_commit(name, revision, cache) or revision
    try:
        snapshot = _download(name, revision, cache, token, "*.safetensors")
        if not any(snapshot.glob("*.safetensors")):
            snapshot = _download(name, revision, cache, token, "*.bin")
    except GatedRepoError:
        raise _refused(f"The owner of {name!r} lets only some in: hf_hub_token must be one of theirs.") from None
    except RevisionNotFoundError:
        raise _refused(f"The model {name!r} has no revision {revision!r} on the hub.") from None
    except RepositoryNotFoundError:
        raise _refused(f"There is no model {name!r} on the hub, or it is private and hf_hub_token does not open it.") from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        if getattr(error, "errno", None):
            raise  # a full disk is the disk's
        raise _refused(f"The model {name!r} could not be fetched from the hub: {type(error).__name__}.") from None
    return named(name, snapshot, cache, snapshot.name[:8])


def _download(name: str, revision: str, cache: Path, token: str | None, weights: str) -> Path:
    # False: the token of whoever runs the worker is not lent to its clients
    return Path(
        snapshot_download(
            name,
            revision=revision,
            cache_dir=cache,
            token=token or False,
            allow_patterns=[*TEXTS, weights],
            ignore_patterns=["*/*"],
            endpoint=os.environ.get("HF_ENDPOINT"),
        )
    )


def _known_commit(name: str, revision: str, cache: Path) -> str | None:
    ref = cache / repo_folder_name(repo_id=name, repo_type="model") / "refs" / revision
    return ref.read_text(encoding="utf-8").strip() if ref.is_file() else None


def named(name: str, snapshot: Path, cache: Path, version: str) -> Path:
    """What is said of a model names its folder, and a snapshot's is a hash."""
    link = cache / "named" / f"{name}@{version}"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.unlink(missing_ok=True)
        link.symlink_to(snapshot, target_is_directory=True)
    return link


def _refused(sentence: str) -> JobFailure:
    return JobFailure(Reason.UNREACHABLE_HUB, sentence)
