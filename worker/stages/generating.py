"""generate: one answer to the job's own messages, told piece by piece as it is written."""

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, TextStreamer

from service.library.formats import Conversation
from service.library.formats import Message as Turn
from service.specs.messages import Message
from service.specs.reasons import Reason
from worker.data.prompts import encode_prompt
from worker.data.templates import TEMPLATES
from worker.data.tokenize import encode_text
from worker.failures import JobFailure
from worker.models.assembly import frozen
from worker.models.loading import load_tokenizer
from worker.run import Run
from worker.stages.predicting import manner_of, refuse_reward_model
from worker.stages.step import StepWork
from worker.stages.training import add_template_tokens
from worker.writing.answers import answer
from worker.writing.batch import room_of

UNCUT = 2**30  # tokens: longer than any prompt


def generate(work: StepWork, run: Run) -> tuple[Path, dict[str, Any]]:
    """Answers; the summary is the answer, and what it cost in bits."""
    step, one = work.step, work.to_ask
    assert one is not None
    refuse_reward_model(one)
    start, tokenizer_at = one.start()
    tokenizer = load_tokenizer(tokenizer_at, step.model.split_special_tokens)
    add_template_tokens(run, work, tokenizer)
    prompt = _prompt(work, tokenizer)
    run.check()
    model = frozen(start, one.step, tokenizer, torch.device("cpu" if work.use_cpu else "cuda"))
    manner = manner_of(work, tokenizer)
    room = room_of(model, len(prompt), step.generating)
    if room < 1:
        sentence = (
            f"The prompt has {len(prompt)} tokens: they leave no room for an answer in the model's positions or max_length."
        )
        raise JobFailure(Reason.BAD_DATA, sentence)
    run.progress(phase="generating", global_step=0, max_steps=room)
    told = _Pieces(run, tokenizer)
    (answered,) = answer(model, [prompt], [room], [(step.training.seed, 0)], manner, lambda: run.wish is not None, told)
    run.check()
    return work.folder, {
        "text": told.text,
        "prompt_tokens": len(prompt),
        "tokens": len(answered.tokens),
        "log_probability": round(answered.log_probability, 6),
        "entropy": round(answered.entropy, 6),
        "finish_reason": answered.finish_reason,
    }


def _prompt(work: StepWork, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """A conversation up to its answer; in the stage pt a text, behind the end of the one before, as it is trained."""
    messages = work.messages
    if work.step.finetuning.stage == "pt":
        eos: Any = tokenizer.eos_token_id
        return [eos, *encode_text(messages[-1].content, tokenizer)]
    encoded = encode_prompt(_conversation(messages), TEMPLATES[work.step.data.template or "empty"], tokenizer, UNCUT, 1)
    assert encoded is not None, "nothing is dropped that is not too long"
    return encoded.input_ids


def _conversation(messages: tuple[Message, ...]) -> Conversation:
    """With an answer of nothing, which is not read."""
    system = messages[0].content if messages[0].role == "system" else None
    said = tuple(Turn(one.role, one.content) for one in messages if one.role != "system")
    return Conversation(system, (*said, Turn("assistant", "")), "messages", 1)


class _Pieces(TextStreamer):
    """Tells what can no longer change; a character may be several tokens."""

    def __init__(self, run: Run, tokenizer: PreTrainedTokenizerBase):
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._run = run
        self._n_told = 0
        self.text = ""

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        if not text:
            return
        self.text += text
        self._run.piece(self._n_told, text)
        self._n_told += 1
