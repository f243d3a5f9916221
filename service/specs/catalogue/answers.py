"""What is said of a benchmark's answers, question by question."""

from service.specs.catalogue.measure import Measure

_ANSWERS = "the answers to a benchmark's questions (a step that evaluates)"

ROWS: tuple[Measure, ...] = (
    Measure(
        name="accuracy",
        unit="1",
        definition="the share of questions whose right letter is the likeliest; a category's is accuracy:STEM, a subject's "
        "accuracy:anatomy",
        source="Hendrycks et al. 2021, Measuring massive multitask language understanding (arXiv 2009.03300)",
        computed_on=_ANSWERS,
        estimator="mean over questions, with the interval of Clopper & Pearson 1934; differences are paired, with the exact "
        "test of McNemar 1947",
        on="questions",
        better="higher",
    ),
    Measure(
        name="answer_cross_entropy",
        unit="bits/question",
        definition="the mean of −lg p(right letter), p over the letters alone; a guess among four is 2 bits",
        source="Good 1952, Rational decisions, JRSS B 14:107 (the logarithmic score)",
        computed_on=_ANSWERS,
        estimator="mean over questions",
        on="questions",
        better="lower",
    ),
    Measure(
        name="answer_brier_score",
        unit="1",
        definition="the mean of Σ_l (p(l) − [l = right])², p over the letters alone; a guess among four is 0.75",
        source="Brier 1950, Verification of forecasts expressed in terms of probability, Monthly Weather Review 78:1",
        computed_on=_ANSWERS,
        estimator="mean over questions",
        on="questions",
        better="lower",
    ),
    Measure(
        name="harness_score",
        unit="1",
        definition="a metric of lm-evaluation-harness on one of its tasks, as harness_score:METRIC or harness_score:TASK.METRIC",
        source="Gao et al. 2024, A framework for few-shot language model evaluation, lm-evaluation-harness 0.4.13",
        computed_on="a task of lm-evaluation-harness (a step that evaluates lm_eval:TASK)",
        estimator="the harness's own; where it is a mean over questions, with an interval of Student's t and paired differences",
        on="questions",
    ),
)
