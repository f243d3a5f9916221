"""What a step begins with, where an earlier job made it: "job-.../sft/40" as the name of a model or of an adapter."""

from collections.abc import Iterator
from typing import Any

from service.specs.checkpoint_names import CheckpointName, of_earlier
from service.specs.job import ResolvedJob, ResolvedStep
from service.specs.lineage import lineages, with_own

# The arguments that name a whole model, each with the one that names the adapters on it.
WHOLES = (
    ("model", "model_name_or_path", "adapter_name_or_path"),
    ("finetuning", "ref_model", "ref_model_adapters"),
    ("finetuning", "reward_model", "reward_model_adapters"),
)


def earlier_named(step: ResolvedStep) -> Iterator[tuple[str, CheckpointName]]:
    """Each checkpoint of an earlier job, with the argument that names it: "model.adapter_name_or_path.0"."""
    for group, whole, adapters in WHOLES:
        texts = [(whole, getattr(getattr(step, group), whole))]
        texts += [(f"{adapters}.{place}", text) for place, text in enumerate(getattr(getattr(step, group), adapters) or ())]
        for argument, text in texts:
            name = None if text is None else of_earlier(text)
            if name is not None:
                yield f"{group}.{argument}", name


def chain(job: ResolvedJob, name: CheckpointName) -> tuple[str, ...]:
    """The whole model that a checkpoint of that job is, and the adapters on it, the last of them the checkpoint's own."""
    maker = next(step for step in job.steps if step.name == name.step)
    if maker.finetuning.finetuning_type != "lora":
        return (str(name),)
    start = lineages(job)[maker.name]
    *below, _ = with_own(maker, start)
    return *(_from_outside(name, text) for text in (start.whole, *below)), str(name)


def with_chains(step: ResolvedStep, chains: dict[str, tuple[str, ...]]) -> ResolvedStep:
    """The step with every checkpoint written out by its chain, found under its name as it came: a whole model as one with the
    adapters on it, and then a new adapter is trained unless one is named.
    """
    changes: dict[str, dict[str, Any]] = {"model": {}, "finetuning": {}}
    for group, whole, adapters in WHOLES:
        texts = getattr(getattr(step, group), adapters) or ()
        made = chains.get(getattr(getattr(step, group), whole) or "")
        own = tuple(chains[text][-1] if text in chains else text for text in texts)
        is_adapter = whole == "reward_model" and step.finetuning.reward_model_type == "lora"
        if made is not None:
            changes[group][whole] = made[-1] if is_adapter else made[0]
            own = own if is_adapter else (*made[1:], *own)
            if group == "model" and not texts and _takes_a_new_adapter(step, made):
                changes["finetuning"]["create_new_adapter"] = True
        if own != tuple(texts):
            changes[group][adapters] = own
    groups = {group: getattr(step, group).model_copy(update=fields) for group, fields in changes.items()}
    return step.model_copy(update=groups)


def _takes_a_new_adapter(step: ResolvedStep, made: tuple[str, ...]) -> bool:
    """Nothing can be merged into a quantized model: there the last adapter is gone on with."""
    return step.finetuning.finetuning_type == "lora" and len(made) > 1 and step.model.quantization_bit is None


def _from_outside(name: CheckpointName, text: str) -> str:
    """What the job calls "@step", as another calls it."""
    return f"{name.job_id}/{text[1:]}" if text.startswith("@") else text
