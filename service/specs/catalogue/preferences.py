"""What a reward model makes of held-out pairs of answers."""

from service.specs.catalogue.measure import Measure

_PAIRS = "the held-out pairs of an rm step; a document is a pair"
_BRADLEY_TERRY = "Bradley & Terry 1952, Rank analysis of incomplete block designs: the method of paired comparisons"
_SCORE = "a score is a log-odds in nats, and its zero has no meaning: only differences do"

ROWS: tuple[Measure, ...] = (
    Measure(
        name="preference_cross_entropy",
        unit="bits/pair",
        definition="mean of −lg σ(s_chosen − s_rejected), the code length of which answer was chosen: a coin needs 1 bit",
        source=f"{_BRADLEY_TERRY}; as a loss: Ouyang et al. 2022 (arXiv 2203.02155), §3.5",
        computed_on=_PAIRS,
        in_jobs=True,
    ),
    Measure(
        name="reward_accuracy",
        unit="1",
        definition="the share of pairs with s_chosen > s_rejected; equal scores are no win",
        source="Lambert et al. 2024, RewardBench (arXiv 2403.13787)",
        computed_on=_PAIRS,
        in_jobs=True,
    ),
    Measure(
        name="reward_margin",
        unit="nats",
        definition=f"mean of s_chosen − s_rejected, the log-odds that the model gives to the preference ({_SCORE})",
        source=_BRADLEY_TERRY,
        computed_on=_PAIRS,
        in_jobs=True,
    ),
    Measure(
        name="chosen_reward",
        unit="nats",
        definition=f"mean score of the chosen answers ({_SCORE})",
        source=_BRADLEY_TERRY,
        computed_on=_PAIRS,
        in_jobs=True,
    ),
    Measure(
        name="rejected_reward",
        unit="nats",
        definition=f"mean score of the rejected answers ({_SCORE})",
        source=_BRADLEY_TERRY,
        computed_on=_PAIRS,
        in_jobs=True,
    ),
)
