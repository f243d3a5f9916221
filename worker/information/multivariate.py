"""What several variables share. A joint distribution has one axis a variable; each measure takes all of its variables. Bits.

For two variables all of these but o_information are I(X;Y). They part at three: of XOR, where Z = X + Y mod 2 of two fair
coins, they are: multi_information 1, dual_total_correlation 2, co_information −1, interaction_information +1, o_information −1.
"""

from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from worker.information.distributions import LN2, log_on, not_below_zero, probabilities
from worker.information.shannon import conditional_entropy, entropy, joint_entropy


def multi_information(joint: ArrayLike) -> float:
    """Σ H(X_i) − H(X_1, ..., X_n) = D(joint ‖ product of its marginals) ≥ 0, 0 iff all are independent.

    Watanabe 1960 (total correlation); Studený and Vejnarová 1998.
    """
    joint = probabilities(joint)
    support = joint > 0
    marginals = [joint.sum(axis=_others(joint, i), keepdims=True) for i in range(joint.ndim)]
    ratio = log_on(support, joint) - sum(log_on(support, marginal) for marginal in marginals)
    return not_below_zero(np.sum(joint * ratio) / LN2)


def dual_total_correlation(joint: ArrayLike) -> float:
    """H(X_1, ..., X_n) − Σ H(X_i | all others) ≥ 0, 0 iff all are independent. Han 1978."""
    joint = probabilities(joint)
    alone = sum(conditional_entropy(joint, given=_others(joint, i)) for i in range(joint.ndim))
    return not_below_zero(entropy(joint) - alone)


def co_information(joint: ArrayLike) -> float:
    """−Σ (−1)^|T| H(T) over the sets T of variables; of three I(X;Y) − I(X;Y|Z). Bell 2003.

    Positive where they are redundant (three copies of a coin: +1), negative where they are synergetic (XOR: −1), of three
    variables; of more its sign alternates with their number and tells neither. One variable has its entropy.
    """
    joint = probabilities(joint)
    sets = (T for size in range(1, joint.ndim + 1) for T in combinations(range(joint.ndim), size))
    return float(-sum((-1) ** len(T) * joint_entropy(joint, T) for T in sets))


def interaction_information(joint: ArrayLike) -> float:
    """(−1)^n co_information; of three variables I(X;Y|Z) − I(X;Y), so that synergy is positive (XOR: +1). McGill 1954."""
    return (-1) ** np.ndim(joint) * co_information(joint)


def o_information(joint: ArrayLike) -> float:
    """multi_information − dual_total_correlation: > 0 where redundancy prevails, < 0 where synergy does. Rosas et al. 2019."""
    return multi_information(joint) - dual_total_correlation(joint)


def _others(joint: np.ndarray, i: int) -> tuple[int, ...]:
    return tuple(axis for axis in range(joint.ndim) if axis != i)
