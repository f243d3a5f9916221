"""What a loss has to tell beside its own value, until the update that it belongs to is told."""

from collections.abc import Mapping

import torch


class Series:
    """Means over the batches of an update. A name that only some of the batches have is a mean over those."""

    def __init__(self) -> None:
        self._batches: list[Mapping[str, torch.Tensor]] = []

    def add(self, **values: torch.Tensor) -> None:
        """One batch's values, each a scalar. They stay on their device until the update is over."""
        self._batches.append({name: value.detach() for name, value in values.items()})

    def take(self) -> dict[str, float]:
        """The means since the last time, and begins anew."""
        names = dict.fromkeys(name for batch in self._batches for name in batch)
        means = [torch.stack([batch[name].float() for batch in self._batches if name in batch]).mean() for name in names]
        self._batches = []
        return dict(zip(names, torch.stack(means).tolist(), strict=True)) if means else {}
