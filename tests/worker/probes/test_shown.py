from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from worker.probes.shown import SHOWN_TEXTS, SHOWN_TOKENS, shown_bits, shown_texts, text_name
from worker.probes.token import UNSCORED, Document

LETTERS = SimpleNamespace(decode=lambda ids: "".join(chr(97 + one % 26) for one in ids))


def a_document(n_prompt, n_answer, first=0):
    ids = list(range(first, first + n_prompt + n_answer))
    return Document(ids, [UNSCORED] * n_prompt + ids[n_prompt:], n_bytes=n_answer)


def a_pass(documents):
    """In which the i-th scored token of all costs i bits."""
    n = sum(len(document.scored) for document in documents)
    return SimpleNamespace(documents=documents, statistics=SimpleNamespace(nll=np.arange(float(n))))


def test_each_scored_token_has_its_own_bits():
    documents = [a_document(2, 3), a_document(1, 2)]
    assert shown_texts(documents, LETTERS) == [
        {"tokens": ["a", "b", "c", "d", "e"], "scored": [2, 3, 4]},
        {"tokens": ["a", "b", "c"], "scored": [1, 2]},
    ]
    assert shown_bits(a_pass(documents)) == [[0, 1, 2], [3, 4]]


def test_the_first_token_is_never_scored_and_long_texts_are_cut_without_shifting_the_next():
    documents = [a_document(0, SHOWN_TOKENS + 50), a_document(1, 1)]
    texts, bits = shown_texts(documents, LETTERS), shown_bits(a_pass(documents))
    assert [len(text["tokens"]) for text in texts] == [SHOWN_TOKENS, 2]
    assert [len(one) for one in bits] == [len(text["scored"]) for text in texts] == [SHOWN_TOKENS - 1, 1]
    assert bits[1] == [SHOWN_TOKENS + 49]


def test_a_few_texts_are_shown_and_what_is_no_number_is_null():
    documents = [a_document(1, 1) for _ in range(SHOWN_TEXTS + 5)]
    one = a_pass(documents)
    one.statistics.nll[1] = np.nan
    assert len(shown_texts(documents, LETTERS)) == len(shown_bits(one)) == SHOWN_TEXTS
    assert shown_bits(one)[1] == [None]


def test_a_text_has_another_name_when_anything_of_it_is_other():
    documents = [a_document(2, 3), a_document(1, 2)]
    others = (
        documents[:1],
        documents[::-1],
        [replace(documents[0], labels=[UNSCORED, *documents[0].input_ids[1:]]), documents[1]],
        [a_document(2, 3, first=1), documents[1]],
    )
    names = {text_name(one) for one in (documents, *others)}
    assert len(names) == 1 + len(others)
    assert text_name([a_document(2, 3), a_document(1, 2)]) in names
