"""A conversation as the tokenizer's own chat template writes it, and which of its text is the assistant's."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from service.library.formats import Conversation
from service.specs.reasons import Reason
from worker.data.tools import read_calls, read_tools
from worker.failures import JobFailure


@dataclass(frozen=True)
class OwnTemplate:
    """The chat template that the tokenizer comes with, whatever it is."""


@dataclass(frozen=True)
class Rendered:
    """The text, and where in it each response stands, with what ends it."""

    text: str
    responses: tuple[tuple[int, int], ...]


def render(conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> Rendered:
    """Equal to `apply_chat_template`. Responses are what its {% generation %} tags hold, where it has them.

    Where it has none, a response is what comes behind the conversation up to it, written with the generation prompt. That is
    so only if a turn is written alike whatever follows it; where it is not, the row is refused.
    """
    messages, tools = _messages(conversation), _tools(conversation)
    template = _template(tokenizer, tools)
    writer = _Writer(conversation, tokenizer, template, tools)
    if re.search(r"\{%-?\s*generation\s*-?%\}", template):
        text, responses = writer.write(messages, mask=True)
        return Rendered(text, tuple((start, stop) for start, stop in responses if stop > start))
    text, _ = writer.write(messages)
    return Rendered(text, tuple(_spans(writer, messages, text)))


def _spans(writer: "_Writer", messages: list[dict[str, Any]], text: str) -> Iterator[tuple[int, int]]:
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before, _ = writer.write(messages[:index], add_generation_prompt=True)
        upto = text if index == len(messages) - 1 else writer.write(messages[: index + 1])[0]
        if not (upto.startswith(before) and text.startswith(upto)):
            raise writer.refused(
                "the tokenizer's chat template writes a turn otherwise when more turns follow it, so which tokens are the "
                "assistant's cannot be told; name one of the templates instead"
            )
        response = upto[len(before) :]
        said = without_end(response, writer.tokenizer)
        # white space behind the token that ends a response is the template's, and is not trained
        yield len(before), len(before) + len(response if said == response else response.rstrip())


def without_end(response: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """What is said in a response: all before the special token that ends it, where one does."""
    ended = response.rstrip()
    for token in tokenizer.added_tokens_decoder.values():
        if token.special and ended.endswith(token.content):
            return ended.removesuffix(token.content)
    return response


@dataclass(frozen=True)
class _Writer:
    conversation: Conversation
    tokenizer: PreTrainedTokenizerBase
    template: str
    tools: list[dict[str, Any]] | None

    def write(
        self, messages: list[dict[str, Any]], add_generation_prompt: bool = False, mask: bool = False
    ) -> tuple[str, list[tuple[int, int]]]:
        try:
            texts, spans = render_jinja_template(
                [messages],
                tools=self.tools,
                chat_template=self.template,
                return_assistant_tokens_mask=mask,
                add_generation_prompt=add_generation_prompt,
                **self.tokenizer.special_tokens_map,
            )
        except (TemplateError, TypeError, KeyError) as error:
            raise self.refused(f"the tokenizer's chat template refuses it: {error}") from None
        return texts[0], spans[0] if mask else []

    def refused(self, why: str) -> JobFailure:
        file, row = self.conversation.file, self.conversation.row
        return JobFailure(Reason.BAD_ROW, f"{file}, row {row}: {why}.", file=file, row=row)


def _template(tokenizer: PreTrainedTokenizerBase, tools: list[dict[str, Any]] | None) -> str:
    if tokenizer.chat_template is None:
        sentence = "The template tokenizer is the tokenizer's own chat template, and it has none: name one of the templates."
        raise JobFailure(Reason.BAD_MODEL, sentence)
    try:
        template: str = tokenizer.get_chat_template(tools=tools)
    except ValueError as error:
        raise JobFailure(Reason.BAD_MODEL, f"The tokenizer's chat template cannot be used: {error}") from None
    return template


def _messages(conversation: Conversation) -> list[dict[str, Any]]:
    """As OpenAI's API has them, which is what chat templates read."""
    written: list[dict[str, Any]] = []
    if conversation.system:
        written.append({"role": "system", "content": conversation.system})
    called: list[str] = []
    for message in conversation.messages:
        if message.role == "function":
            calls = _calls(message.content)
            called = [call["function"]["name"] for call in calls]
            written.append({"role": "assistant", "content": "", "tool_calls": calls})
        elif message.role == "observation":
            written.append({"role": "tool", "name": called[-1] if called else "", "content": message.content})
        else:
            written.append({"role": message.role, "content": message.content})
    return written


def _calls(text: str) -> list[dict[str, Any]]:
    calls = read_calls(text)
    return [{"type": "function", "function": {"name": call.name, "arguments": _object(call.arguments)}} for call in calls]


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _tools(conversation: Conversation) -> list[dict[str, Any]] | None:
    return [{"type": "function", "function": tool} for tool in read_tools(conversation.tools)] or None
