"""What may be asked of a checkpoint at once, and the job that answers it."""

from typing import Any

from pydantic import Field

from service.specs.base import Group
from service.specs.checkpoint_names import CheckpointName
from service.specs.generating import GeneratingArguments
from service.specs.job import ResolvedJob
from service.specs.lineage import lineages, origin
from service.specs.messages import Messages
from service.specs.refusals import Place, Refusal

_GENERATING = ("do_sample", "temperature", "top_p", "top_k", "repetition_penalty")
USUAL_TOKENS = 512
MOST_SECONDS = 600.0  # that a text may take
AHEAD = 100  # its priority: somebody waits

_FIELDS = GeneratingArguments.model_fields


class Generation(Group):
    """The body of POST /jobs/{job_id}/checkpoints/{global_step}/generate. What is not given is as in a job."""

    prompt: str | None = Field(
        default=None,
        max_length=1_000_000,
        description="What is said to it, or, of a checkpoint of the stage pt, the text to go on with.",
    )
    messages: Messages | None = Field(default=None, description="Or a conversation, up to the user's message that is answered.")
    max_new_tokens: int | None = Field(
        default=None, ge=1, description="At most FINEBITS_GENERATE_MAX_TOKENS; 512, or that, when not given."
    )
    do_sample: bool = Field(default=True, description=_FIELDS["do_sample"].description)
    temperature: float = Field(default=0.95, ge=0, description=_FIELDS["temperature"].description)
    top_p: float = Field(default=0.7, gt=0, le=1, description=_FIELDS["top_p"].description)
    top_k: int = Field(default=50, ge=0, description=_FIELDS["top_k"].description)
    repetition_penalty: float = Field(default=1.0, gt=0, description=_FIELDS["repetition_penalty"].description)
    seed: int = Field(default=42, ge=0, lt=2**32, description="The same seed writes the same text.")


def refusals(asked: Generation, most_tokens: int) -> list[Refusal]:
    """What the types do not say."""
    found = []
    if (asked.prompt is None) == (asked.messages is None):
        found.append(Refusal(("prompt",), "Give a prompt, or the messages of a conversation: one of the two."))
    if (asked.max_new_tokens or 0) > most_tokens:
        limit = f"This service writes at most {most_tokens} tokens so (FINEBITS_GENERATE_MAX_TOKENS)"
        found.append(Refusal(("max_new_tokens",), f"{limit}; a job that generates has no such limit."))
    return found


def document_of(name: CheckpointName, asked: Generation, job: ResolvedJob, most_tokens: int) -> dict[str, Any]:
    """The job: on the queue, and with the GPUs, that the one which made the checkpoint asked for. It is tried once."""
    made_by = next(step for step in job.steps if step.name == name.step)
    known, resources = lineages(job), job.resources
    is_pt = made_by.finetuning.stage == "pt"
    said: Any = [{"role": "user", "content": asked.prompt}]
    if asked.messages is not None:
        said = [message.model_dump() for message in asked.messages]
    generating = {field: getattr(asked, field) for field in _GENERATING if field in asked.model_fields_set}
    wanted = {"queue": resources.queue, "priority": AHEAD, "max_lost": 0, "max_retries": 0, "max_seconds": MOST_SECONDS}
    gpus = {} if resources.gpus is None else {"gpus": min(resources.gpus, 1)}
    shared = {} if resources.gpus == 0 else {"gpu_memory_fraction": resources.gpu_memory_fraction}
    return {
        "name": f"generate {name}",
        "do": "generate",
        "messages": said,
        "model": {"model_name_or_path": origin(known[made_by.name].whole, known)},
        "data": {} if is_pt else {"template": made_by.data.template},
        "finetuning": {"stage": "pt" if is_pt else "sft", "finetuning_type": made_by.finetuning.finetuning_type},
        "generating": {**generating, "max_new_tokens": asked.max_new_tokens or min(USUAL_TOKENS, most_tokens)},
        "training": {"seed": asked.seed},
        "measures": {"checkpoints": [str(name)]},
        "resources": wanted | gpus | shared,
    }


def place_in(place: Place) -> Place:
    """Where the body has what stands at a place of that job; the body as a whole, where it has it nowhere."""
    if place[:1] == ("messages",):
        return place
    return place[1:] if place[:1] in (("generating",), ("training",)) else ()
