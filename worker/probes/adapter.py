"""How a LoRA adapter spreads its update over directions."""

from collections.abc import Iterator

import numpy as np

from worker.information.generalized import participation_entropy
from worker.information.geometry import low_rank_singular_values, spectral_entropy
from worker.probes.finding import Findings, exact
from worker.probes.token import Model

WHY = "Nothing was sampled: the adapter's weights are known."


def adapter_spectra(model: Model, names: set[str]) -> Findings:
    """Means over the adapted layers that moved; none for a model without an adapter, or with one that does nothing yet."""
    spectra = [sigma_R for sigma_R in singular_values(model) if sigma_R.any()]
    if not spectra:
        return {}
    of_each = {
        "spectral_entropy": [spectral_entropy(sigma_R) for sigma_R in spectra],
        "participation_entropy": [participation_entropy(sigma_R**2) for sigma_R in spectra],
    }
    shares = {"spectral_entropy": "singular values", "participation_entropy": "squared singular values"}
    return {
        name: exact(float(np.mean(bits)), WHY, f"of the {shares[name]} of each update, mean over {len(spectra)} layers")
        for name, bits in of_each.items()
        if name in names
    }


def singular_values(model: Model) -> Iterator[np.ndarray]:
    """Of scale · B A, of each adapted layer that has such factors and whose adapter is switched on."""
    for module in model.modules():
        if not hasattr(module, "lora_A") or module.disable_adapters:
            continue
        for adapter in set(module.active_adapters) & set(module.lora_A):
            A, B = module.lora_A[adapter].weight, module.lora_B[adapter].weight
            if A.ndim == B.ndim == 2:
                yield low_rank_singular_values(_fp64(B), _fp64(A), module.scaling[adapter])


def _fp64(weight: object) -> np.ndarray:
    array: np.ndarray = weight.detach().double().cpu().numpy()  # type: ignore[attr-defined]
    return array
