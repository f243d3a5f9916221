"""Rows of data sets that lie on a hub, which `datasets` (or modelscope) fetches. Scripts are never run.

Where a job brings no token, the operator's is used: huggingface_hub reads HF_TOKEN, modelscope MODELSCOPE_API_TOKEN.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import httpx2
from datasets.features.features import require_decoding
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError

from service.library.rows import Row
from service.specs.dataset_info import DatasetEntry
from service.specs.reasons import Reason
from worker.failures import JobFailure


@dataclass(frozen=True)
class Hub:
    """The hubs, where the operator lets them be reached (FINEBITS_HUB), and the folder for what is fetched."""

    cache: Path
    modelscope: bool = False  # USE_MODELSCOPE_HUB
    token: str | None = None  # a job's own; None leaves it to the operator's, which the libraries read
    modelscope_token: str | None = None


def hub_rows(hub: Hub | None, name: str, entry: DatasetEntry, split: str, streaming: bool) -> Iterator[Row]:
    """The rows of a split, counted from 1; their `file` is the repository's name. A stream fetches no more than is read."""
    hub = _required(hub, name, entry)
    fetch, repository = _place(hub, entry)
    rows = iter(_guarded(lambda: _undecoded(fetch(hub, repository, entry, split, streaming), repository), name, repository))
    number = 0
    while (values := _guarded(lambda: next(rows, None), name, repository)) is not None:
        number += 1
        yield Row(dict(values), repository, number, entry)
    if not number:
        raise JobFailure(Reason.BAD_DATA, f"The split {split} of {repository} holds no rows.", file=repository)


def commit(hub: Hub | None, name: str, entry: DatasetEntry) -> str | None:
    """What the repository now stands at; None on ModelScope, which is not asked."""
    hub = _required(hub, name, entry)
    fetch, repository = _place(hub, entry)
    if fetch is not _fetch:
        return None
    sha: str | None = _guarded(lambda: HfApi(token=hub.token).dataset_info(repository).sha, name, repository)
    return sha


def _required(hub: Hub | None, name: str, entry: DatasetEntry) -> Hub:
    if entry.script_url:
        raise JobFailure(Reason.BAD_DATA, f"The data set {name!r} is a script (script_url): scripts are not run.")
    if hub is None:
        raise JobFailure(Reason.BAD_DATA, f"The data set {name!r} is on a hub, which this worker may not reach: FINEBITS_HUB=1.")
    if not hub.modelscope and not entry.hf_hub_url:
        sentence = f"The data set {name!r} is on ModelScope only, which is reached where USE_MODELSCOPE_HUB=1."
        raise JobFailure(Reason.BAD_DATA, sentence)
    return hub


def _place(hub: Hub, entry: DatasetEntry) -> tuple["Fetch", str]:
    if hub.modelscope and entry.ms_hub_url:
        return _fetch_modelscope, entry.ms_hub_url
    return _fetch, entry.hf_hub_url or ""


# The repository, how it reads, the split, and whether it is streamed.
Fetch = Callable[[Hub, str, DatasetEntry, str, bool], Any]


def _fetch(hub: Hub, repository: str, entry: DatasetEntry, split: str, streaming: bool) -> Any:
    with _own_files_alone(repository):
        return datasets.load_dataset(
            repository,
            name=entry.subset,
            data_dir=entry.folder,
            split=split,
            cache_dir=str(hub.cache),
            token=hub.token,
            streaming=streaming,
        )


def _fetch_modelscope(hub: Hub, repository: str, entry: DatasetEntry, split: str, streaming: bool) -> Any:
    try:
        from modelscope import MsDataset
    except ImportError:
        sentence = f"{repository} is on ModelScope, and this worker does not have modelscope installed."
        raise JobFailure(Reason.BAD_DATA, sentence, file=repository) from None
    found = MsDataset.load(
        repository,
        subset_name=entry.subset,
        data_dir=entry.folder,
        split=split,
        cache_dir=str(hub.cache),
        use_streaming=streaming,
        token=hub.modelscope_token,
        trust_remote_code=False,
    )
    return found.to_hf_dataset() if hasattr(found, "to_hf_dataset") else found


@contextmanager
def _own_files_alone(repository: str) -> Iterator[None]:
    """A repository's README may say where its files lie: anywhere on this host or in its network. The library asks there, and
    then refuses what is not the repository's; here it is refused unasked.
    """
    resolve = datasets.data_files.resolve_pattern

    def resolve_own(pattern: str, base_path: str, *arguments: Any, **options: Any) -> list[str]:
        below = pattern.removeprefix(f"{base_path}/")
        leads_out = "://" in below or "::" in below or below.startswith("/") or ".." in below.split("/")
        for named, is_elsewhere in ((pattern, leads_out), (base_path, not base_path.startswith(f"hf://datasets/{repository}@"))):
            if is_elsewhere:
                sentence = f"{repository} names {named[:200]!r}, which is no file of its own: it is not read."
                raise JobFailure(Reason.BAD_DATA, sentence, file=repository)
        return list(resolve(pattern, base_path, *arguments, **options))

    datasets.data_files.resolve_pattern = resolve_own
    try:
        yield
    finally:
        datasets.data_files.resolve_pattern = resolve


def _undecoded(found: Any, repository: str) -> Any:
    """Its columns of images, sounds and the like as they are stored: to decode one, the library opens whatever path or URL
    stands there.
    """
    for column, feature in (found.features or {}).items():
        if not require_decoding(feature):
            continue
        if not hasattr(feature, "decode_example"):
            sentence = f"{repository} holds images or sounds within its column {column!r}, which are not read."
            raise JobFailure(Reason.BAD_DATA, sentence, file=repository)
        found = found.cast_column(column, replace(feature, decode=False))
    return found


def _guarded(ask: Any, name: str, repository: str) -> Any:
    """What a hub answers, or why it does not, in a sentence."""
    try:
        return ask()
    except JobFailure:
        raise
    except (datasets.exceptions.DatasetNotFoundError, RepositoryNotFoundError):
        sentence = f"The data set {name!r} ({repository}) is not on the hub, or is not open to this worker."
        raise JobFailure(Reason.MISSING_DATA, sentence, file=repository) from None
    except (httpx2.HTTPError, OSError) as error:
        said = _first_line(error).replace(f"{Path.cwd()}/", "")  # where it looked for a folder of that name
        sentence = f"{repository} could not be fetched from the hub: {said}"
        raise JobFailure(Reason.MISSING_DATA, sentence, file=repository) from None
    except (datasets.exceptions.DatasetsError, RuntimeError, ValueError) as error:
        if "scripts are no longer supported" in str(error):
            sentence = f"{repository} is a script, which would run its code: scripts are not run."
            raise JobFailure(Reason.BAD_DATA, sentence, file=repository) from None
        raise JobFailure(Reason.BAD_DATA, f"{repository} cannot be read: {_first_line(error)}", file=repository) from None


def _first_line(error: Exception) -> str:
    return f"{str(error).strip().splitlines()[0].rstrip('.')}." if str(error).strip() else f"{type(error).__name__}."
