"""Models that a step asks beside the one that it trains, each read as a step whose own model it is.

So whatever is known of a step's model holds of them too: their lineage, what is refused, how they are loaded.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from service.specs.finetuning import FinetuningArguments
from service.specs.job import ResolvedStep
from service.specs.model import ModelArguments

# How a model's own arguments are called where it is a companion's: "ref" makes finetuning.ref_model of model.model_name_or_path.
_NAMES = {
    "model.model_name_or_path": "finetuning.{}_model",
    "model.adapter_name_or_path": "finetuning.{}_model_adapters",
    "model.quantization_bit": "finetuning.{}_model_quantization_bit",
}
# Where it is an adapter on the step's own model.
_NAMES_OF_AN_ADAPTER = {"model.adapter_name_or_path": "finetuning.{}_model"}


@dataclass(frozen=True)
class Companion:
    """`step` is the step that it stands beside, with the companion in its model's place."""

    role: Literal["ref", "reward"]
    step: ResolvedStep
    is_adapter: bool = False  # on the step's own model, which it shares

    def argument(self, argument: str) -> str:
        """The step's own argument for one of the companion's; what it has of the step itself is called as it is there."""
        names = _NAMES_OF_AN_ADAPTER if self.is_adapter else _NAMES
        return names.get(argument, argument).format(self.role)


def companions(step: ResolvedStep) -> Iterator[Companion]:
    """Those that the step names."""
    if step.finetuning.ref_model is not None:
        yield companion(step, "ref")
    if step.finetuning.stage == "ppo" and step.finetuning.reward_model is not None:
        if step.finetuning.reward_model_type == "lora":
            yield _reward_adapter(step, step.finetuning.reward_model)
        elif step.finetuning.reward_model_type == "full":
            yield companion(step, "reward")


def with_companions(step: ResolvedStep) -> Iterator[tuple[ResolvedStep, Callable[[str], str]]]:
    """The step and then its companions, each with what its arguments are called in the step."""
    yield step, lambda argument: argument
    for beside in companions(step):
        yield beside.step, beside.argument


def companion(step: ResolvedStep, role: Literal["ref", "reward"]) -> Companion:
    """Its last adapter lies on it, as on a model that training goes on with: nothing can be merged into a quantized one.

    It does not train, so it may be of half precision.
    """
    fine = step.finetuning
    model = ModelArguments(
        model_name_or_path=getattr(fine, f"{role}_model"),
        adapter_name_or_path=getattr(fine, f"{role}_model_adapters"),
        quantization_bit=getattr(fine, f"{role}_model_quantization_bit"),
        **{name: getattr(step.model, name) for name in _OF_THE_STEP},
    )
    finetuning = FinetuningArguments(finetuning_type="lora", stage=fine.stage)
    return Companion(role, step.model_copy(update={"model": model, "finetuning": finetuning}))


def _reward_adapter(step: ResolvedStep, reward_model: str) -> Companion:
    """The model that the step's own adapter lies on, and on it, in that one's place, the reward model's."""
    given = step.model.adapter_name_or_path or ()
    below = given if step.finetuning.create_new_adapter else given[:-1]
    model = step.model.model_copy(update={"adapter_name_or_path": (*below, reward_model)})
    finetuning = FinetuningArguments(finetuning_type="lora", stage=step.finetuning.stage)
    return Companion("reward", step.model_copy(update={"model": model, "finetuning": finetuning}), is_adapter=True)


# What a companion has of the step: where it comes from, which tokens it must have, and how it computes.
_OF_THE_STEP = (
    "cache_dir",
    "model_revision",
    "hf_hub_token",
    "ms_hub_token",
    "split_special_tokens",
    "resize_vocab",
    "quantization_type",
    "double_quantization",
    "rope_scaling",
    "flash_attn",
    "shift_attn",
    "upcast_layernorm",
    "upcast_lmhead_output",
)
