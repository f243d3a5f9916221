"""Which of two experiments tells more about the same unknown X: Blackwell's order, and how far it fails.

Shapes: X states of nature, Y and Z outcomes of the two experiments, A actions. An experiment is a channel [X, Y] of P(y | x): a
confusion matrix whose rows are the true classes is one, and of two checkpoints the one that dominates is the better
for every prior and every cost.

Sources: Blackwell 1951, 1953; Le Cam 1964; Torgersen, Comparison of Statistical Experiments, 1991; Lindley 1956.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, sparse

from worker.information.distributions import channel, probabilities
from worker.information.shannon import mutual_information


@dataclass(frozen=True, eq=False)
class Deficiency:
    """δ(P, Q), and the garbling M with which P comes so near to Q: max_x TV((PM)_x, Q_x) = δ."""

    value: float
    garbling_YZ: np.ndarray


@dataclass(frozen=True, eq=False)
class BlackwellMeasure:
    """The law of the posterior: with probability weight_K[k] the posterior of X is posterior_KX[k]. Its mean is the prior."""

    weight_K: np.ndarray
    posterior_KX: np.ndarray


def le_cam_deficiency(p_XY: ArrayLike, q_XZ: ArrayLike) -> Deficiency:
    """δ(P, Q) = min over row-stochastic M of max_x TV((PM)_x, Q_x), in [0, 1]; 0 iff P dominates Q. Not symmetric.

    A linear program, since TV = Σ_z (Q − PM)⁺: minimise δ with e ≥ Q − PM, e ≥ 0, Σ_z e_xz ≤ δ. The solver (HiGHS) is right to
    1e-7. By Le Cam's theorem, whatever risk Q can reach under losses in [0, 1], P reaches to within δ at every x.
    """
    p_XY, q_XZ = _experiments(p_XY, q_XZ)
    (X, Y), Z = p_XY.shape, q_XZ.shape[1]
    # variables: M (Y·Z), e (X·Z), δ
    falls_short = sparse.hstack([-sparse.kron(p_XY, sparse.eye(Z)), -sparse.eye(X * Z), sparse.csr_array((X * Z, 1))])
    within = sparse.hstack([sparse.csr_array((X, Y * Z)), sparse.kron(sparse.eye(X), np.ones((1, Z))), -np.ones((X, 1))])
    stochastic = sparse.hstack([sparse.kron(sparse.eye(Y), np.ones((1, Z))), sparse.csr_array((Y, X * Z + 1))])
    found = optimize.linprog(
        np.concatenate([np.zeros(Y * Z + X * Z), [1.0]]),
        A_ub=sparse.vstack([falls_short, within]).tocsr(),
        b_ub=np.concatenate([-q_XZ.ravel(), np.zeros(X)]),
        A_eq=stochastic.tocsr(),
        b_eq=np.ones(Y),
        method="highs",
    )
    if found.status != 0:
        raise RuntimeError(f"the linear program of the deficiency was not solved: {found.message}")
    return Deficiency(max(float(found.fun), 0.0), found.x[: Y * Z].reshape(Y, Z))


def le_cam_distance(p_XY: ArrayLike, q_XZ: ArrayLike) -> float:
    """Δ(P, Q) = max(δ(P, Q), δ(Q, P)): 0 iff each can be made from the other. Le Cam 1964."""
    return max(le_cam_deficiency(p_XY, q_XZ).value, le_cam_deficiency(q_XZ, p_XY).value)


def blackwell_dominates(p_XY: ArrayLike, q_XZ: ArrayLike, tolerance: float = 1e-7) -> bool:
    """Whether Q = PM for some garbling M, to the tolerance in total variation: whether P is as good as Q for every decision."""
    return le_cam_deficiency(p_XY, q_XZ).value <= tolerance


def blackwell_measure(prior_X: ArrayLike, p_XY: ArrayLike) -> BlackwellMeasure:
    """The law of P(X | y) under P(y). Outcomes that never happen are left out, those with one posterior (to 1e-12) are one.

    It is all that matters of an experiment: two with the same measure dominate each other. Blackwell 1951.
    """
    joint_XY = _joint(prior_X, p_XY)
    weights: list[float] = []
    posteriors: list[np.ndarray] = []
    for joint_X in joint_XY.T[joint_XY.sum(axis=0) > 0]:
        posterior_X = joint_X / joint_X.sum()
        same = (k for k, other_X in enumerate(posteriors) if np.allclose(other_X, posterior_X, rtol=0, atol=1e-12))
        k = next(same, len(posteriors))
        if k == len(posteriors):
            weights.append(0.0)
            posteriors.append(posterior_X)
        weights[k] += float(joint_X.sum())
    return BlackwellMeasure(np.array(weights), np.array(posteriors))


def expected_information_gain(prior_X: ArrayLike, p_XY: ArrayLike) -> float:
    """E_y D(P(X|y) ‖ prior) = I(X;Y), bits: the mean of the outcomes' `relative_entropy(posterior, prior)`. Lindley 1956."""
    return mutual_information(_joint(prior_X, p_XY))


def bayes_risk(prior_X: ArrayLike, p_XY: ArrayLike, loss_XA: ArrayLike) -> float:
    """Σ_y min_a Σ_x prior(x) P(y|x) loss(x, a), in the loss's unit: the least expected loss of one who sees y, then acts.

    P dominates Q iff its risk is at most Q's for every prior and every loss (Blackwell 1953).
    """
    joint_XY, loss_XA = _joint(prior_X, p_XY), np.asarray(loss_XA, dtype=np.float64)
    if loss_XA.ndim != 2 or len(loss_XA) != len(joint_XY) or loss_XA.shape[1] == 0 or not np.isfinite(loss_XA).all():
        raise ValueError(
            f"the loss must be a finite matrix with a row for each of {len(joint_XY)} states, a column for each action"
        )
    return float((joint_XY.T @ loss_XA).min(axis=1).sum())


def _experiments(p_XY: ArrayLike, q_XZ: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    p_XY, q_XZ = channel(p_XY), channel(q_XZ)
    if len(p_XY) != len(q_XZ):
        raise ValueError(f"the experiments are about {len(p_XY)} states and {len(q_XZ)}: both must have a row for each state")
    return p_XY, q_XZ


def _joint(prior_X: ArrayLike, p_XY: ArrayLike) -> np.ndarray:
    prior_X, p_XY = probabilities(prior_X), channel(p_XY)
    if prior_X.shape != p_XY.shape[:1]:
        raise ValueError(f"the prior is over {prior_X.size} states, the experiment over {len(p_XY)}")
    return prior_X[:, None] * p_XY
