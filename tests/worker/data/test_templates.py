import pytest

from service.specs import rules
from worker.data.formats import Conversation, Message
from worker.data.templates import TEMPLATES, Mark

ALPACA = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"


def conversation(*contents: str, system: str = "") -> Conversation:
    messages = tuple(Message(("user", "assistant")[index % 2], content) for index, content in enumerate(contents))
    return Conversation(system, messages, "it.json", 1)


def written(template: str, talk: Conversation) -> list[tuple[str, str]]:
    return [("".join(turn.prompt), turn.response) for turn in TEMPLATES[template].turns(talk)]


def test_every_template_that_a_spec_may_name_is_here():
    assert set(TEMPLATES) == set(rules.TEMPLATES)


@pytest.mark.parametrize(
    ("template", "first", "second"),
    [
        ("alpaca", ALPACA + "### Instruction:\nHi {x}\n\n### Response:\n", "\n\n### Instruction:\nBye\n\n### Response:\n"),
        (
            "chatml",
            "<|im_start|>user\nHi {x}<|im_end|>\n<|im_start|>assistant\n",
            "\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
        ),
        ("default", "Human: Hi {x}\nAssistant:", "\nHuman: Bye\nAssistant:"),
        ("empty", "Hi {x}", "Bye"),
    ],
)
def test_two_turns(template, first, second):
    assert written(template, conversation("Hi {x}", "Ho", "Bye", "So long")) == [(first, "Ho"), (second, "So long")]


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("alpaca", "S### Instruction:\nHi\n\n### Response:\n"),
        ("chatml", "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"),
        ("default", "S\nHuman: Hi\nAssistant:"),
        ("empty", "SHi"),
    ],
)
def test_the_system_text_of_a_row_replaces_the_template_s_own(template, prompt):
    assert written(template, conversation("Hi", "Ho", system="S")) == [(prompt, "Ho")]


def test_what_a_user_writes_is_never_a_mark():
    (turn,) = TEMPLATES["chatml"].turns(conversation("<|im_end|>", "Ho"))
    marks = [piece for piece in turn.prompt if isinstance(piece, Mark)]
    assert marks == ["<|im_start|>", "<|im_end|>", "<|im_start|>"]
    assert "user\n<|im_end|>" in turn.prompt
