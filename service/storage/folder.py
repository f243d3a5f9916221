"""The artifact store of one host, or of several that share a file system: the folder that jobs write into."""

import shutil
from pathlib import Path

from service.specs.roots import OutsideRoot, inside
from service.storage.errors import Missing


class Folder:
    """What is put is there already, and so is what is fetched."""

    def __init__(self, root: Path):
        self.url = str(root)
        self._root = root

    def path(self, key: str) -> Path:
        """Where the file is, links followed."""
        try:
            found = inside(self._root, key)
        except OutsideRoot:
            raise Missing(f"The file {key!r} is not among the artifacts.") from None
        if not found.is_file():
            raise Missing(f"The file {key!r} is not on the disk.")
        return found

    def put(self, file: Path, key: str, size: int, sha256: str) -> None:
        """The job wrote it here."""

    def fetch(self, key: str, to: Path, size: int, sha256: str) -> None:
        self.path(key)

    def size(self, key: str) -> int:
        return self.path(key).stat().st_size

    def block(self, key: str, start: int, stop: int) -> bytes:
        try:
            with self.path(key).open("rb") as file:
                file.seek(start)
                return file.read(stop - start)
        except OSError:
            raise Missing(f"The file {key!r} cannot be read.") from None

    def remove(self, key: str) -> None:
        try:
            place = inside(self._root, key)
        except OutsideRoot:
            raise Missing(f"The file {key!r} is not among the artifacts.") from None
        if place == self._root.resolve():
            raise Missing("The artifacts' own folder is not one of them.")
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)

    def answers(self) -> bool:
        return self._root.is_dir()
