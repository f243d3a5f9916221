"""How near the predictions of a model come to the labels of a data set."""

from service.specs.catalogue.measure import Measure

_PREDICTED = "the rows of a data set (a step that predicts)"
_ROUGE = "Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries, ACL workshop Text Summarization Branches Out"

ROWS: tuple[Measure, ...] = (
    Measure(
        name="predict_rouge-1",
        unit="%",
        definition="100 F of the words that a prediction and its label share, F = 2PR/(P + R)",
        source=_ROUGE,
        computed_on=_PREDICTED,
        estimator="mean over rows",
        on="predictions",
        better="higher",
    ),
    Measure(
        name="predict_rouge-2",
        unit="%",
        definition="the same of pairs of successive words",
        source=_ROUGE,
        computed_on=_PREDICTED,
        estimator="mean over rows",
        on="predictions",
        better="higher",
    ),
    Measure(
        name="predict_rouge-l",
        unit="%",
        definition="the same of the longest common subsequence of words",
        source=_ROUGE,
        computed_on=_PREDICTED,
        estimator="mean over rows",
        on="predictions",
        better="higher",
    ),
    Measure(
        name="predict_bleu-4",
        unit="%",
        definition="100 BP · (Π p_n)^(1/4) of n-grams up to 4, of each row by itself; orders that a short row lacks are left out",
        source="Papineni et al. 2002, ACL, 311–318; smoothing: Chen & Cherry 2014, WMT, 362–367; Post 2018, WMT, 186–191",
        computed_on=_PREDICTED,
        estimator="mean over rows",
        on="predictions",
        better="higher",
    ),
)
