"""The artifact store, as the service and the workers use it. A key is a path under its root: job/attempt/step/..."""

from pathlib import Path
from typing import Protocol


class Storage(Protocol):
    """Each verb raises Missing or Away; those that move whole files also Damaged."""

    url: str  # what people call it; holds no secret

    def put(self, file: Path, key: str, size: int, sha256: str) -> None:
        """Returns when the store holds the file whole. Again after an interruption, it sends what is not there yet."""

    def fetch(self, key: str, to: Path, size: int, sha256: str) -> None:
        """The file under its own name once its hash is right. Again after an interruption, it goes on where it ended."""

    def size(self, key: str) -> int:
        """In bytes."""

    def block(self, key: str, start: int, stop: int) -> bytes:
        """Bytes from `start` up to `stop`; fewer where the file ends before."""

    def remove(self, key: str) -> None:
        """The file or the folder, whole; nothing where it is gone already. Never the root itself."""

    def answers(self) -> bool:
        """Whether the store can be reached now; asked often, so it is answered fast."""
