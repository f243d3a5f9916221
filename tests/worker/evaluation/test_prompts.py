import pytest
from transformers import AutoTokenizer

from service.specs.benchmark import Question, Subject
from worker.data.templates import TEMPLATES, add_tokens
from worker.evaluation.prompts import Asking

SUBJECT = Subject("animals", "animals", "STEM")
QUESTION = Question(1, "what says the fox", ("dog", "there", "what", "task"), "C")
SHOTS = [Question(n, f"what is {n}", ("a fox", "a dog", "this", "there"), "ABCD"[n]) for n in range(4)]


def test_a_prompt_is_mmlus_letter_by_letter(tokenizer):
    asking = Asking(tokenizer, None, "en", 1000)
    text = (
        "The following are multiple choice questions (with answers) about animals.\n\n"
        "what is 1\nA. a fox\nB. a dog\nC. this\nD. there\nAnswer: B\n\n"
        "what says the fox\nA. dog\nB. there\nC. what\nD. task\nAnswer:"
    )
    assert asking.text(SUBJECT, QUESTION, SHOTS[1:2]) == text
    prompt = asking.prompt(SUBJECT, QUESTION, SHOTS[1:2])
    # the space before a letter is a token of its own here, and the same of all four
    assert tokenizer.decode(prompt.input_ids) == text + " "
    assert [tokenizer.decode(letter) for letter in asking.letters] == list("ABCD")


def test_the_last_examples_stay_where_not_all_fit(tokenizer):
    whole = Asking(tokenizer, None, "en", 10_000).prompt(SUBJECT, QUESTION, SHOTS)
    two = Asking(tokenizer, None, "en", 10_000).prompt(SUBJECT, QUESTION, SHOTS[2:])
    assert (whole.n_shown, whole.is_cut) == (4, False)
    for most, n in (
        (len(whole.input_ids), 4),
        (len(whole.input_ids) - 1, 3),
        (len(two.input_ids), 2),
        (len(two.input_ids) - 1, 1),
    ):
        short = Asking(tokenizer, None, "en", most).prompt(SUBJECT, QUESTION, SHOTS)
        assert (short.n_shown, short.is_cut) == (n, False)
        assert len(short.input_ids) <= most
    assert Asking(tokenizer, None, "en", len(two.input_ids)).prompt(SUBJECT, QUESTION, SHOTS) == two


def test_a_question_that_does_not_fit_alone_loses_its_beginning(tokenizer_folder):
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, add_bos_token=True)
    whole = Asking(tokenizer, None, "en", 10_000).prompt(SUBJECT, QUESTION, [])
    cut = Asking(tokenizer, None, "en", 20).prompt(SUBJECT, QUESTION, SHOTS)
    assert (cut.n_shown, cut.is_cut, len(cut.input_ids)) == (0, True, 20)
    begins = Asking(tokenizer, None, "en", 20).begins
    assert cut.input_ids == [*begins, *whole.input_ids[-20 + len(begins) :]]


def test_a_text_begins_as_the_tokenizer_begins_one(tokenizer):
    class WithBos:
        """As Llama's own tokenizers do."""

        def __call__(self, text, add_special_tokens=True, **options):
            ids = tokenizer(text, add_special_tokens=False, **options)["input_ids"]
            return {"input_ids": [0, *ids] if add_special_tokens else ids}

    assert Asking(tokenizer, None, "en", 1000).begins == []
    asking = Asking(WithBos(), None, "en", 1000)
    assert asking.begins == [0]
    assert asking.prompt(SUBJECT, QUESTION, []).input_ids[:2] == [0, *tokenizer("The")["input_ids"]][:2]
    cut = Asking(WithBos(), None, "en", 10).prompt(SUBJECT, QUESTION, [])
    assert (cut.input_ids[0], len(cut.input_ids), cut.is_cut) == (0, 10, True)


@pytest.mark.parametrize("name", sorted(set(TEMPLATES) - {"tokenizer"}))
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_in_every_template_an_answer_begins_where_the_prompt_ends(tokenizer, name, lang):
    add_tokens(TEMPLATES[name], tokenizer)
    asking = Asking(tokenizer, name, lang, 10_000)
    prompt = asking.prompt(SUBJECT, QUESTION, SHOTS[:1])
    assert prompt.n_shown == 1
    for letter, written in zip("ABCD", asking.letters, strict=True):
        assert letter in tokenizer.decode([*prompt.input_ids[-1:], *written])
