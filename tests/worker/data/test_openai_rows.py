"""Rows as OpenAI's fine-tuning takes them: weights of messages, tools, preferences."""

import pytest

from service.library.formats import Conversation, Message, conversation_of, pair_of
from service.specs.dataset_info import DatasetEntry
from service.specs.reasons import Reason
from worker.data.files import Row
from worker.data.templates import TEMPLATES
from worker.data.tokenize import MASKED, encode_conversation
from worker.failures import JobFailure

PREFERENCE = DatasetEntry(
    file_name="it.jsonl",
    formatting="openai",
    ranking=True,
    columns={
        "messages": "input.messages",
        "tools": "input.tools",
        "chosen": "preferred_output",
        "rejected": "non_preferred_output",
    },
)


def chat(*messages):
    return Row({"messages": list(messages)}, "it.jsonl", 3, DatasetEntry(file_name="it.jsonl", formatting="openai"))


def said(role, content, **more):
    return {"role": role, "content": content, **more}


def test_a_message_of_weight_0_is_context_and_is_not_trained(tokenizer):
    row = chat(said("user", "a"), said("assistant", "one", weight=0), said("user", "b"), said("assistant", "two", weight=1))
    conversation = conversation_of(row)
    assert [message.is_trained for message in conversation.messages] == [True, False, True, True]
    example = encode_conversation(conversation, TEMPLATES["default"], tokenizer, 200, 1)
    assert tokenizer.decode([label for label in example.labels if label != MASKED]) == "two</s>"
    assert "one" in tokenizer.decode(example.input_ids)
    assert (example.n_bytes, example.n_words) == (3, 1)


def test_what_follows_an_answer_that_is_not_trained_is_not_trained_for_it(tokenizer):
    """With efficient_eos the end of an answer is the label of what comes next."""
    name = next(name for name, template in TEMPLATES.items() if getattr(template, "efficient_eos", False))
    messages = [said("user", "a"), said("assistant", "one", weight=0), said("user", "b"), said("assistant", "two")]
    with_end = [encode(tokenizer, name, messages[0], said("assistant", "one", weight=w), *messages[2:]) for w in (0, 1)]
    ends = [sum(label == tokenizer.eos_token_id for label in example.labels) for example in with_end]
    assert ends[1] == ends[0] + 1


def encode(tokenizer, template, *messages):
    return encode_conversation(conversation_of(chat(*messages)), TEMPLATES[template], tokenizer, 200, 1)


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ([said("user", "a"), said("assistant", "b", weight=2)], "message 2 of the column 'messages' has the weight 2"),
        ([said("user", "a"), said("assistant", "b", weight=0)], "every answer of the column 'messages' has the weight 0"),
    ],
)
def test_a_row_of_bad_weights_is_refused(messages, told):
    with pytest.raises(JobFailure, match=told) as caught:
        conversation_of(chat(*messages))
    assert (caught.value.reason, caught.value.where["row"]) == (Reason.BAD_ROW, 3)


def test_a_developer_speaks_as_the_system_does():
    conversation = conversation_of(chat(said("developer", "be brief"), said("user", "a"), said("assistant", "b")))
    assert conversation == Conversation("be brief", (Message("user", "a"), Message("assistant", "b")), "it.jsonl", 3)


def test_a_preference_has_its_parts_within_others():
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    values = {
        "input": {"messages": [said("system", "be brief"), said("user", "a")], "tools": tools, "parallel_tool_calls": True},
        "preferred_output": [said("assistant", "yes")],
        "non_preferred_output": [said("assistant", "no")],
    }
    pair = pair_of(Row(values, "it.jsonl", 1, PREFERENCE))
    assert [one.messages[-1] for one in (pair.chosen, pair.rejected)] == [Message("assistant", "yes"), Message("assistant", "no")]
    assert (pair.chosen.system, pair.chosen.messages[0]) == ("be brief", Message("user", "a"))
    assert '"look"' in str(pair.chosen.tools)
    del values["input"]["messages"]
    with pytest.raises(JobFailure, match=r"there is no column 'input\.messages'"):
        pair_of(Row(values, "it.jsonl", 1, PREFERENCE))


def test_a_column_with_a_dot_in_its_name_is_itself():
    entry = DatasetEntry(file_name="it.jsonl", columns={"prompt": "a.b", "response": "c"})
    conversation = conversation_of(Row({"a.b": "x", "c": "y"}, "it.jsonl", 1, entry))
    assert [message.content for message in conversation.messages] == ["x", "y"]
