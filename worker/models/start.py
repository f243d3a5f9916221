"""What a step's model is made of, as folders on this host."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SavedAdapter:
    """An adapter's folder, and the name that the job has for it."""

    name: str
    folder: Path


@dataclass(frozen=True)
class Start:
    """`merged` go into the whole model in that order; training goes on with `continued`, or begins with a new adapter or none."""

    whole: Path
    merged: tuple[SavedAdapter, ...] = ()
    continued: SavedAdapter | None = None

    @property
    def as_trained(self) -> "Start":
        """With the last of its adapters lying on it, as it lay there while it trained, and the others merged."""
        return Start(self.whole, self.adapters[:-1], self.adapters[-1]) if self.adapters else self

    @property
    def adapters(self) -> tuple[SavedAdapter, ...]:
        """All of them, in order."""
        return self.merged if self.continued is None else (*self.merged, self.continued)
