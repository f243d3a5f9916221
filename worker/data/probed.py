"""What probes ask of conversations beside the text that is measured: a labelled task, and answers without their system text."""

from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from service.library.formats import Conversation, Message, conversation_of
from service.specs.data import DataArguments
from service.specs.reasons import Reason
from worker.data.load import Places, Wanted, load_rows, measured_rows
from worker.data.splits import sample
from worker.data.templates import TEMPLATES
from worker.data.tokenize import MASKED, Example, encode_conversation
from worker.failures import JobFailure

MOST_LABELS = 32


@dataclass(frozen=True)
class Labelled:
    """`candidates[r * len(labels) + l]` is row r with label l for its answer, of which the last answer alone is scored."""

    labels: list[str]
    truth: list[int]
    candidates: list[Example]


def load_labelled(places: Places, wanted: Wanted, tokenizer: PreTrainedTokenizerBase) -> Labelled:
    """The rows of measures.task, a sample of max_documents; the labels are the answers that there are."""
    name = wanted.measures.task
    (rows,) = load_rows(places, wanted, [name or ""])
    rows = sample(rows, wanted.measures.max_documents, wanted.seed)
    conversations = [conversation_of(row) for row in rows]
    labels = sorted({conversation.messages[-1].content for conversation in conversations})
    if not 2 <= len(labels) <= MOST_LABELS:
        sentence = f"The data set {name!r} has {len(labels)} different answers; as a task it needs 2 to {MOST_LABELS}."
        raise JobFailure(Reason.BAD_DATA, sentence)
    truth = [labels.index(conversation.messages[-1].content) for conversation in conversations]
    candidates = [_answered(conversation, label, wanted.data, tokenizer) for conversation in conversations for label in labels]
    return Labelled(labels, truth, candidates)


def load_without_systems(places: Places, wanted: Wanted, tokenizer: PreTrainedTokenizerBase) -> list[tuple[Example, Example]]:
    """(as it is measured, the same without the system text), of each measured row that has one."""
    pairs = []
    for conversation in map(conversation_of, measured_rows(places, wanted)):
        if not conversation.system:
            continue
        made = [_encoded(one, wanted.data, tokenizer) for one in (conversation, replace(conversation, system=None))]
        if made[0] is not None and made[1] is not None:
            pairs.append((made[0], made[1]))
    return pairs


def _answered(conversation: Conversation, label: str, data: DataArguments, tokenizer: PreTrainedTokenizerBase) -> Example:
    """Cut so that the answer is whole: what is not compared as a whole is not compared."""
    messages = (*conversation.messages[:-1], Message("assistant", label))
    example = _encoded(replace(conversation, messages=messages), data, tokenizer)
    if example is None or example.truncated:
        place = f"{conversation.file}, row {conversation.row}"
        sentence = f"{place}: the row of a task is longer than cutoff_len {data.cutoff_len}, so its answers cannot be compared."
        raise JobFailure(Reason.BAD_ROW, sentence, file=conversation.file, row=conversation.row)
    return replace(example, labels=_last_run(example.labels))


def _last_run(labels: list[int]) -> list[int]:
    """The labels of the last answer alone."""
    end = max((t for t, label in enumerate(labels) if label != MASKED), default=-1) + 1
    start = end
    while start and labels[start - 1] != MASKED:
        start -= 1
    return [label if start <= t < end else MASKED for t, label in enumerate(labels)]


def _encoded(conversation: Conversation, data: DataArguments, tokenizer: PreTrainedTokenizerBase) -> Example | None:
    return encode_conversation(
        conversation,
        TEMPLATES[data.template or "empty"],
        tokenizer,
        data.cutoff_len,
        data.reserved_label_len,
        overlength=data.overlength,
    )
