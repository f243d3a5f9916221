"""What a policy is asked: a conversation but for its last response, earlier turns and all, as `sft` would have it."""

from typing import Literal

from transformers import PreTrainedTokenizerBase

from service.library.formats import Conversation
from worker.data.tokenize import MASKED, Example, budget
from worker.data.turns import AnyTemplate, encode_turns


def encode_prompt(
    conversation: Conversation,
    template: AnyTemplate,
    tokenizer: PreTrainedTokenizerBase,
    cutoff_len: int,
    reserved_label_len: int,
    overlength: Literal["truncate", "drop"] = "truncate",
) -> Example | None:
    """All masked. One longer than cutoff_len keeps its first cutoff_len − reserved_label_len tokens, or is dropped (None)."""
    *earlier, (source, _) = encode_turns(conversation, template, tokenizer).turns
    ids = [token for asked, answered in earlier for token in (*asked.ids, *answered.ids)] + source.ids
    kept, _ = budget(len(ids), 0, cutoff_len, reserved_label_len)
    if kept < len(ids) and overlength == "drop":
        return None
    return Example(ids[:kept], [MASKED] * kept, truncated=kept < len(ids))
