import json
from pathlib import Path

import pytest

from service.library.formats import Conversation, Message, conversation_of, labelled_of, pair_of, text_of
from service.library.rows import Row
from service.specs.dataset_info import Columns, DatasetEntry, read_dataset_info
from service.specs.reasons import Reason
from worker.data.files import read_rows
from worker.failures import JobFailure


def row(values, formatting="alpaca", **columns) -> Row:
    return Row(values, "it.json", 7, DatasetEntry(file_name="it.json", formatting=formatting, columns=Columns(**columns)))


def refusal(function, bad_row) -> JobFailure:
    with pytest.raises(JobFailure) as caught:
        function(bad_row)
    return caught.value


def test_an_alpaca_row_is_one_turn():
    conversation = conversation_of(row({"instruction": "Add.", "input": "1, 2", "output": "3"}))
    assert conversation == Conversation(None, (Message("user", "Add.\n1, 2"), Message("assistant", "3")), "it.json", 7)


@pytest.mark.parametrize("extra", [{}, {"input": ""}, {"input": None}, {"history": ""}, {"history": None}, {"history": []}])
def test_no_query_and_no_history_leave_the_prompt_as_it_is(extra):
    conversation = conversation_of(row({"instruction": "Hi.", "output": "Ho.", **extra}))
    assert [message.content for message in conversation.messages] == ["Hi.", "Ho."]


def test_history_and_system_come_first():
    values = {"instruction": "c", "output": "d", "history": [["a", "b"]], "system": "Be brief."}
    conversation = conversation_of(row(values))
    assert conversation.system == "Be brief."
    assert [(message.role, message.content) for message in conversation.messages] == [
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
        ("assistant", "d"),
    ]


def test_columns_have_the_names_that_the_data_set_gives_them():
    values = {"q": "Why?", "more": "Really?", "a": "So.", "who": "A sage.", "past": [["x", "y"]], "input": "not this"}
    conversation = conversation_of(row(values, prompt="q", query="more", response="a", system="who", history="past"))
    assert conversation.system == "A sage."
    assert [message.content for message in conversation.messages] == ["x", "y", "Why?\nReally?", "So."]


def test_a_part_that_a_naming_data_set_leaves_out_is_not_read():
    values = {"q": "Why?", "a": "So.", "input": "something else", "history": "something else"}
    assert conversation_of(row(values, prompt="q", response="a")).messages[0].content == "Why?"


@pytest.mark.parametrize(
    ("values", "column", "says"),
    [
        ({"output": "3"}, "instruction", "there is no column 'instruction'; there are output"),
        ({"instruction": "Add."}, "output", "there is no column 'output'; there are instruction"),
        ({"instruction": 5, "output": "3"}, "instruction", "must be a string"),
        ({"instruction": None, "output": "3"}, "instruction", "must be a string"),
        ({"instruction": "a", "output": ["3"]}, "output", "must be a string"),
        ({"instruction": "a", "output": "b", "input": 3}, "input", "must be a string"),
        ({"instruction": "a", "output": "\ud83d"}, "output", "half of a surrogate pair"),
        ({"instruction": "a", "output": "b", "history": ["x"]}, "history", "a list of pairs of strings"),
        ({"instruction": "a", "output": "b", "history": [["x", 1]]}, "history", "a list of pairs of strings"),
        ({"instruction": "a", "output": "b", "history": "x"}, "history", "a list of pairs of strings"),
        ({"instruction": "a", "output": "b", "system": {}}, "system", "must be a string"),
    ],
)
def test_a_bad_row_is_named_with_its_column(values, column, says):
    failure = refusal(conversation_of, row(values))
    assert (failure.reason, failure.where) == (Reason.BAD_ROW, {"file": "it.json", "row": 7, "column": column})
    assert failure.sentence.startswith("it.json, row 7: ")
    assert says in failure.sentence


# -- sharegpt and openai -----------------------------------------------------------------------------------------------

CALL = '{"name": "add", "arguments": {"a": 1}}'
ADD = {"name": "add", "description": "Adds.", "parameters": {}}


def said(conversation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in conversation.messages]


def talk(*pairs, role="from", content="value"):
    return [{role: who, content: what} for who, what in pairs]


