"""The alerts: what is tested of each checkpoint, at which threshold, and what it suggests when one fires.

The tests themselves stand in `worker/probes/alerts.py`; another test keeps the two lists equal.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

ALPHA = 0.01  # of all checkpoints of a step together, for each alert
FEWEST_DOCUMENTS = 20  # below that the tests do not hold what they promise

NAT = 1.4426950408889634  # bits

Text = Literal["task", "anchor"]


class Alert(BaseModel):
    """One row: `GET /measures` serves it as it stands, and the page on alerts lists it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    statistic: str  # what is looked at
    null: str  # what is rejected when it fires
    test: str
    threshold: float
    unit: str
    fires: Literal["above", "below"] = "above"  # the side of the threshold on which the bound then lies
    suggests: str
    needs: tuple[str, ...]  # the measures of measures.names that it looks at
    text: Text = "task"  # what it looks at them on: the text of the task, or the anchor corpus
    source: str


_BOOTSTRAP = "bootstrap of documents, paired"
_CLUSTER_T = "one-sided t, clustered by document, paired"

ALERTS: tuple[Alert, ...] = (
    Alert(
        name="entropy_collapse",
        statistic="entropy of the base − entropy of the checkpoint",
        null="the drop is at most 0.3 nat (0.43 bit), or at most 30 % of the base's entropy",
        test=f"{_CLUSTER_T}; both must be rejected",
        threshold=0.3 * NAT,
        unit="bits/token",
        suggests="an earlier checkpoint, a lower learning_rate, or (in ppo) an entropy bonus",
        needs=("entropy",),
        source="Cui et al. 2025 (arXiv 2505.22617); Li et al. 2024 (arXiv 2408.16673)",
    ),
    Alert(
        name="over_confidence",
        statistic="cross_entropy − entropy of the checkpoint",
        null="the gap is at most 0.05 bit",
        test=_CLUSTER_T,
        threshold=0.05,
        unit="bits/token",
        suggests="sampling at a higher temperature, label_smoothing_factor, or fewer epochs",
        needs=("cross_entropy", "entropy"),
        source="Braverman et al. 2020 (ICML); On the Entropy Calibration of Language Models, 2025 (arXiv 2511.11966)",
    ),
    Alert(
        name="over_fit",
        statistic="cross_entropy of the checkpoint − that of the best one before it",
        null="it has not risen",
        test=f"{_CLUSTER_T}; at two checkpoints one after another",
        threshold=0.0,
        unit="bits/token",
        suggests="stopping here, and taking the best checkpoint (rank_by=cross_entropy)",
        needs=("cross_entropy",),
        source="Prechelt 1998, Early Stopping - But When?",
    ),
    Alert(
        name="forgetting",
        statistic="kl_from_base on the anchor corpus",
        null="it is at most 0.1 nat (0.14 bit), and the cross-entropy has not risen above the base's there",
        test=f"{_CLUSTER_T}; either, each at half of alpha",
        threshold=0.1 * NAT,
        unit="bits/token",
        suggests="a lower learning_rate or lora_rank, fewer updates, or rows like the anchor's among those that are trained",
        needs=("cross_entropy", "kl_from_base"),
        text="anchor",
        source="Shenfeld, Pari and Agrawal 2025 (arXiv 2509.04259)",
    ),
    Alert(
        name="memorization",
        statistic="membership_auroc, of training rows against held-out ones; where they are measured, membership_tpr and "
        "verbatim_rate too",
        null="training rows cannot be told from others (0.5); no larger share of them than of held-out rows lies beyond the "
        "score that 1 % of the latter exceed; none comes word for word that was not guessed before, or at most 1 % do",
        test="any of: one-sided, with DeLong's error, and the value must be above 0.6 (above 0.75 it is critical); Clopper and "
        "Pearson's lower bound above the upper one of the held-out rows; more than of the base and of held-out rows, and an "
        "upper bound (Clopper and Pearson) above 1 %. The first two at half of alpha each",
        threshold=0.5,
        unit="1",
        suggests="fewer epochs, rows without duplicates, or more rows",
        needs=("membership_auroc",),
        source="Carlini et al. 2022 (arXiv 2112.03570); DeLong, DeLong and Clarke-Pearson 1988; Clopper and Pearson 1934; "
        "Carlini et al. 2023 (arXiv 2202.07646)",
    ),
    Alert(
        name="loops",
        statistic="compression_ratio of what the checkpoint writes / of what the base wrote to the same prompts; where it is "
        "measured, word_growth too",
        null="at least 0.5; and the pairs of tokens are more than the tokens by a growth of 0.1 bit, or the base's were not",
        test=f"either, each at half of alpha: {_BOOTSTRAP}; one-sided t of the growth",
        threshold=0.5,
        unit="1",
        fires="below",
        suggests="looking at the data for repeated text, and an earlier checkpoint; a repetition_penalty hides it only",
        needs=("compression_ratio",),
        source="Holtzman et al. 2020 (arXiv 1904.09751); Lind and Marcus 1995, ch. 4",
    ),
    Alert(
        name="representation_collapse",
        statistic="spectral_participation_ratio, corrected for the number of states, of the checkpoint / of the base, in "
        "the layer where it is least",
        null="at least 0.7",
        test=f"{_BOOTSTRAP}; any layer, each at its share of alpha",
        threshold=0.7,
        unit="1",
        fires="below",
        suggests="a lower learning_rate, another lora_rank, or weight_decay",
        needs=("spectral_participation_ratio",),
        source="Bell and Dean 1970; Gao et al. 2017 (bioRxiv 214262); Efron 1979",
    ),
    Alert(
        name="numeric",
        statistic="documents with sums that are not finite numbers, with a logit z beyond ±10⁴, or with a token that is not the "
        "target and has p ≥ 1 − 2⁻²⁴, the last number of fp32 before 1",
        null="there are none",
        test="exact",
        threshold=0,
        unit="documents",
        suggests="a lower learning_rate, a longer warm-up, or bf16 in place of fp16",
        needs=(),
        source="IEEE 754-2019, §3.4 and §6.2",
    ),
)

BY_NAME = {alert.name: alert for alert in ALERTS}
