"""Tokenised data, kept under a name for jobs that ask for the same again.

A folder is whole or not there: it is written under another name and then renamed. What it holds is used only where everything
that decides it is the same: arguments, files, tokenizer, and the code that makes examples.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import datasets
from transformers import PreTrainedTokenizerBase

from service.specs.reasons import Reason
from service.specs.roots import OutsideRoot, inside
from worker.data.pairs import KtoExample, PairExample
from worker.data.prepared import Prepared, chosen
from worker.data.tokenize import Coverage, Example
from worker.failures import JobFailure

KEY_FILE = "made_of.json"

# What the examples are made with: after a change in any of these, what was kept is no longer what would be made.
CODE = sorted(file for file in Path(__file__).parent.glob("*.py") if file.name not in ("__init__.py", "cache.py"))


def kept_or_made(root: Path, name: str, key: dict[str, Any], overwrite: bool, make: Callable[[], Prepared]) -> Prepared:
    """What is kept as `name`; where nothing is, or is to be overwritten, it is made and kept. Its notices say which.

    Raises JobFailure where what is kept was made of something else than `key`.
    """
    folder = _folder(root, name)
    key = json.loads(json.dumps(key))  # as it will be read again: without tuples
    if folder.exists() and not overwrite:
        _require_same(folder, name, key)
        return _noted(_load(folder, name), f"The tokenised examples are taken from the cache {name!r}.")
    made = make()
    _save(root, folder, key, made, overwrite)
    return _noted(made, f"The tokenised examples are kept in the cache {name!r}.")


def fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """The same for tokenizers that make the same tokens of the same texts."""
    special = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.split_special_tokens)
    whole = (tokenizer.backend_tokenizer.to_str(), special, tokenizer.chat_template)
    return hashlib.sha256(repr(whole).encode()).hexdigest()


def code() -> str:
    """The same for the same code."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in CODE)).hexdigest()


def _folder(root: Path, name: str) -> Path:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return inside(root, name)
    except OutsideRoot as error:
        raise JobFailure(Reason.BAD_DATA, f"cache_path cannot be used: {error}") from None


def _require_same(folder: Path, name: str, key: dict[str, Any]) -> None:
    try:
        kept = json.loads((folder / KEY_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise _damaged(name) from None
    if kept == key:
        return
    different = ", ".join(sorted(part for part in kept.keys() | key.keys() if kept.get(part) != key.get(part)))
    sentence = f"The cache {name!r} was made with something else: {different} differ. Name another cache_path, or set "
    raise JobFailure(Reason.BAD_DATA, f"{sentence}overwrite_cache to make this one anew.")


def _noted(prepared: Prepared, notice: str) -> Prepared:
    return replace(prepared, notices=(*prepared.notices, notice))


def _load(folder: Path, name: str) -> Prepared:
    try:
        parts = datasets.load_from_disk(str(folder))
        about = json.loads(parts["about"][0]["json"])
        train, evaluation = ([Example(**row) for row in parts[part]] for part in ("train", "evaluation"))
        rest = Coverage(**about["coverage"]), about["split"], tuple(about["notices"])
        if about.get("pairs"):
            pairs = _paired(evaluation)
            return Prepared(_paired(train), chosen(pairs), *rest, pairs)
        if about.get("desirable"):
            return Prepared([*map(KtoExample, train, about["desirable"])], evaluation, *rest)
        return Prepared(train, evaluation, *rest)
    except (OSError, ValueError, KeyError, TypeError):
        raise _damaged(name) from None


def _damaged(name: str) -> JobFailure:
    return JobFailure(
        Reason.BAD_DATA, f"The cache {name!r} is damaged, or is no cache of ours: set overwrite_cache to replace it."
    )


def _save(root: Path, folder: Path, key: dict[str, Any], made: Prepared, overwrite: bool) -> None:
    with tempfile.TemporaryDirectory(prefix=".making-", dir=root) as making:
        whole = Path(making, "whole")
        of_pairs = bool(made.pairs)
        desirable = [example.desirable for example in made.train if isinstance(example, KtoExample)]
        kind = {"pairs": of_pairs, "desirable": desirable}
        about = json.dumps({"coverage": asdict(made.coverage), "split": made.split, "notices": made.notices} | kind)
        parts = {
            "train": _table(_apart(made.train) if of_pairs else [_alone(example) for example in made.train]),
            "evaluation": _table(_apart(made.pairs) if of_pairs else made.evaluation),
            "about": datasets.Dataset.from_dict({"json": [about]}),
        }
        datasets.DatasetDict(parts).save_to_disk(str(whole))
        (whole / KEY_FILE).write_text(json.dumps(key, indent=2), encoding="utf-8")
        if folder.exists() and not overwrite:
            return  # another job was first, with the same key or with one that the next job will complain of
        _put(whole, folder, Path(making, "before"))


def _apart(pairs: Sequence[PairExample]) -> list[Example]:
    return [example for pair in pairs for example in (pair.chosen, pair.rejected)]


def _alone(example: Example | KtoExample) -> Example:
    return example.answer if isinstance(example, KtoExample) else example


def _paired(examples: list[Example]) -> list[PairExample]:
    return [PairExample(better, worse) for better, worse in zip(examples[::2], examples[1::2], strict=True)]


def _table(examples: list[Example]) -> datasets.Dataset:
    names = [field.name for field in fields(Example)]
    return datasets.Dataset.from_dict({name: [getattr(example, name) for example in examples] for name in names})


def _put(whole: Path, folder: Path, before: Path) -> None:
    """Renames it into its place; what stood there goes with the folder that `before` is in."""
    with suppress(FileNotFoundError):
        folder.rename(before)
    with suppress(OSError):  # another job put its own there in between
        whole.rename(folder)