def test_a_sharegpt_row_is_turns_with_calls_and_what_came_of_them():
    messages = talk(("human", "1 + 1?"), ("function_call", CALL), ("observation", "2"), ("gpt", "Two."))
    tools = json.dumps([ADD])
    conversation = conversation_of(row({"conversations": messages, "tools": tools, "system": "S"}, formatting="sharegpt"))
    assert said(conversation) == [("user", "1 + 1?"), ("function", CALL), ("observation", "2"), ("assistant", "Two.")]
    assert (conversation.system, conversation.tools) == ("S", tools)


def test_a_first_system_message_is_the_system_text_before_the_column():
    messages = talk(("system", "first"), ("human", "a"), ("gpt", "b"))
    conversation = conversation_of(row({"conversations": messages, "system": "column"}, formatting="sharegpt"))
    assert (conversation.system, said(conversation)) == ("first", [("user", "a"), ("assistant", "b")])


def test_tags_and_columns_have_the_names_that_the_data_set_gives_them():
    entry = DatasetEntry(
        formatting="sharegpt",
        columns={"messages": "m", "tools": "t"},
        tags={
            "role_tag": "r",
            "content_tag": "c",
            "user_tag": "U",
            "assistant_tag": "A",
            "observation_tag": "O",
            "function_tag": "F",
            "system_tag": "S",
        },
    )
    messages = talk(("S", "s"), ("U", "a"), ("F", CALL), ("O", "b"), ("A", "c"), role="r", content="c")
    conversation = conversation_of(Row({"m": messages, "t": [ADD], "system": "no", "tools": "no"}, "it.json", 1, entry))
    assert conversation.system == "s"
    assert json.loads(conversation.tools) == [ADD]
    assert said(conversation) == [("user", "a"), ("function", CALL), ("observation", "b"), ("assistant", "c")]


def test_openai_messages_have_their_calls_as_json_and_parallel_results_as_one_observation():
    calls = [
        {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
        {"id": "2", "type": "function", "function": {"name": "now", "arguments": {}}},
    ]
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": [{"type": "text", "text": "1 + "}, {"type": "text", "text": "1?"}]},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": "2", "tool_call_id": "1"},
        {"role": "tool", "content": "noon", "tool_call_id": "2"},
        {"role": "assistant", "content": "Two.", "tool_calls": None},
    ]
    tools = [{"type": "function", "function": ADD}]
    conversation = conversation_of(row({"messages": messages, "tools": tools}, formatting="openai"))
    function = conversation.messages[1]
    assert json.loads(function.content) == [{"name": "add", "arguments": {"a": 1}}, {"name": "now", "arguments": {}}]
    assert said(conversation)[2:] == [("observation", "2\nnoon"), ("assistant", "Two.")]
    assert (conversation.system, conversation.messages[0].content) == ("S", "1 + 1?")
    assert json.loads(conversation.tools) == [ADD]
    messages[2]["tool_calls"] = calls[:1]
    single = conversation_of(row({"messages": messages}, formatting="openai"))
    assert json.loads(single.messages[1].content) == {"name": "add", "arguments": {"a": 1}}


