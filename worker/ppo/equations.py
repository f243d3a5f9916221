"""The equations of PPO on text, as pure functions of tensors, in nats.

A text of T tokens has T−1 predictions: column t predicts the token at t+1 from those up to t, and V at t is the value of the
text up to t. Shapes: B texts, T their predictions. mask_BT is 1 where the predicted token belongs to the response and 0 in the
prompt and the padding; what stands under a 0 never reaches a result.

Sources: Schulman et al. 2017, PPO (arXiv 1707.06347); Schulman et al. 2016, GAE (1506.02438); Ziegler et al. 2019 (1909.08593)
for the penalty and its controller; Stiennon et al. 2020 (2009.01325). docs/decisions/0015 says where the constants come from.
"""

from dataclasses import dataclass

import torch

GAMMA = 1.0  # a score that comes late is worth as much
LAMBDA = 0.95
CLIP_RANGE = 0.2  # of the probability ratio
CLIP_RANGE_VALUE = 0.2  # of how far a value moves
VALUE_COEFFICIENT = 0.1
INITIAL_KL_COEFFICIENT = 0.2
KL_HORIZON = 10_000  # texts
EPSILON = 1e-8


# -- what is rewarded --------------------------------------------------------------------------------------------------


def kl_penalty(logp_BT: torch.Tensor, ref_logp_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """[B, T] log π(y) − log π_ref(y): its expectation over y ~ π is D(π‖π_ref). Ziegler et al. 2019, section 2."""
    return (logp_BT - ref_logp_BT) * mask_BT


def token_rewards(scores_B: torch.Tensor, kl_BT: torch.Tensor, mask_BT: torch.Tensor, kl_coefficient: float) -> torch.Tensor:
    """[B, T] −β kl at each token of the response, and the score with the last: r − β log(π/π_ref). Ziegler et al. 2019, eq. 2.

    A response of no tokens has no place for its score, and gets none.
    """
    return -kl_coefficient * kl_BT * mask_BT + scores_B[:, None] * last_token(mask_BT)


def last_token(mask_BT: torch.Tensor) -> torch.Tensor:
    """[B, T] 1 at each row's last 1 of the mask, else 0."""
    after_BT = mask_BT.flip(1).cumsum(1).flip(1)  # how many are left, this one with them
    return mask_BT * (after_BT == 1)


# -- advantages --------------------------------------------------------------------------------------------------------


def advantages_and_returns(
    rewards_BT: torch.Tensor, values_BT: torch.Tensor, mask_BT: torch.Tensor, gamma: float = GAMMA, lam: float = LAMBDA
) -> tuple[torch.Tensor, torch.Tensor]:
    """δ_t = r_t + γ V_{t+1} − V_t; A_t = δ_t + γλ A_{t+1}; the return is A_t + V_t. Schulman et al. 2016, eqs. 11 to 16.

    Behind the response's last token both the value and the advantage are 0: the text is over.
    """
    rewards_BT, values_BT = rewards_BT * mask_BT, values_BT * mask_BT
    advantage_B = next_value_B = torch.zeros_like(rewards_BT[:, 0])
    reversed_advantages = []
    for t in reversed(range(rewards_BT.shape[1])):
        delta_B = rewards_BT[:, t] + gamma * next_value_B - values_BT[:, t]
        advantage_B = delta_B + gamma * lam * advantage_B
        next_value_B = values_BT[:, t]
        reversed_advantages.append(advantage_B)
    advantages_BT = torch.stack(reversed_advantages[::-1], 1) * mask_BT
    return advantages_BT, advantages_BT + values_BT


def masked_mean(values_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Over what the mask has; 0 where it has nothing."""
    return (values_BT * mask_BT).sum() / mask_BT.sum().clamp(min=1)


def masked_variance(values_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Unbiased, over n − 1; 0 where there is one value or none."""
    squares_BT = (values_BT - masked_mean(values_BT, mask_BT)).square() * mask_BT
    return squares_BT.sum() / (mask_BT.sum() - 1).clamp(min=1)


def whiten(values_BT: torch.Tensor, mask_BT: torch.Tensor, shift_mean: bool = True) -> torch.Tensor:
    """(x − mean) / √(variance + ε); without `shift_mean` the mean is put back, and only the spread is 1."""
    mean = masked_mean(values_BT, mask_BT)
    whitened_BT = (values_BT - mean) * torch.rsqrt(masked_variance(values_BT, mask_BT) + EPSILON)
    return (whitened_BT if shift_mean else whitened_BT + mean) * mask_BT


# -- losses ------------------------------------------------------------------------------------------------------------


def policy_loss(
    logp_BT: torch.Tensor,
    old_logp_BT: torch.Tensor,
    advantages_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    clip_range: float = CLIP_RANGE,
) -> torch.Tensor:
    """−mean min(ρA, clip(ρ, 1 − ε, 1 + ε) A), with ρ = π/π_old. Schulman et al. 2017, eq. 7."""
    ratio_BT = torch.exp((logp_BT - old_logp_BT) * mask_BT)
    clipped_BT = ratio_BT.clamp(1 - clip_range, 1 + clip_range)
    return -masked_mean(torch.minimum(ratio_BT * advantages_BT, clipped_BT * advantages_BT), mask_BT)


def value_loss(
    values_BT: torch.Tensor,
    old_values_BT: torch.Tensor,
    returns_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    clip_range: float = CLIP_RANGE_VALUE,
) -> torch.Tensor:
    """½ mean max((V − R)², (clip(V, V_old − ε, V_old + ε) − R)²): the policy's clipping, for values, as in OpenAI's baselines."""
    clipped_BT = torch.maximum(torch.minimum(values_BT, old_values_BT + clip_range), old_values_BT - clip_range)
    squares_BT = torch.maximum((values_BT - returns_BT).square(), (clipped_BT - returns_BT).square())
    return 0.5 * masked_mean(squares_BT, mask_BT)


# -- statistics --------------------------------------------------------------------------------------------------------


def token_entropy(logits_BTV: torch.Tensor) -> torch.Tensor:
    """[B, T] −Σ p log p over the vocabulary. Shannon 1948."""
    logp_BTV = logits_BTV.float().log_softmax(-1)
    return -(logp_BTV.exp() * logp_BTV).sum(-1)


def approximate_kl(logp_BT: torch.Tensor, old_logp_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """½ mean (log π − log π_old)²: how far the update has moved, with little variance. Schulman 2020, the estimator k2."""
    return 0.5 * masked_mean((logp_BT - old_logp_BT).square(), mask_BT)


def clip_fraction(
    logp_BT: torch.Tensor, old_logp_BT: torch.Tensor, mask_BT: torch.Tensor, clip_range: float = CLIP_RANGE
) -> torch.Tensor:
    """The share of tokens whose ratio is outside 1 ± ε."""
    ratio_BT = torch.exp((logp_BT - old_logp_BT) * mask_BT)
    return masked_mean(((ratio_BT - 1).abs() > clip_range).float(), mask_BT)


def explained_variance(values_BT: torch.Tensor, returns_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """1 − Var(R − V) / Var(R): 1 where values foresee the returns, 0 where they know no more than a constant."""
    unexplained = masked_variance(returns_BT - values_BT, mask_BT)
    return 1 - unexplained / masked_variance(returns_BT, mask_BT).clamp(min=EPSILON)


# -- what moves from update to update ----------------------------------------------------------------------------------


def next_kl_coefficient(coefficient: float, kl: float, target: float, n_texts: int, horizon: int = KL_HORIZON) -> float:
    """β ← β (1 + clip(KL/target − 1, −0.2, 0.2) n/horizon), KL in nats a response. Ziegler et al. 2019, section 2.2."""
    error = min(max(kl / target - 1, -0.2), 0.2)
    return coefficient * (1 + error * n_texts / horizon)


@dataclass(frozen=True)
class Moments:
    """Mean and sum of squared deviations of all the scores so far: Chan, Golub and LeVeque 1979, which needs no second pass."""

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def after(self, scores_B: torch.Tensor) -> "Moments":
        """With a buffer's scores among them."""
        scores_B = scores_B.double()
        n_new, mean_new = len(scores_B), float(scores_B.mean())
        n, apart = self.n + n_new, mean_new - self.mean
        squares = self.squares + float((scores_B - mean_new).square().sum()) + apart**2 * self.n * n_new / n
        return Moments(n, self.mean + apart * n_new / n, squares)

    @property
    def deviation(self) -> float:
        """Unbiased, over n − 1; 0 for one score."""
        return float((self.squares / max(self.n - 1, 1)) ** 0.5)

    def normalised(self, scores_B: torch.Tensor) -> torch.Tensor:
        """(s − mean) / deviation; 0 where all scores so far are one number."""
        return (scores_B - self.mean) / (self.deviation + EPSILON)
