"""Whether what a ppo step is to be scored by can score: an API on a listed host, or a model with a value head beside it."""

from collections.abc import Iterator
from pathlib import Path

from service.specs.job import ResolvedStep
from service.specs.reward_api import secret_in, why_not_allowed
from service.specs.roots import OutsideRoot, inside

NOT_KEPT = "Keys are kept encrypted, and the operator has set no FINEBITS_SECRET_KEY to do it with."

# The files that the worker reads a head from, in that order.
HEADS = ("value_head.safetensors", "value_head.bin")


def why_not(
    models_root: Path, reward_hosts: tuple[str, ...], step: ResolvedStep, secrets: bool = True
) -> Iterator[tuple[str, str]]:
    """(argument, sentence). What is not in the models folder is for others to say, or is looked at when it has been fetched."""
    fine = step.finetuning
    if fine.stage != "ppo" or fine.reward_model is None:
        return
    if fine.reward_model_type == "api":
        if why := why_not_allowed(fine.reward_model, reward_hosts):
            yield "finetuning.reward_model", why
        elif name := secret_in(fine.reward_model):
            yield "finetuning.reward_model", f"{name!r} would be stored and shown with the URL: give it as reward_api_key."
        if fine.reward_api_key is not None and not secrets:
            yield "finetuning.reward_api_key", NOT_KEPT
        return
    adapters = (fine.reward_model_adapters or ()) if fine.reward_model_type == "full" else ()
    name = adapters[-1] if adapters else fine.reward_model
    config = "adapter_config.json" if adapters or fine.reward_model_type == "lora" else "config.json"
    if _lacks_a_head(models_root, name, config):
        argument = "finetuning.reward_model_adapters" if adapters else "finetuning.reward_model"
        yield argument, f"The reward model {name!r} has no {HEADS[0]} beside it: train one with the stage rm."


def _lacks_a_head(models_root: Path, name: str, config: str) -> bool:
    if name.startswith("@"):
        return False  # `rewards_come_from_rm` has looked at it
    try:
        folder = inside(models_root, name)
    except OutsideRoot:
        return False
    return (folder / config).is_file() and not any((folder / head).is_file() for head in HEADS)
