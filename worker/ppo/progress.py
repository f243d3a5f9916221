"""What PPO carries from update to update beside weights, optimiser and schedule; a checkpoint has it in a file of its own."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from worker.ppo.equations import INITIAL_KL_COEFFICIENT, Moments, next_kl_coefficient

FILE = "ppo_state.json"


@dataclass(frozen=True)
class Progress:
    """The penalty's coefficient, and the moments of all the scores so far."""

    kl_coefficient: float = INITIAL_KL_COEFFICIENT
    scores: Moments = field(default_factory=Moments)

    def having_seen(self, scores_B: torch.Tensor) -> "Progress":
        return replace(self, scores=self.scores.after(scores_B))

    def steered(self, kl: float, target: float, n_texts: int) -> "Progress":
        """Towards the target; `kl` is the last buffer's, in nats a response."""
        return replace(self, kl_coefficient=next_kl_coefficient(self.kl_coefficient, kl, target, n_texts))

    def save(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Progress":
        kept = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return cls(kept["kl_coefficient"], Moments(**kept["scores"]))
