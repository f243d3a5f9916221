"""What is said to a model: the messages of a conversation, up to the one that it is to answer."""

from typing import Annotated, Literal

from pydantic import Field

from service.specs.base import Group


class Message(Group):
    """One message. A system text comes first, if there is one; the last is what is answered."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(max_length=1_000_000)


Messages = Annotated[tuple[Message, ...], Field(strict=False, min_length=1, max_length=256)]


def why_not_answered(messages: tuple[Message, ...]) -> str | None:
    """A user and the assistant speak in turn, behind at most one system text, and a user speaks last."""
    said = messages[1:] if messages[0].role == "system" else messages
    expected = ("user", "assistant")
    if len(said) % 2 and all(message.role == expected[place % 2] for place, message in enumerate(said)):
        return None
    return "After a system text, if any, user and assistant speak in turn, and a user last: that is what is answered."
