import pytest

from service.specs.dataset_info import Columns, DatasetEntry
from service.specs.reasons import Reason
from worker.data.files import Row
from worker.data.formats import Conversation, Message, conversation_of, text_of
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


@pytest.mark.parametrize("extra", [{}, {"input": ""}, {"input": None}])
def test_no_query_leaves_the_prompt_as_it_is(extra):
    assert conversation_of(row({"instruction": "Hi.", "output": "Ho.", **extra})).messages[0].content == "Hi."


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


def test_sharegpt_is_not_built_yet():
    failure = refusal(conversation_of, row({"conversations": []}, formatting="sharegpt"))
    assert failure.reason == Reason.BAD_DATA
    assert "the format sharegpt is not built yet" in failure.sentence.lower()


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
