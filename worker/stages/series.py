"""What a loss has to tell beside its own value, until the update that it belongs to is told."""

from collections.abc import Iterable, Mapping

import torch

from worker import ranks


class Series:
    """Means over the batches of an update, of all ranks. A name that only some of the batches have is a mean over those."""

    def __init__(self) -> None:
        self._batches: list[Mapping[str, torch.Tensor]] = []

    def add(self, **values: torch.Tensor) -> None:
        """One batch's values, each a scalar. They stay on their device until the update is over."""
        self._batches.append({name: value.detach() for name, value in values.items()})

    def take(self) -> dict[str, float]:
        """The means since the last time, and begins anew."""
        batches = [batch for of_rank in ranks.of_all(self._values()) for batch in of_rank]
        self._batches = []
        return means(batches)

    def _values(self) -> list[dict[str, float]]:
        """Each batch's, fetched from the device at once."""
        flat = [value.float() for batch in self._batches for value in batch.values()]
        numbers = iter(torch.stack(flat).tolist() if flat else [])
        return [{name: next(numbers) for name in batch} for batch in self._batches]


def means(entries: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Of each name, over the entries that have it."""
    values: dict[str, list[float]] = {}
    for entry in entries:
        for name, value in entry.items():
            values.setdefault(name, []).append(value)
    return {name: sum(known) / len(known) for name, known in values.items()}
