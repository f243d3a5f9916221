"""Rotary positions stretched over a longer context: linearly (Chen et al. 2023) or as the text grows (dynamic NTK)."""

import math
from typing import Any

from transformers import PreTrainedConfig

from service.specs.reasons import Reason
from worker.failures import JobFailure

# Without a text of known length: at inference a model is stretched to twice its own.
INFERENCE_FACTOR = 2.0


def training_factor(cutoff_len: int, max_position_embeddings: int) -> float:
    """⌈cutoff_len / max_position_embeddings⌉: 8192 on 4096 is 2, 9000 is 3, and what fits is 1."""
    return float(max(1, math.ceil(cutoff_len / max_position_embeddings)))


def scale(config: PreTrainedConfig, rope_type: str, cutoff_len: int | None = None) -> float:
    """Changes the config, and answers the factor: that of the cutoff in training, 2 where there is none.

    A model that was scaled so before keeps the greater factor; one that is scaled in another way is refused.
    """
    parameters: dict[str, Any] | None = getattr(config, "rope_parameters", None)
    longest = getattr(config, "max_position_embeddings", None)
    if not isinstance(parameters, dict) or "rope_type" not in parameters or not isinstance(longest, int):
        raise _refused(f"A {config.model_type} model has no rotary positions that rope_scaling could stretch.")
    before = parameters["rope_type"]
    if before not in ("default", rope_type):
        raise _refused(f"The model's positions are scaled already ({before}), so rope_scaling {rope_type} does not go with it.")
    factor = INFERENCE_FACTOR if cutoff_len is None else training_factor(cutoff_len, longest)
    if before == rope_type:
        factor = max(factor, float(parameters.get("factor", 1.0)))
    # merged, never set as config.rope_scaling, which would lose theta
    config.rope_parameters = {**parameters, "rope_type": rope_type, "factor": factor}
    return factor


def _refused(sentence: str) -> JobFailure:
    return JobFailure(Reason.BAD_MODEL, sentence)
