"""The artifact store behind a URL, through fsspec. S3 gets parts that can be resumed; what else there is takes files whole.

Every file that was put is verified, and every file that is fetched has its SHA-256 compared, before anyone relies on it.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec

from service.storage import multipart
from service.storage.errors import Away, Damaged, Missing, StorageError

BLOCK_BYTES = 8 * 2**20
BLOCKS_AT_ONCE = 4
SIZE_SECONDS, BLOCK_SECONDS = 10.0, 30.0  # a request of the API waits no longer
ANSWER_SECONDS = 3.0  # how long the store may take to say that it is there
ANSWER_LASTS_SECONDS = 5.0

# Whoever waits for a file decides how long: these are for one request. Two tries, for connections that were closed while idle.
S3_CONFIG = {"connect_timeout": 5, "read_timeout": 30, "retries": {"total_max_attempts": 2, "mode": "standard"}}


class Remote:
    """Opens nothing until it is used, so it may be made where the store is away."""

    def __init__(self, url: str, s3_endpoint: str = "", part_bytes: int = multipart.PART_BYTES):
        self.url = url.rstrip("/")
        self._is_s3 = url.startswith("s3://")
        options = {"endpoint_url": s3_endpoint or None, "config_kwargs": S3_CONFIG} if self._is_s3 else {}
        # a listing that was kept would hide what another host has put
        self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True, **options)
        self._root = str(root).rstrip("/")
        self._part_bytes = part_bytes
        self._answered = (float("-inf"), False)
        if self._is_s3:
            self._fs.retries = 1  # botocore's tries are enough; s3fs would repeat them five times over

    def put(self, file: Path, key: str, size: int, sha256: str) -> None:
        try:
            if self._is_s3:
                bucket, _, name = self._path(key).partition("/")
                is_proven = multipart.put(self._call, bucket, name, file, size, sha256, self._part_bytes)
            else:
                is_proven = False
                with self._asking(key):
                    self._fs.makedirs(os.path.dirname(self._path(key)), exist_ok=True)
                    self._fs.put_file(str(file), self._path(key))
        except Missing:
            raise Away(f"The artifact store {self.url} has no such bucket, or ended the upload of {key}.") from None
        if not is_proven and self._sha256(key, size) != sha256:
            raise Damaged(f"The artifact store {self.url} has other bytes than were put as {key}.")

    def fetch(self, key: str, to: Path, size: int, sha256: str) -> None:
        if to.is_file() and to.stat().st_size == size and _sha256(to) == sha256:
            return
        found = self.size(key)
        if found != size:
            raise Damaged(f"{key} in the artifact store {self.url} has {found} bytes, and had {size} when it was put.")
        to.parent.mkdir(parents=True, exist_ok=True)
        partial = to.with_name(f".{to.name}.part")
        for _ in range(2):  # once more, since what a broken transfer left may be what is wrong
            self._download(key, partial, size)
            if _sha256(partial) == sha256:
                partial.rename(to)
                return
            partial.unlink()
        raise Damaged(f"{key} in the artifact store {self.url} has another SHA-256 than when it was put.")

    def size(self, key: str) -> int:
        with self._asking(key):
            return int(self._fs.info(self._path(key), **self._within(SIZE_SECONDS))["size"])

    def block(self, key: str, start: int, stop: int) -> bytes:
        with self._asking(key):
            read: bytes = self._fs.cat_file(self._path(key), start=start, end=stop, **self._within(BLOCK_SECONDS))
            return read

    def remove(self, key: str) -> None:
        with suppress(Missing), self._asking(key):
            self._fs.rm(self._path(key), recursive=True)

    def answers(self) -> bool:
        at, answer = self._answered
        if time.monotonic() - at > ANSWER_LASTS_SECONDS:
            answer = self._answers_now()
            self._answered = (time.monotonic(), answer)
        return answer

    def _answers_now(self) -> bool:
        try:
            if self._is_s3:
                self._call("head_bucket", Bucket=self._root.partition("/")[0], timeout=ANSWER_SECONDS)
            else:
                with self._asking(""):
                    self._fs.info(self._root)
        except Missing:
            return not self._is_s3  # a folder that nothing was put into yet
        except Away:
            return False
        return True

    def _download(self, key: str, partial: Path, size: int) -> None:
        """Goes on behind what is there, some blocks at once."""
        with partial.open("ab") as file:
            if file.tell() > size:
                file.truncate(0)
            while (at := file.tell()) < size:
                starts = list(range(at, min(at + BLOCKS_AT_ONCE * BLOCK_BYTES, size), BLOCK_BYTES))
                file.writelines(self._blocks(key, starts, size))

    def _sha256(self, key: str, size: int) -> str:
        """Of what the store holds, read back."""
        digest = hashlib.sha256()
        for start in range(0, size, BLOCKS_AT_ONCE * BLOCK_BYTES):
            stop = min(start + BLOCKS_AT_ONCE * BLOCK_BYTES, size)
            for block in self._blocks(key, list(range(start, stop, BLOCK_BYTES)), size):
                digest.update(block)
        return digest.hexdigest()

    def _blocks(self, key: str, starts: list[int], size: int) -> list[bytes]:
        stops = [min(start + BLOCK_BYTES, size) for start in starts]
        with self._asking(key):
            paths = [self._path(key)] * len(starts)
            blocks: list[bytes] = self._fs.cat_ranges(paths, starts, stops, on_error="raise")
        if any(len(block) != stop - start for block, start, stop in zip(blocks, starts, stops, strict=True)):
            raise Away(f"The artifact store {self.url} broke off in {key}.")
        return blocks

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """One request of S3's own interface."""
        with self._asking(arguments.get("Key", "")):
            answer: dict[str, Any] = self._fs.call_s3(method, **arguments)
            return answer

    def _within(self, seconds: float) -> dict[str, float]:
        """fsspec's limit on a whole call, which its asynchronous file systems alone have."""
        return {"timeout": seconds} if self._fs.async_impl else {}

    def _path(self, key: str) -> str:
        if any(part in ("", ".", "..") for part in key.split("/")):
            raise Missing(f"The file {key!r} is not among the artifacts.")
        return f"{self._root}/{key}"

    @contextmanager
    def _asking(self, key: str) -> Iterator[None]:
        """Whatever a store's library raises, as one of ours: each has errors of its own, and they share no base."""
        try:
            yield
        except StorageError:
            raise
        except FileNotFoundError:
            raise Missing(f"The artifact store {self.url} has no {key}.") from None
        except PermissionError:
            raise Away(f"The artifact store {self.url} refuses: credentials or the bucket's policy do not allow it.") from None
        except Exception as error:
            said = " ".join(str(error).split())[:200]
            raise Away(f"The artifact store {self.url} does not answer as it should ({type(error).__name__}: {said}).") from error


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