def an_openai_call(**call):
    return [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": [call]}]


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        (None, "must be a list of messages"),
        ("hello", "must be a list of messages"),
        ([], "with at least one"),
        (talk(("system", "s")), "a system message only"),
        (["hello"], "message 1 of the column 'conversations' must be an object with 'from' and 'value'"),
        (
            talk(("human", "a"), ("bot", "b")),
            "message 2 of the column 'conversations' has the 'from' 'bot'; there are human, gpt,",
        ),
        (talk(("human", "a"), (["gpt"], "b")), "has the 'from' ['gpt']"),
        ([{"value": "a"}], "has the 'from' None"),
        (talk(("human", "a"), ("gpt", None)), "message 2 of the column 'conversations' must have a string as 'value'"),
        (talk(("human", "a"), ("gpt", "\ud83d")), "message 2 of the column 'conversations' must have a string"),
        (
            talk(("gpt", "a"), ("human", "b")),
            "message 1 of the column 'conversations' (a first system message not counted) must be",
        ),
        (talk(("human", "a"), ("human", "b")), "must be of gpt or function_call, and is of the user"),
        (talk(("human", "a"), ("gpt", "b"), ("system", "c")), "message 3 of the column 'conversations' has the 'from' 'system'"),
        (talk(("human", "a"), ("gpt", "b"), ("human", "c")), "ends with a question"),
        (talk(("human", "a"), ("function_call", "add(1)")), "message 2 of the column 'conversations' is not valid JSON"),
        (talk(("human", "a"), ("function_call", '{"name": "add"}')), "must be JSON with its 'name' and its 'arguments'"),
        (talk(("human", "a"), ("function_call", "[]")), "must be JSON with its 'name' and its 'arguments'"),
    ],
)
def test_a_bad_sharegpt_row_is_named_with_its_message(messages, says):
    failure = refusal(conversation_of, row({"conversations": messages}, formatting="sharegpt"))
    assert (failure.reason, failure.where) == (Reason.BAD_ROW, {"file": "it.json", "row": 7, "column": "conversations"})
    assert failure.sentence.startswith("it.json, row 7: ")
    assert says in failure.sentence


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        (an_openai_call(type="function"), "tool_calls without a 'function'"),
        (an_openai_call(function={"name": "f", "arguments": "{"}), "the arguments of a call in message 2"),
        (an_openai_call(function={"arguments": "{}"}), "must be JSON with its 'name'"),
        ([*an_openai_call()[:1], {"role": "assistant", "content": "b", "tool_calls": [{}]}], "both says something and calls"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "must have a string as 'content'"),
    ],
)
def test_a_bad_openai_row_is_named_with_its_message(messages, says):
    failure = refusal(conversation_of, row({"messages": messages}, formatting="openai"))
    assert (failure.reason, failure.where["column"]) == (Reason.BAD_ROW, "messages")
    assert says in failure.sentence


@pytest.mark.parametrize(
    ("tools", "says"),
    [
        ("not json", "the column 'tools' is not valid JSON"),
        ('{"name": "add"}', "must be a list of functions, as JSON"),
        ([3], "must be a list of functions"),
        ([{"type": "function"}], "has a function without a 'name'"),
        (3, "must be a string"),
    ],
)
def test_bad_tools_are_named(tools, says):
    messages = talk(("human", "a"), ("gpt", "b"))
    failure = refusal(conversation_of, row({"conversations": messages, "tools": tools}, formatting="sharegpt"))
    assert (failure.reason, failure.where["column"]) == (Reason.BAD_ROW, "tools")
    assert says in failure.sentence


def test_an_alpaca_row_may_have_tools_too():
    values = {"instruction": "a", "output": "b", "tools": json.dumps([ADD])}
    assert json.loads(conversation_of(row(values)).tools) == [ADD]
    assert conversation_of(row(values | {"tools": ""})).tools is None


# -- preferences and labels --------------------------------------------------------------------------------------------


def a_pair(values, formatting="alpaca", **columns):
    pair = pair_of(row(values, formatting, **columns))
    assert pair.chosen.messages[:-1] == pair.rejected.messages[:-1]
    assert (pair.chosen.system, pair.chosen.tools) == (pair.rejected.system, pair.rejected.tools)
    return said(pair.chosen), said(pair.rejected)[-1]


def test_pairs_of_alpaca_are_two_columns_or_a_response_of_two():
    two = [("user", "q"), ("assistant", "good")], ("assistant", "bad")
    assert a_pair({"instruction": "q", "output": ["good", "bad"]}) == two
    assert a_pair({"instruction": "q", "chosen": "good", "rejected": "bad"}) == two
    assert a_pair({"q": "q", "c": "good", "r": "bad"}, prompt="q", chosen="c", rejected="r") == two
    assert a_pair({"q": "q", "a": ["good", "bad"], "chosen": "not read"}, prompt="q", response="a") == two


def test_pairs_of_sharegpt_have_a_message_in_each_column():
    values = {
        "conversations": talk(("system", "s"), ("human", "a"), ("gpt", "b"), ("human", "c")),
        "chosen": {"from": "gpt", "value": "good"},
        "rejected": {"from": "function_call", "value": CALL},
    }
    chosen, rejected = a_pair(values, "sharegpt")
    assert chosen == [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "good")]
    assert rejected == ("function", CALL)


GPT = {"from": "gpt", "value": "x"}


