"""How near a prediction comes to its label: ROUGE by rouge-score and BLEU by sacrebleu, of each row by itself, in per cent.

A Chinese character is a word of its own, and so is a Japanese kana; other words are runs of letters and digits. ROUGE takes
capitals for small letters, and BLEU does not.
"""

import re
from collections.abc import Sequence
from functools import cache

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer
from sacrebleu.metrics.bleu import BLEU

from worker.probes.finding import Findings, mean

_CHARACTERS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002ebef"
_WORD = re.compile(rf"[{_CHARACTERS}]|[^\W_{_CHARACTERS}]+")
_CHARACTER = re.compile(rf"[{_CHARACTERS}]")
_ROUGE = {"predict_rouge-1": "rouge1", "predict_rouge-2": "rouge2", "predict_rouge-l": "rougeL"}
ESTIMATORS = {
    "predict_rouge-1": "F of words, rouge-score; mean over rows",
    "predict_rouge-2": "F of pairs of words, rouge-score; mean over rows",
    "predict_rouge-l": "F of the longest common subsequence of words, rouge-score; mean over rows",
    "predict_bleu-4": "sacrebleu's sentence BLEU up to 4-grams, effective order, exponential smoothing; mean over rows",
}


def scores(predictions: Sequence[str], labels: Sequence[str], n_tokens: int) -> Findings:
    """The means over the rows, each with what the rows contribute to its error. A row whose label says nothing has no score."""
    of_rows = [row_scores(*pair) for pair in zip(predictions, labels, strict=True)]
    return {
        name: mean(np.array([of_row.get(name, np.nan) for of_row in of_rows]), estimator, n_tokens)
        for name, estimator in ESTIMATORS.items()
    }


def row_scores(prediction: str, label: str) -> dict[str, float]:
    """By measure, 0 to 100; nothing where the label has no words."""
    if not words(label):
        return {}
    found = _rouge().score(label, prediction)
    rouge = {name: 100 * found[kind].fmeasure for name, kind in _ROUGE.items()}
    bleu = _bleu("zh" if _CHARACTER.search(label + prediction) else "13a")
    return rouge | {"predict_bleu-4": min(100.0, bleu.sentence_score(prediction, [label]).score)}


def words(text: str) -> list[str]:
    found: list[str] = _WORD.findall(text.lower())
    return found


class _Words(Tokenizer):
    """rouge-score's own knows the letters a to z alone."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


@cache
def _rouge() -> RougeScorer:
    return RougeScorer(list(_ROUGE.values()), tokenizer=_Words())


@cache
def _bleu(tokenize: str) -> BLEU:
    return BLEU(tokenize=tokenize, effective_order=True)
