"""An attempt's log: whatever the training process and its libraries print, and no more of it than a disk can bear."""

import io
import os
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from service.specs.redaction import redacted
from service.specs.tokens import without

MOST_BYTES = 64_000_000
LEFT_OUT = b"[Finebits: the log grew too long, and lines between here and there were left out.]\n"


def speak_into(log: Path, secrets: Collection[str] = ()) -> None:
    """From now on standard output and standard error of this process, C libraries' too, are the log.

    What Python writes there has stars in place of the secrets, and of what looks like one, whatever library says it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    sys.stdout = _Discreet(os.fdopen(1, "wb", closefd=False), secrets)
    sys.stderr = _Discreet(os.fdopen(2, "wb", closefd=False), secrets)


class _Discreet(io.TextIOWrapper):
    """Writes line by line."""

    def __init__(self, raw: BinaryIO, secrets: Collection[str]):
        super().__init__(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        self._secrets = tuple(secrets)

    def write(self, text: str) -> int:
        super().write(redacted(without(text, self._secrets)))
        return len(text)


def trim(log: Path, most_bytes: int = MOST_BYTES) -> None:
    """Leaves out the middle of a log that is too long: how it began and what was said last are what people look for.

    In place, since whoever writes it has it open and appends. What is written in this very moment may be lost.
    """
    with suppress(OSError):
        size = log.stat().st_size
        if size <= most_bytes:
            return
        with log.open("r+b") as file:
            head = file.read(most_bytes // 4)
            file.seek(size - most_bytes // 4)
            tail = file.read(most_bytes // 4)
            file.truncate(head.rfind(b"\n") + 1)
            file.seek(0, os.SEEK_END)
            file.write(LEFT_OUT + tail[tail.find(b"\n") + 1 :])