@pytest.mark.parametrize(
    ("values", "formatting", "column", "says"),
    [
        ({"instruction": "q", "output": "one"}, "alpaca", "output", "must be a list of two strings"),
        ({"instruction": "q", "output": ["one"]}, "alpaca", "output", "must be a list of two strings"),
        ({"instruction": "q", "output": ["one", 2]}, "alpaca", "output", "must be a list of two strings"),
        ({"instruction": "q", "chosen": "a"}, "alpaca", "rejected", "there is no column 'rejected'"),
        ({"conversations": talk(("human", "a")), "chosen": GPT}, "sharegpt", "rejected", "there is no column 'rejected'"),
        ({"conversations": talk(("human", "a")), "chosen": "x", "rejected": GPT}, "sharegpt", "chosen", "must be an object"),
        (
            {"conversations": talk(("human", "a")), "chosen": GPT, "rejected": {"from": "human", "value": "x"}},
            "sharegpt",
            "rejected",
            "must be a message of the assistant",
        ),
        (
            {"conversations": talk(("human", "a"), ("gpt", "b")), "chosen": GPT, "rejected": GPT},
            "sharegpt",
            "conversations",
            "ends with an answer",
        ),
        ({"instruction": "q", "output": ["same", "same"]}, "alpaca", "output", "are the same, so neither is better"),
        ({"instruction": "q", "chosen": "same", "rejected": "same"}, "alpaca", "rejected", "are the same, so neither is better"),
    ],
)
def test_a_bad_pair_is_named_with_its_column(values, formatting, column, says):
    failure = refusal(pair_of, row(values, formatting))
    assert (failure.reason, failure.where) == (Reason.BAD_ROW, {"file": "it.json", "row": 7, "column": column})
    assert says in failure.sentence


@pytest.mark.parametrize(("label", "desirable"), [(True, True), (False, False), ("True", True), ("false", False)])
def test_a_label_says_whether_the_answer_is_wanted(label, desirable):
    labelled = labelled_of(row({"instruction": "q", "output": "a", "good": label}, prompt=None, kto_tag="good"))
    assert (labelled.desirable, said(labelled.conversation)) == (desirable, [("user", "q"), ("assistant", "a")])


@pytest.mark.parametrize("label", [None, 1, 0, "yes", [True]])
def test_a_label_that_is_not_true_or_false_is_refused(label):
    failure = refusal(labelled_of, row({"instruction": "q", "output": "a", "good": label}, kto_tag="good"))
    assert (failure.reason, failure.where["column"]) == (Reason.BAD_ROW, "good")


# -- texts -------------------------------------------------------------------------------------------------------------


def test_conversations_are_no_texts():
    failure = refusal(text_of, row({"conversations": talk(("human", "a"), ("gpt", "b"))}, "sharegpt"))
    assert (failure.reason, "pre-training learns texts" in failure.sentence) == (Reason.BAD_DATA, True)


@pytest.mark.parametrize(
    ("values", "columns", "text"),
    [
        ({"text": "A line."}, {}, "A line."),
        ({"text": "A line.", "input": "x"}, {"prompt": "text"}, "A line."),
        ({"text": "", "id": 3}, {"prompt": "text"}, ""),
        ({"instruction": "a", "input": "b", "output": "c"}, {}, "a\nb\nc"),
        ({"instruction": "a", "input": "", "output": "c"}, {}, "a\nc"),
    ],
)
def test_the_text_of_a_row(values, columns, text):
    assert text_of(row(values, **columns)) == text


def test_a_row_with_no_text_is_refused():
    failure = refusal(text_of, row({"body": "x"}, prompt="text"))
    assert (failure.reason, failure.where["column"]) == (Reason.BAD_ROW, "text")


# -- real rows ---------------------------------------------------------------------------------------------------------

SHARED = Path(__file__).parents[4] / "shared" / "data"


def real_rows(name) -> list[Row]:
    return list(read_rows(SHARED, name, read_dataset_info(SHARED)[name]))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared data")
def test_every_real_row_is_what_its_data_set_says():
    calls = [conversation_of(one) for one in real_rows("glaive_toolcall_en_demo")]
    roles = [message.role for conversation in calls for message in conversation.messages]
    assert (len(calls), roles.count("function"), roles.count("observation")) == (300, 211, 211)
    assert all(json.loads(conversation.tools) for conversation in calls if conversation.tools)
    pairs = [pair_of(one) for one in real_rows("dpo_en_demo")]
    assert len(pairs) == 300
    assert sum(pair.chosen.system is not None for pair in pairs) == 80
    labelled = [labelled_of(one) for one in real_rows("kto_en_demo")]
    raw = json.loads((SHARED / "kto_en_demo.json").read_text())
    assert [one.desirable for one in labelled] == [one["label"] for one in raw]
