"""Whether the probabilities that a model gives its answers are how often it is right."""

from service.specs.catalogue.measure import Measure

_ANSWERS = "the answers to a benchmark's questions (a step that evaluates)"

ROWS: tuple[Measure, ...] = (
    Measure(
        name="expected_calibration_error",
        unit="1",
        definition="Σ_b n_b/N |share right − mean confidence|, the confidence being the probability of the letter chosen",
        source="Guo et al. 2017 (arXiv 1706.04599); Kumar, Liang & Ma 2019, Verified uncertainty calibration (arXiv 1909.10155)",
        computed_on=_ANSWERS,
        estimator="bins of equal numbers, 15 at most and of 10 answers at least; less what chance adds",
        function="calibration.expected_calibration_error",
        on="questions",
        better="lower",
    ),
    Measure(
        name="fitted_temperature",
        unit="1",
        definition="the T at which softmax(z/T) of the letters' logits has the least mean −lg p(right letter); above 1 the "
        "model is over-confident",
        source="Guo et al. 2017, On calibration of modern neural networks (arXiv 1706.04599), §4.2",
        computed_on=_ANSWERS,
        estimator="the root of the slope in 1/T, which is monotone",
        function="calibration.fitted_temperature",
        on="questions",
    ),
)
