import re

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from service.library.formats import Conversation, Message
from worker.data.encoding import own_text
from worker.data.template import Template
from worker.data.templates import TEMPLATES
from worker.export.chat_template import as_go, as_jinja, stops

NAMED = [name for name, template in TEMPLATES.items() if isinstance(template, Template)]
SAID = (
    [("user", " one\nline "), ("assistant", "two ")],
    [("user", "one"), ("assistant", " two"), ("user", 'three "quoted" \\ {{ braces }}'), ("assistant", "four é")],
)


def as_trained(template, tokenizer, system, said):
    """The text that training tokenises."""
    conversation = Conversation(system, tuple(Message(role, content) for role, content in said), "file", 0)
    turns = list(template.turns(conversation))
    ends = [tokenizer.eos_token if template.efficient_eos and turn is turns[-1] else "" for turn in turns]
    pieces = [(*turn.prompt, *turn.response, *turn.end, end) for turn, end in zip(turns, ends, strict=True)]
    return "".join(own_text(piece, tokenizer) for piece in [*(p for part in pieces for p in part), *template.last_pieces])


@pytest.mark.parametrize("system", [None, " be brief "])
@pytest.mark.parametrize("name", NAMED)
def test_a_tokenizers_chat_template_writes_what_was_trained(tokenizer, name, system):
    template = TEMPLATES[name]
    for said in SAID:
        messages = [{"role": role, "content": content} for role, content in said]
        messages = [{"role": "system", "content": system}, *messages] if system else messages
        rendered, _ = render_jinja_template([messages], chat_template=as_jinja(template, tokenizer))
        assert rendered == [as_trained(template, tokenizer, system, said)]


@pytest.mark.parametrize("name", NAMED)
def test_a_prompt_alone_ends_where_the_response_begins(tokenizer, name):
    template = TEMPLATES[name]
    whole = as_trained(template, tokenizer, None, [("user", "one"), ("assistant", "@@")])
    prompt, _ = render_jinja_template([[{"role": "user", "content": "one"}]], chat_template=as_jinja(template, tokenizer))
    assert whole.startswith(prompt[0])
    assert "one" in prompt[0]


def go(text, system, messages):
    """What Go's text/template makes of the few forms that are used."""
    position, out, scopes = 0, [], [True]
    asked = False
    parts = re.split(r"\{\{ (.*?) \}\}", text)

    def run(index, active, message):
        nonlocal asked
        while index < len(parts):
            piece = parts[index]
            if index % 2 == 0:
                if active:
                    out.append(piece)
                index += 1
            elif piece == "end" or piece.startswith("else"):
                return index
            elif piece == "$asked := false":
                asked, index = False, index + 1
            elif piece == "$asked = true":
                asked, index = asked or active, index + 1
            elif piece == "$.System":
                out.append(system if active else "")
                index += 1
            elif piece == ".Content":
                out.append(message["content"] if active else "")
                index += 1
            elif piece == "range .Messages":
                after = index + 1
                for each in messages or [None]:
                    after = run(index + 1, active and each is not None, each)
                index = after + 1
            else:
                taken = False
                condition = piece.removeprefix("if ")
                while True:
                    holds = active and not taken and bool(_holds(condition, system, asked, message))
                    taken = taken or holds
                    index = run(index + 1, holds, message)
                    if parts[index] == "end":
                        index += 1
                        break
                    condition = parts[index].removeprefix("else if ")
        return index

    run(position, scopes[0], None)
    return "".join(out)


def _holds(condition, system, asked, message):
    if condition.startswith("eq .Role"):
        return message is not None and message["role"] == condition.split('"')[1]
    return {"or $asked $.System": asked or bool(system), "$.System": bool(system), "$asked": asked, "not $asked": not asked}[
        condition
    ]


@pytest.mark.parametrize("name", [name for name in NAMED if TEMPLATES[name].trim == "nothing" and not TEMPLATES[name].thinks])
def test_ollamas_template_writes_what_was_trained_without_the_first_bos(tokenizer, name):
    template = TEMPLATES[name]
    said = [("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "@@")]
    for system in ("", "be brief"):
        wanted = as_trained(template, tokenizer, system or None, said).partition("@@")[0]
        messages = [{"role": role, "content": content} for role, content in said[:-1]]
        text = go(as_go(template, tokenizer), system or template.default_system, messages)
        before = text + template.response.partition("{content}")[0]
        assert before in (wanted, wanted.removeprefix(tokenizer.bos_token))


def test_an_answer_ends_with_the_tokenizers_own_end_and_with_those_of_the_template(tokenizer):
    assert stops(TEMPLATES["default"], tokenizer) == ["</s>"]
    assert stops(TEMPLATES["llama3"], tokenizer) == ["</s>", "<|eot_id|>", "<|eom_id|>"]
