"""What a step needs of its worker beside what every worker has: extras, by the name that workers report them by."""

from collections.abc import Iterator

from service.specs.job import ResolvedJob, ResolvedStep


def of_job(resolved: ResolvedJob) -> list[str]:
    """All that one worker must have to do the whole of it, by name."""
    return sorted({extra for step in resolved.steps for _, extra in needed(step)})


def needed(step: ResolvedStep) -> Iterator[tuple[str, str]]:
    """(the argument that asks for it, the extra)"""
    if step.do == "export" and step.model.export_quantization_bit is not None:
        yield "model.export_quantization_bit", "gptq"
    if step.do == "evaluate" and step.evaluation.harness_task is not None:
        yield "evaluation.task", "eval"
    if step.do == "train" and step.model.use_unsloth:
        yield "model.use_unsloth", "unsloth"
    if step.model.ms_hub_token is not None:
        yield "model.ms_hub_token", "modelscope"


def how_to_have(extra: str) -> str:
    """What an operator does for a worker to have it, as a sentence ends."""
    return HOW.get(extra, f"pip install 'finebits[worker,{extra}]' on its host brings it")


# Of those that are no extra of ours, for pip would find no versions that go together.
HOW = {
    "unsloth": "a release of it that takes a worker's transformers, trl and datasets brings it. Without use_unsloth, peft trains"
}
