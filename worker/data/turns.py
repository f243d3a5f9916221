"""The turns of a conversation as tokens: by one of the templates, or by the tokenizer's own."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from service.library.formats import Conversation
from service.specs.reasons import Reason
from worker.data.chat_template import OwnTemplate, render, without_end
from worker.data.encoding import Encoded, encode_parts, encode_pieces, own_text
from worker.data.template import Template, Turn
from worker.failures import JobFailure

AnyTemplate = Template | OwnTemplate


@dataclass(frozen=True)
class EncodedTurns:
    """(prompt, response with its end) for each turn; `last` stands behind the last response's end."""

    turns: list[tuple[Encoded, Encoded]]
    last: list[int]
    efficient_eos: bool = False  # responses but the last have no end of their own


def encode_turns(conversation: Conversation, template: AnyTemplate, tokenizer: PreTrainedTokenizerBase) -> EncodedTurns:
    if isinstance(template, OwnTemplate):
        return _by_the_tokenizer(conversation, tokenizer)
    turns = list(template.turns(conversation))
    if template.unit == "conversation" and not tokenizer.split_special_tokens:
        encoded = _together(turns, template, tokenizer)
    else:
        encoded = _apart(turns, template, tokenizer)
    if template.efficient_eos and encoded.turns:
        source, target = encoded.turns[-1]
        encoded.turns[-1] = source, target.then([tokenizer.eos_token_id])
    return encoded


def _together(turns: list[Turn], template: Template, tokenizer: PreTrainedTokenizerBase) -> EncodedTurns:
    """All as one text, as `apply_chat_template` encodes it."""
    pieces = [part for turn in turns for part in (turn.prompt, turn.response, turn.end)]
    parts = ["".join(own_text(piece, tokenizer) for piece in part) for part in (*pieces, template.last_pieces)]
    *encoded, last = encode_parts(parts, tokenizer)
    responses = [response.then(end.ids) for response, end in zip(encoded[1::3], encoded[2::3], strict=True)]
    return EncodedTurns(list(zip(encoded[::3], responses, strict=True)), last.ids, template.efficient_eos)


def _apart(turns: list[Turn], template: Template, tokenizer: PreTrainedTokenizerBase) -> EncodedTurns:
    by_marks = template.unit == "piece" or tokenizer.split_special_tokens
    encoded = []
    for turn in turns:
        source = encode_pieces(turn.prompt, tokenizer, by_marks)
        target = encode_pieces(turn.response, tokenizer, by_marks)
        encoded.append((source, target.then(encode_pieces(turn.end, tokenizer, by_marks).ids)))
    last = encode_pieces(template.last_pieces, tokenizer, by_marks)
    return EncodedTurns(encoded, last.ids, template.efficient_eos)


def _by_the_tokenizer(conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> EncodedTurns:
    try:
        rendered = render(conversation, tokenizer)
    except ValueError as error:
        file, row = conversation.file, conversation.row
        raise JobFailure(Reason.BAD_ROW, f"{file}, row {row}: {error}.", file=file, row=row) from None
    parts, position = [], 0
    for start, stop in rendered.responses:
        response = rendered.text[start:stop]
        end = len(without_end(response, tokenizer))
        parts += [rendered.text[position:start], response[:end], response[end:]]
        position = stop
    *encoded, last = encode_parts([*parts, rendered.text[position:]], tokenizer)
    responses = [response.then(end.ids) for response, end in zip(encoded[1::3], encoded[2::3], strict=True)]
    return EncodedTurns(list(zip(encoded[::3], responses, strict=True)), last.ids)
