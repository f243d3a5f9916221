import pytest

from service.library.formats import Conversation, Message
from worker.data.prompts import encode_prompt
from worker.data.template import Template
from worker.data.tokenize import MASKED, encode_conversation

PLAIN = Template(user="Q{content}A", prefix="")


def conversation(*said):
    roles = ("user", "assistant") * len(said)
    return Conversation(None, tuple(Message(role, text) for role, text in zip(roles, said, strict=False)), "file", 1)


def test_a_prompt_is_what_stands_before_the_last_response_with_the_turns_before_it(tokenizer):
    said = conversation("one", "two", "three", "four")
    prompt = encode_prompt(said, PLAIN, tokenizer, 100, 1)
    whole = encode_conversation(said, PLAIN, tokenizer, 100, 1)
    assert tokenizer.decode(prompt.input_ids) == "QoneAtwo</s>QthreeA"
    assert prompt.input_ids == whole.input_ids[: len(prompt.input_ids)]
    assert set(prompt.labels) == {MASKED}
    assert not prompt.truncated


def test_a_prompt_longer_than_cutoff_len_leaves_what_is_reserved_or_is_dropped(tokenizer):
    said = conversation("x" * 50, "two")
    cut = encode_prompt(said, PLAIN, tokenizer, 20, 4)
    assert (len(cut.input_ids), cut.truncated) == (16, True)
    assert encode_prompt(said, PLAIN, tokenizer, 20, 4, "drop") is None


@pytest.mark.parametrize("cutoff_len", [3, 100])
def test_a_prompt_that_fits_is_never_cut(tokenizer, cutoff_len):
    assert len(encode_prompt(conversation("x", "two"), PLAIN, tokenizer, cutoff_len, 2).input_ids) == 3
