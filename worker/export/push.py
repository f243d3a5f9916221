"""An export on its way to a repository of a Hugging Face hub: file by file, then all of it in one commit.

Content that the hub has is not sent again: it says so of each file, by its hash, so that a push that broke off goes on with the
file that it broke off in, and one that is done changes nothing when it is done again. Until the commit nobody sees any of it.

Large files go by Git LFS, which every hub speaks. The library would take a hub's Xet storage instead: then the hub is not asked
what it has, a library in another language talks to further hosts, and what that raises says neither who refused nor why.
"""

import fnmatch
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import logging
from huggingface_hub.utils.tqdm import disable_progress_bars

from service.specs.reasons import Reason
from worker.failures import JobFailure

# A loader takes one form of weights before another: what an earlier push left beside the new ones might be loaded in their place.
WEIGHTS = (
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model-*-of-*.bin",
    "pytorch_model.bin.index.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
    "adapter_config.json",
    "quantize_config.json",
    "value_head.safetensors",
)

# (bytes that are there, bytes of all files)
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Pushed:
    """What came of it."""

    repository: str
    commit: str  # the hub's name of the state that holds the export
    url: str


def push(folder: Path, repository: str, token: str, private: bool, message: str, progress: Progress) -> Pushed:
    """Every file of the folder into the repository, which is made where it is not there.

    `progress` is called between files, and may raise to stop. Raises JobFailure: push_refused, or push_failed for what may pass.
    """
    disable_progress_bars()
    logging.set_verbosity_error()  # a warning of a request that is made again has its URL, which is a right to upload
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    n_bytes = sum(path.stat().st_size for path in files)
    with _said(repository):
        api.create_repo(repository, private=private, exist_ok=True)
    additions, sent = [], 0
    for path in files:
        progress(sent, n_bytes)
        addition = CommitOperationAdd(path.relative_to(folder).as_posix(), str(path))
        with _said(repository):
            api.preupload_lfs_files(repository, [addition], free_memory=False)
        additions.append(addition)
        sent += path.stat().st_size
    progress(sent, n_bytes)
    with _said(repository):
        stale = _weights_of(set(api.list_repo_files(repository)) - {addition.path_in_repo for addition in additions})
        gone = [CommitOperationDelete(name) for name in stale]
        commit = api.create_commit(repository, (*gone, *additions), commit_message=message)
    return Pushed(repository, commit.oid, commit.commit_url)


def _weights_of(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in WEIGHTS))


@contextmanager
def _by_lfs() -> Iterator[None]:
    """The library asks this constant at each upload; its environment variable is read once, as it is imported."""
    before = constants.HF_HUB_DISABLE_XET
    constants.HF_HUB_DISABLE_XET = True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before


@contextmanager
def _said(repository: str) -> Iterator[None]:
    """What the libraries raise, in a sentence of ours: theirs have URLs that are rights to upload."""
    try:
        with _by_lfs(), warnings.catch_warnings():
            # huggingface_hub sends a large file by an argument whose name httpx2 would have otherwise
            warnings.filterwarnings("ignore", "Use 'content=", DeprecationWarning)
            yield
    except MemoryError:
        raise
    except HFValidationError:
        raise JobFailure(Reason.PUSH_REFUSED, f"{repository!r} is no name of a repository: it reads owner/name.") from None
    except Exception as error:  # whatever a hub's answer can make the libraries raise
        if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError):
            raise  # the disk's own
        raise _failure(repository, _status(error), error) from None


def _failure(repository: str, status: int | None, error: Exception) -> JobFailure:
    if status in (401, 403, 404):
        why = "hf_hub_token is none that the hub knows, or it has no right to write there"
        return JobFailure(Reason.PUSH_REFUSED, f"The hub refuses to take {repository!r} ({status}): {why}.", status=status)
    if status is not None and 400 <= status < 500 and status not in (408, 409, 429):
        sentence = f"The hub does not take what is pushed to {repository!r}: it answers {status}."
        return JobFailure(Reason.PUSH_REFUSED, sentence, status=status)
    what = f"it answers {status}" if status is not None else f"it broke off ({_root(error)})"
    sentence = (
        f"The push to {repository!r} was not finished: {what}. What the hub has by now is not sent again when it is retried."
    )
    return JobFailure(Reason.PUSH_FAILED, sentence)


def _status(error: BaseException | None) -> int | None:
    """Of the answer that it was about, however deep that lies: an upload of one file is wrapped in a RuntimeError."""
    while error is not None:
        if isinstance(error, HfHubHTTPError) and error.response is not None:
            return int(error.response.status_code)
        error = error.__cause__
    return None


def _root(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return type(error).__name__
