"""How a conversation is written out as text.

A template's strings are slots: {content} is what is said, {bos} and {eos} the tokenizer's own tokens, and marks such as
<|im_start|> are one token each where the tokenizer has them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from service.library.formats import Conversation, Message
from service.specs.reasons import Reason
from worker.data.tools import ToolFormat, read_calls, read_tools, with_tools, written_calls
from worker.failures import JobFailure


class Mark(str):
    """A piece of a template that is one token, where the tokenizer has it."""


BOS, EOS = Mark("{bos}"), Mark("{eos}")  # stand for the tokenizer's own, whatever those are


@dataclass(frozen=True)
class Turn:
    """A prompt, the response to it and what ends that, each in pieces (marks and the text between them)."""

    prompt: tuple[str, ...]
    response: tuple[str, ...]
    end: tuple[str, ...]


@dataclass(frozen=True)
class Template:
    """`prefix` and the system text begin a conversation, `separator` goes before every later turn, `close` ends it all.

    `user` (or `observation`, what a tool answered) reaches to where the response begins; `end` is trained with the response.
    """

    user: str
    response: str = "{content}"
    end: str = "{eos}"
    prefix: str = "{bos}"
    separator: str = ""
    close: str = ""
    system: str = "{content}"
    default_system: str = ""
    always_system: bool = False  # the system slot is written even with nothing in it
    system_in_user: bool = False  # the system text belongs to what the first user says
    observation: str | None = None  # None: as a user's
    function: str | None = None  # around a function call; None: as any response
    tool_format: ToolFormat = "default"
    trim: Literal["nothing", "messages", "all"] = "nothing"  # white space around; all: of the system text too
    thinks: bool = False  # a response begins with a block of thought, empty where the row has none
    # no end is written: the first token of the next prompt is trained to be EOS, and only the last response has one
    efficient_eos: bool = False
    # what is encoded as one text: all, as the family's own chat template is; each prompt and response; or what is between marks
    unit: Literal["conversation", "message", "piece"] = "message"
    tokens: tuple[str, ...] = ()  # marks that are nothing unless they are tokens: added where the tokenizer lacks them
    marks: tuple[str, ...] = ()  # marks that may be text as well
    stop_words: tuple[str, ...] = ()  # what ends a generated response too, beside EOS

    def turns(self, conversation: Conversation) -> Iterator[Turn]:
        """One for each pair of messages. A row's own system text replaces the template's."""
        try:
            yield from self._turns(conversation)
        except ValueError as error:
            place = f"{conversation.file}, row {conversation.row}"
            raise JobFailure(Reason.BAD_ROW, f"{place}: {error}.", file=conversation.file, row=conversation.row) from None

    @cached_property
    def last_pieces(self) -> tuple[str, ...]:
        """What stands behind the last response's end."""
        return self._filled(self.close)

    @cached_property
    def end_token(self) -> str | None:
        """The token that ends a response in place of the tokenizer's EOS."""
        return self.end if self.end in self.tokens else None

    def _turns(self, conversation: Conversation) -> Iterator[Turn]:
        system = with_tools(self.tool_format, conversation.system or self.default_system, read_tools(conversation.tools))
        system = self._system_text(system)
        messages = conversation.messages
        for index, (asked, answered) in enumerate(zip(messages[::2], messages[1::2], strict=True)):
            start = self._filled(self.separator) if index else self._beginning(system)
            said = self._trimmed(asked.content)
            if not index and self.system_in_user:
                said = self.system.replace("{content}", system) + said if system else said
            slots = self.observation or self.user if asked.role == "observation" else self.user
            yield Turn((*start, *self._filled(slots, said)), self._response(answered), self._filled(self.end))

    def _system_text(self, system: str) -> str:
        return system.strip() if self.trim == "all" else system

    def _beginning(self, system: str) -> tuple[str, ...]:
        written = (system or self.always_system) and not self.system_in_user
        return self._filled(self.prefix) + (self._filled(self.system, system) if written else ())

    def _response(self, message: Message) -> tuple[str, ...]:
        called = message.role == "function"
        said = written_calls(self.tool_format, read_calls(message.content)) if called else self._trimmed(message.content)
        slots = self.function or self.response if called else self.response
        return self._filled(slots, _with_thought(said) if self.thinks else said)

    def _trimmed(self, content: str) -> str:
        return content if self.trim == "nothing" else content.strip()

    def _filled(self, slots: str, content: str = "") -> tuple[str, ...]:
        """Marks are found before the content is put in: what a user writes is never a mark."""
        parts = self._mark_pattern.split(slots)
        return tuple(
            Mark(part) if self._mark_pattern.fullmatch(part) else part.replace("{content}", content) for part in parts if part
        )

    @cached_property
    def _mark_pattern(self) -> re.Pattern[str]:
        # longer ones first: a mark may begin another
        marks = sorted({*self.tokens, *self.marks, BOS, EOS}, key=len, reverse=True)
        return re.compile(f"({'|'.join(map(re.escape, marks))})")


def _with_thought(content: str) -> str:
    """<think>, what was thought, </think>, and the answer, with the line breaks that Qwen3 puts between them."""
    before, *after = content.split("</think>")
    thought = before.rpartition("<think>")[2].strip("\n") if after else ""
    answer = (after[-1] if after else content).lstrip("\n")
    return f"<think>\n{thought}\n</think>\n\n{answer}"
