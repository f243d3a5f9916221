"""What one pass over the vocabulary says of each token beside its entropies and divergences."""

from service.specs.catalogue.measure import Measure

_HELD_OUT = "the scored tokens of the evaluation documents"
_PASS = "vocabulary.tokens.token_statistics"
_ESTIMATOR = "exact for each token, over the whole vocabulary, from fp32 logits"

ROWS: tuple[Measure, ...] = (
    Measure(
        name="brier_score",
        unit="1",
        definition="Σ_v (p(v) − [v = y])² = 1 − 2 p(y) + Σ_v p(v)²; 0 for certainty in the target, 2 for certainty in another",
        source="Brier 1950, Verification of forecasts expressed in terms of probability, Monthly Weather Review 78:1",
        computed_on=_HELD_OUT,
        estimator=_ESTIMATOR,
        function=_PASS,
    ),
    Measure(
        name="target_rank",
        unit="tokens",
        definition="#{v: p(v) > p(y)}, how many tokens are likelier than the target: 0 where it is the first choice; "
        "the share of 0 is the top-1 accuracy, the mean of 1/(1 + rank) the mean reciprocal rank",
        source="Voorhees 1999, The TREC-8 question answering track report (mean reciprocal rank)",
        computed_on=_HELD_OUT,
        estimator=_ESTIMATOR,
        function=_PASS,
    ),
    Measure(
        name="mass_above_target",
        unit="1",
        definition="Σ_v p(v) [p(v) > p(y)]: nucleus sampling keeps the target at every top-p above it",
        source="Holtzman et al. 2020, The curious case of neural text degeneration (arXiv 1904.09751)",
        computed_on=_HELD_OUT,
        estimator=_ESTIMATOR,
        function=_PASS,
    ),
    Measure(
        name="min_k_plus_plus",
        unit="1",
        definition="(lg p(y) − E_p lg p)/√Var_p(lg p) = (H(p) − NLL)/√varentropy of a token; a text's score is the mean of its "
        "lowest k %, high for text that was trained on",
        source="Zhang et al. 2024, Min-K%++: improved baseline for detecting pre-training data (arXiv 2404.02936)",
        computed_on=_HELD_OUT,
        estimator=_ESTIMATOR,
        function=_PASS,
    ),
    Measure(
        name="newton_temperature_step",
        unit="1",
        definition="Δβ = Σ_t (z_y − E_p z) / Σ_t Var_p z, z in nats: one Newton step from β = 1 to the inverse temperature that "
        "minimises the mean NLL of softmax(βz); above 0 the model is under-confident, below 0 over-confident",
        source="Guo et al. 2017, On calibration of modern neural networks (arXiv 1706.04599); Newton's method on their NLL",
        computed_on=_HELD_OUT,
        estimator="z_y − E_p z = H(p) − NLL and Var_p z = the varentropy, both of one pass",
        function="vocabulary.result.newton_temperature_step",
    ),
)
