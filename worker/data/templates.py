"""How a conversation is written out as text, one template a name; the formats are LLaMA-Factory's public ones.

A template is strings with {content} in them. The tokenizer decides whether a mark such as <|im_start|> is a token or plain text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from worker.data.formats import Conversation


class Mark(str):
    """A piece of a template that is one token, where the tokenizer has it."""


@dataclass(frozen=True)
class Turn:
    """A prompt in pieces (marks and the text between them), and the response to it without its end."""

    prompt: tuple[str, ...]
    response: str


@dataclass(frozen=True)
class Template:
    """`separator` goes before every turn but the first; `end` ends a response in place of EOS, where it is a token."""

    user: str
    system: str = "{content}"
    default_system: str = ""
    separator: str = ""
    marks: tuple[str, ...] = ()
    end: Mark | None = None

    def turns(self, conversation: Conversation) -> Iterator[Turn]:
        """One for each pair of messages; the system text, the row's own or the template's, belongs to the first."""
        system = conversation.system or self.default_system
        start = self._filled(self.system, system) if system else ()
        messages = conversation.messages
        for user, assistant in zip(messages[::2], messages[1::2], strict=True):
            yield Turn((*start, *self._filled(self.user, user.content)), assistant.content)
            start = self._filled(self.separator, "")

    def _filled(self, slots: str, content: str) -> tuple[str, ...]:
        """Marks are found before the content is put in: what a user writes is never a mark."""
        parts = re.split(f"({'|'.join(map(re.escape, self.marks))})", slots) if self.marks else [slots]
        return tuple(Mark(part) if part in self.marks else part.replace("{content}", content) for part in parts if part)


TEMPLATES: dict[str, Template] = {
    "alpaca": Template(
        user="### Instruction:\n{content}\n\n### Response:\n",
        default_system=(
            "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        ),
        separator="\n\n",
    ),
    "chatml": Template(
        user="<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n",
        system="<|im_start|>system\n{content}<|im_end|>\n",
        separator="\n",
        marks=("<|im_start|>", "<|im_end|>"),
        end=Mark("<|im_end|>"),
    ),
    "default": Template(
        user="Human: {content}\nAssistant:",
        system="{content}\n",
        separator="\n",
    ),
    "empty": Template(user="{content}"),
}
