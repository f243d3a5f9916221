from pathlib import Path

import pytest

from service.library.formats import Conversation, Labelled, Message, Pair, labelled_of, pair_of
from service.specs.dataset_info import read_dataset_info
from worker.data.files import read_rows
from worker.data.pairs import encode_kto, encode_pair
from worker.data.templates import TEMPLATES, add_tokens
from worker.data.tokenize import MASKED, Example, encode_conversation

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"


def conversation(*contents: str) -> Conversation:
    messages = tuple(Message(("user", "assistant")[index % 2], content) for index, content in enumerate(contents))
    return Conversation(None, messages, "it.json", 1)


def pair(tokenizer, prompt, chosen, rejected, template="default", cutoff_len=500, reserved_label_len=1, **options):
    both = Pair(*(conversation(*prompt, answer) for answer in (chosen, rejected)))
    return encode_pair(both, TEMPLATES[template], tokenizer, cutoff_len, reserved_label_len, **options)


def prompt_of(example: Example) -> list[int]:
    return [token for token, label in zip(example.input_ids, example.labels, strict=True) if label == MASKED]


def answer_of(example: Example) -> list[int]:
    return [label for label in example.labels if label != MASKED]


@pytest.mark.parametrize("template", ["default", "chatml", "llama2", "qwen3"])
def test_both_answers_follow_the_same_prompt_with_its_earlier_turns(tokenizer, template):
    add_tokens(TEMPLATES[template], tokenizer)
    got = pair(tokenizer, ("Hi", "Ho", "Bye"), "So long", "No", template=template)
    for example, answer in ((got.chosen, "So long"), (got.rejected, "No")):
        whole = encode_conversation(conversation("Hi", "Ho", "Bye", answer), TEMPLATES[template], tokenizer, 500, 1)
        assert whole.input_ids[: len(example.input_ids)] == example.input_ids
        assert tokenizer.decode(answer_of(example)).strip().removesuffix(tokenizer.eos_token).strip().endswith(answer)
    assert prompt_of(got.chosen) == prompt_of(got.rejected)
    assert "Ho" in tokenizer.decode(prompt_of(got.chosen)), "earlier answers belong to the prompt"
    assert not got.truncated


@pytest.mark.parametrize(("chosen", "rejected"), [(5, 60), (60, 5), (40, 40)])
@pytest.mark.parametrize("cutoff_len", [8, 20, 50, 90, 200])
def test_neither_answer_makes_a_pair_longer_than_cutoff_len(tokenizer, chosen, rejected, cutoff_len):
    got = pair(tokenizer, ("Q" * 39,), "Z" * chosen, "Y" * rejected, template="empty", cutoff_len=cutoff_len)
    longest = max(chosen, rejected) + 1
    assert max(len(got.chosen.input_ids), len(got.rejected.input_ids)) == min(cutoff_len, 40 + longest)
    assert prompt_of(got.chosen) == prompt_of(got.rejected)
    assert answer_of(got.chosen)
    assert answer_of(got.rejected)
    assert got.truncated == (40 + longest > cutoff_len)


def test_the_longer_answer_decides_by_the_rule(tokenizer):
    """s = 1 (BOS) + 29, t = 59 + 1 (EOS), L = 45: 30 of the answer, 15 of the prompt; the short one is whole."""
    got = pair(tokenizer, ("Q" * 29,), "Z" * 9, "Y" * 59, template="empty", cutoff_len=45)
    assert (len(prompt_of(got.chosen)), len(answer_of(got.chosen)), len(answer_of(got.rejected))) == (15, 10, 30)


def test_a_pair_that_is_too_long_is_dropped_when_asked(tokenizer):
    assert pair(tokenizer, ("Q" * 29,), "Z", "Y" * 59, template="empty", cutoff_len=45, overlength="drop") is None
    assert pair(tokenizer, ("Q" * 29,), "Z", "Y" * 14, template="empty", cutoff_len=45, overlength="drop") is not None


@pytest.mark.parametrize("desirable", [True, False])
def test_an_answer_that_was_judged_keeps_its_judgement(tokenizer, desirable):
    judged = Labelled(conversation("Hi", "Ho", "Bye", "So long"), desirable)
    got = encode_kto(judged, TEMPLATES["default"], tokenizer, 500, 1)
    assert got.desirable is desirable
    assert tokenizer.decode(prompt_of(got.answer)) == "<s>Human: Hi\nAssistant:Ho</s>\nHuman: Bye\nAssistant:"
    assert tokenizer.decode(answer_of(got.answer)) == "So long</s>"
    long = Labelled(conversation("Q" * 29, "Z" * 59), desirable)
    cut = encode_kto(long, TEMPLATES["empty"], tokenizer, 45, 1)
    assert (len(prompt_of(cut.answer)), len(answer_of(cut.answer)), cut.answer.truncated) == (15, 30, True)
    assert encode_kto(long, TEMPLATES["empty"], tokenizer, 45, 1, "drop") is None


@pytest.mark.skipif(not SHARED.is_dir(), reason="the demonstration data are not beside the checkout")
@pytest.mark.parametrize("template", ["chatml", "llama3", "qwen"])
def test_every_row_of_the_demonstrations_is_encoded_as_it_is_loaded(tokenizer, template):
    add_tokens(TEMPLATES[template], tokenizer)
    info = read_dataset_info(SHARED)
    pairs = [pair_of(row) for row in read_rows(SHARED, "dpo_en_demo", info["dpo_en_demo"])]
    for pair in pairs:
        got = encode_pair(pair, TEMPLATES[template], tokenizer, 512, 1)
        assert max(len(got.chosen.input_ids), len(got.rejected.input_ids)) <= 512
        assert answer_of(got.chosen)
        assert answer_of(got.rejected)
        assert prompt_of(got.chosen) == prompt_of(got.rejected)
    judged = [labelled_of(row) for row in read_rows(SHARED, "kto_en_demo", info["kto_en_demo"])]
    for labelled in judged:
        got = encode_kto(labelled, TEMPLATES[template], tokenizer, 512, 1)
        assert len(got.answer.input_ids) <= 512
        assert answer_of(got.answer)
        assert got.desirable == labelled.desirable
    assert len(pairs) > 100
    assert {labelled.desirable for labelled in judged} == {True, False}


def test_a_pair_of_which_the_same_is_left_is_left_out(tokenizer):
    assert pair(tokenizer, ("Q",), "ZZZZ the one", "ZZZZ the other", template="empty", cutoff_len=5) is None
    assert pair(tokenizer, ("Q",), "ZZZZ the one", "ZZZZ the other", template="empty") is not None


def test_the_bytes_of_an_answer_are_those_of_its_text(tokenizer):
    got = pair(tokenizer, ("Q",), "grüße", "no", template="empty")
    assert (got.chosen.n_bytes, got.rejected.n_bytes) == (7, 2)
