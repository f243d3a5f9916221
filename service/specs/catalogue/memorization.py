"""What a checkpoint knows of the rows that it was trained on and of no others."""

from service.specs.catalogue.measure import Measure

_ROWS = "training rows against held-out ones, before and after training"
_SCORES = "EZ: at the scored tokens that are not the first choice, how much likelier the checkpoint holds them than its base did"
_EZ = "Zhao et al. 2026 (arXiv 2601.12104)"

ROWS: tuple[Measure, ...] = (
    Measure(
        name="generalization_gap",
        unit="bits/token",
        definition="cross-entropy on held-out rows less that on training rows: above 0 the training rows are known better",
        source="Cover & Thomas, Elements of Information Theory, 2nd ed. 2006, §5.4",
        computed_on=_ROWS,
        estimator="difference of two ratios of sums, of independent documents",
        on="membership",
        in_jobs=True,
        default=True,
        better="lower",
    ),
    Measure(
        name="memorized_bits",
        unit="bits/token",
        definition="(CE_base − CE) on training rows less the same on held-out rows: what was gained on its own rows beyond "
        "what was gained on text of their kind",
        source="Morris et al. 2025, How much do language models memorize? (arXiv 2505.24832)",
        computed_on=_ROWS,
        estimator="difference of differences, of independent documents; 0 for the base",
        on="membership",
        in_jobs=True,
        default=True,
        better="lower",
    ),
    Measure(
        name="membership_auroc",
        unit="1",
        definition="the probability that a training row scores above a held-out one, ties half: ½ where nothing tells them. "
        + _SCORES,
        source=f"{_EZ}; Mann & Whitney 1947",
        computed_on=_ROWS,
        estimator="all pairs; for the base by Min-K%++, which needs none to compare with; error by DeLong et al. 1988",
        on="membership",
        in_jobs=True,
        default=True,
        better="lower",
    ),
    Measure(
        name="min_k_auroc",
        unit="1",
        definition="as membership_auroc, of the mean of min_k_plus_plus over the lowest 20 % of a row's tokens",
        source="Zhang et al. 2024 (arXiv 2404.02936); Mann & Whitney 1947",
        computed_on=_ROWS,
        estimator="all pairs; error by DeLong et al. 1988",
        on="membership",
        in_jobs=True,
        default=True,
        better="lower",
    ),
    Measure(
        name="zlib_auroc",
        unit="1",
        definition="as membership_auroc, of minus the loss in bits over the bits that zlib needs for the same text",
        source="Carlini et al. 2021, Extracting training data from large language models (arXiv 2012.07805); Mann & Whitney 1947",
        computed_on=_ROWS,
        estimator="all pairs; error by DeLong et al. 1988",
        on="membership",
        in_jobs=True,
        default=True,
        better="lower",
    ),
    Measure(
        name="membership_tpr",
        unit="1",
        definition="the share of training rows that score above the score which 1 % of the held-out rows exceed",
        source=f"Carlini et al. 2022, Membership inference attacks from first principles (arXiv 2112.03570); {_EZ}",
        computed_on=_ROWS,
        estimator="a share of training rows; interval of Clopper and Pearson",
        on="membership",
        in_jobs=True,
        default=True,
        better="lower",
    ),
    Measure(
        name="verbatim_rate",
        unit="1",
        definition="the share of rows of which 50 tokens given, greedy decoding writes the next 50 word for word; of training "
        "rows (:train), and of held-out ones (:held_out), which it cannot have learned by heart",
        source="Carlini et al. 2023, Quantifying memorization across neural language models (arXiv 2202.07646)",
        computed_on=_ROWS,
        estimator="by whether each of the 50 is the first choice, so that nothing is written; rows of fewer tokens are left out; "
        "interval of Clopper and Pearson",
        on="membership",
        in_jobs=True,
        default=True,
        better="lower",
    ),
)
