"""What is tested of each checkpoint, on one text: whether it collapsed, is over-confident, over-fits, forgets, or is no number.

A test is plain data, ready for JSON: `fires` is None, with the `reason`, where it could not be made. The k-th checkpoint of a
step is tested at 6α/(π²k²), so that an alert is false in at most a share α of steps; k counts what was measured, whichever
attempt did it. To add an alert: a function and a line in TESTS, and its row in `service/specs/alerts.py`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from service.specs.alerts import ALPHA, BY_NAME, FEWEST_DOCUMENTS, Text
from service.specs.measures import measure_of
from worker.information.intervals import Estimate, difference, ratio, why_no_interval
from worker.information.significance import alpha_spent, bootstrapped, clopper_pearson, lower_bound, upper_bound_of_ratio
from worker.probes.finding import Finding, Findings
from worker.probes.report import best_checkpoint, cross_entropy, entropy, kl_from_base
from worker.probes.token import HUGE, DocumentSums

Test = dict[str, Any]

SHARE_OF_BASE = 0.3  # of its entropy, which may go
WORTH_TELLING, CRITICAL = 0.6, 0.75  # AUROCs of membership
FALSE_ALARMS = 0.01  # the share of held-out rows that membership_tpr lets pass
VERBATIM_RATE = 0.01
GROWTH = 0.1  # bits a token


@dataclass(frozen=True)
class Seen:
    """What there is to look at: the base, and the checkpoints up to the one that is tested, which is the last."""

    base: DocumentSums
    checkpoints: dict[int, DocumentSums]  # by global_step, rising
    split: str
    found: Findings  # of the last, by probes
    found_of_base: Findings
    alpha: float  # that is spent on this checkpoint

    @property
    def last(self) -> DocumentSums:
        return self.checkpoints[max(self.checkpoints)]

    def before(self) -> "Seen | None":
        """As it was at the checkpoint before."""
        earlier = {step: self.checkpoints[step] for step in sorted(self.checkpoints)[:-1]}
        return replace(self, checkpoints=earlier, alpha=alpha_spent(ALPHA, len(earlier))) if earlier else None


def alert_tests(
    base: DocumentSums,
    checkpoints: dict[int, DocumentSums],
    global_step: int,
    split: str,
    names: set[str],
    findings: Mapping[int | None, Findings] | None = None,
) -> list[Test]:
    """The tests of one checkpoint on one text, of the alerts whose measures are among `names`."""
    earlier = {step: checkpoints[step] for step in sorted(checkpoints) if step <= global_step}
    found = findings or {}
    seen = Seen(base, earlier, split, found.get(global_step, {}), found.get(None, {}), alpha_spent(ALPHA, len(earlier)))
    text: Text = "anchor" if split == "anchor" else "task"
    made = []
    for name, test in TESTS.items():
        alert = BY_NAME[name]
        if (alert.text == text or not alert.needs) and set(alert.needs) <= names:
            made.append({"alert": name, "global_step": global_step, **_common(seen, name), **test(seen)})
    return made


def _common(seen: Seen, name: str) -> Test:
    """What a test says unless it knows better."""
    return {
        "fires": None,
        "statistic": None,
        "bound": None,
        "threshold": BY_NAME[name].threshold,
        "unit": BY_NAME[name].unit,
        "k": len(seen.checkpoints),
        "alpha": seen.alpha,
        "n_documents": sum(n > 0 for n in seen.last.n_tokens),
        "reason": None,
    }


# -- the tests ---------------------------------------------------------------------------------------------------------


def entropy_collapse(seen: Seen) -> Test:
    """Both parts of the null must be rejected, each at the whole of alpha: an intersection-union test keeps it (Berger 1982).

    The part that holds out longer is told; where it is the base's share, both sides of it are uncertain, and paired.
    """
    base, now = entropy(seen.base), entropy(seen.last)
    drop, share = difference(base, now), SHARE_OF_BASE * base.value
    beyond_share = difference(scaled(base, 1 - SHARE_OF_BASE), now)
    absolute = above(drop, BY_NAME["entropy_collapse"].threshold, seen.alpha)
    relative = above(beyond_share, 0.0, seen.alpha, shown_above=share)
    if absolute["fires"] is None:
        return absolute
    return min(absolute, relative, key=lambda test: test["bound"] - test["threshold"])


def over_confidence(seen: Seen) -> Test:
    """E[NLL] − E[H]: above 0 where a model is surer than it is right."""
    sums = seen.last
    with np.errstate(invalid="ignore"):
        gap_D = np.array(sums.nll) - np.array(sums.entropy)
    return above(ratio(gap_D, np.array(sums.n_tokens)), BY_NAME["over_confidence"].threshold, seen.alpha)


def over_fit(seen: Seen) -> Test:
    """Against the best so far, twice running: that the best is the luckiest, too, is what the second time is for."""
    if seen.split == "train":
        return {"reason": "These are rows that are trained on: over-fitting shows on other text only."}
    here, before = _rise(seen), seen.before()
    if not here["fires"] or (before is not None and _rise(before)["fires"]):
        return here
    return here | {"fires": False, "reason": "The first checkpoint in a row that is worse than the best: an alert needs two."}


def _rise(seen: Seen) -> Test:
    best = best_checkpoint(seen.checkpoints)
    if best is None:
        return {"fires": None, "reason": why_no_interval(cross_entropy(seen.last))}
    return above(difference(cross_entropy(seen.last), cross_entropy(seen.checkpoints[best])), 0.0, seen.alpha)


def forgetting(seen: Seen) -> Test:
    """The divergence, or a rise of the cross-entropy, each at half of alpha; the latter is told where it alone fires."""
    risen = above(difference(cross_entropy(seen.last), cross_entropy(seen.base)), 0.0, seen.alpha / 2)
    risen["reason"] = risen["reason"] or "What is told is the rise of the cross-entropy on the anchor, against the base."
    drift = kl_from_base(seen.last)
    if drift is None:
        return risen
    diverged = above(drift, BY_NAME["forgetting"].threshold, seen.alpha / 2)
    return risen if risen["fires"] and not diverged["fires"] else diverged


def memorization(seen: Seen) -> Test:
    """Of training rows against held-out ones, three ways, of which the first that fires is told.

    AUROC with DeLong's error (DeLong, DeLong and Clarke-Pearson 1988), and the share beyond nearly all held-out rows, each at
    half of alpha; and what is written word for word, of which any is too much unless it is known to be seldom.
    """
    found = seen.found.get("membership_auroc")
    if found is None or found.nothing_sampled is not None:
        return {"reason": "Which rows are trained on could not be told." if found is None else found.nothing_sampled}
    tests = [more_than_chance(found.estimate, seen.alpha / 2), *_of_the_tail(seen, found), *_word_for_word(seen)]
    return next((test for test in tests if test["fires"]), tests[0])


def _of_the_tail(seen: Seen, auroc: Finding) -> list[Test]:
    """Where both kinds have enough rows."""
    beyond = seen.found.get("membership_tpr")
    if beyond is None or beyond.nothing_sampled is not None:
        return []
    n_train, n_held_out = beyond.n_documents, auroc.n_documents - beyond.n_documents
    if min(n_train, n_held_out) < FEWEST_DOCUMENTS:
        return []
    return [more_in_the_tail(round(beyond.estimate.value * n_train), n_train, n_held_out, seen.alpha / 2)]


def _word_for_word(seen: Seen) -> list[Test]:
    """A row that the base has word for word, or as many of those that nobody trained on, tell of text that is easy to guess."""
    learned, others = (_known(seen.found, f"verbatim_rate:{rows}") for rows in ("train", "held_out"))
    before = _known(seen.found_of_base, "verbatim_rate:train")
    if learned is None or learned.n_documents < FEWEST_DOCUMENTS:
        return []
    guessed = max((it.estimate.value for it in (others, before) if it is not None), default=0.0)
    rate, n = learned.estimate.value, learned.n_documents
    bound = clopper_pearson(round(rate * n), n, 2 * seen.alpha)[1]
    fires = rate > guessed and bound > VERBATIM_RATE
    reason = "What is told is the share of training rows that come word for word, and its upper bound."
    return [{"fires": fires, "statistic": rate, "bound": bound, "threshold": VERBATIM_RATE, "reason": reason}]


def _known(found: Findings, name: str) -> Finding | None:
    finding = found.get(name)
    return None if finding is None or finding.nothing_sampled is not None else finding


def loops(seen: Seen) -> Test:
    """What the checkpoint writes compresses to less than half of what the base wrote to the same prompts; or it has nearly no
    more pairs of tokens than tokens, and the base's had. Each at half of alpha where both are known.
    """
    growth, before = (_known(found, "word_growth") for found in (seen.found, seen.found_of_base))
    if growth is None or before is None:
        return _least(seen, "compression_ratio", BY_NAME["loops"].threshold)
    halved = replace(seen, alpha=seen.alpha / 2)
    compressed = _least(halved, "compression_ratio", BY_NAME["loops"].threshold)
    stands_still = no_more_than(growth.estimate, GROWTH, halved.alpha)
    if compressed["fires"] or not stands_still["fires"] or before.estimate.value <= GROWTH:
        return compressed
    return stands_still | {"unit": "bits/token", "reason": "What is told is word_growth, which is 0 of texts that only repeat."}


def representation_collapse(seen: Seen) -> Test:
    """In any of the layers that are looked at, each at its share of alpha; the one that fell furthest is told."""
    return _least(seen, "spectral_participation_ratio", BY_NAME["representation_collapse"].threshold)


def _least(seen: Seen, measure: str, share: float) -> Test:
    """Of all the places where the measure was taken, of the checkpoint and of the base."""
    places = [name for name in seen.found if measure_of(name) == measure and name in seen.found_of_base]
    if not places:
        return {"reason": f"There is no {measure} of this checkpoint, or none of the base, to compare."}
    alpha = seen.alpha / len(places)
    tests = [below(seen.found[name].estimate, seen.found_of_base[name].estimate, share, alpha) for name in places]
    made = [test for test in tests if test["fires"] is not None]
    return min(made, key=lambda test: test["bound"]) if made else tests[0]


def numeric(seen: Seen) -> Test:
    """Exact, and of any number of documents.

    Certainty that is right is no error of numbers, and models have it of many tokens. That it is wrong once in N tokens has the
    probability N 2^-24 at most where it is deserved.
    """
    sums = seen.last
    lost_D = [not (math.isfinite(nll) and math.isfinite(bits)) for nll, bits in zip(sums.nll, sums.entropy, strict=True)]
    none_D = [0] * len(lost_D)
    huge_D, wrong_D = sums.huge_logits or none_D, sums.certain_errors or none_D
    count = sum(any(signs) for signs in zip(lost_D, huge_D, wrong_D, strict=True))
    return {"fires": count > 0, "statistic": float(count), "bound": float(count), "reason": _of_numbers(sums, lost_D)}


def _of_numbers(sums: DocumentSums, lost_D: list[bool]) -> str | None:
    """Which of the signs there are."""
    signs = [f"{sum(lost_D)} documents have sums that are not finite"] * any(lost_D)
    if huge := sum(sums.huge_logits or ()):
        signs.append(f"{huge:.0f} tokens have a logit beyond ±{HUGE:g}")
    if wrong := sum(sums.certain_errors or ()):
        share = sum(sums.certain or ()) / sum(sums.n_tokens)
        signs.append(f"{wrong:.0f} tokens are held to be certainly others (certain of all tokens: {share:.1%})")
    return f"{'; '.join(signs)}." if signs else None


TESTS: dict[str, Callable[[Seen], Test]] = {
    "entropy_collapse": entropy_collapse,
    "over_confidence": over_confidence,
    "over_fit": over_fit,
    "forgetting": forgetting,
    "memorization": memorization,
    "loops": loops,
    "representation_collapse": representation_collapse,
    "numeric": numeric,
}


# -- of what probes find -----------------------------------------------------------------------------------------------


def more_than_chance(auroc: Estimate, alpha: float) -> Test:
    """Whether members can be told from others, and well enough to be worth telling."""
    test = above(auroc, 0.5, alpha)
    if not test["fires"]:
        return test
    if auroc.value <= WORTH_TELLING:
        return test | {"fires": False, "reason": f"It is above ½, and no more than {WORTH_TELLING:g}: an alert needs more."}
    return test | {"reason": f"It is above {CRITICAL:g}, which is critical." if auroc.value > CRITICAL else None}


def more_in_the_tail(detected: int, n_train: int, n_held_out: int, alpha: float) -> Test:
    """Whether more training rows than held-out ones lie beyond the score that 1 % of the latter exceed, by exact bounds of both.

    Clopper and Pearson 1934, each at half of alpha. The score is an order statistic of the held-out rows, beyond which lies more
    than the upper bound with just that probability.
    """
    low, _ = clopper_pearson(detected, n_train, alpha)
    _, high = clopper_pearson(math.floor(FALSE_ALARMS * n_held_out), n_held_out, alpha)
    reason = f"What is told is the share of training rows beyond {1 - FALSE_ALARMS:.0%} of the held-out ones, as membership_tpr."
    return {"fires": low > high, "statistic": detected / n_train, "bound": low, "threshold": high, "reason": reason}


def below(now: Estimate, base: Estimate, share: float, alpha: float) -> Test:
    """Whether "at least this share of the base's" is rejected, by a bootstrap of the documents that both share.

    What a document does to each value is taken to first order, so a resample is a sum; the draws are the same ones every time.
    """
    why = why_no_interval(now) or why_no_interval(base) or _too_few(now)
    if len(now.influence_D) != len(base.influence_D) or now.n_documents != base.n_documents:
        why = why or "The checkpoint and its base were not looked at on the same documents."
    if why is not None or not min(now.value, base.value) > 0:
        ratio_now = now.value / base.value if base.value > 0 and math.isfinite(now.value) else None
        return {"fires": None, "statistic": ratio_now, "threshold": share, "reason": why or "A ratio needs two values above 0."}

    def log_ratio(times_D: np.ndarray) -> float:
        values = (it.value + float(times_D @ it.influence_D) for it in (now, base))
        return math.log(max(next(values), 1e-9 * now.value) / max(next(values), 1e-9 * base.value))

    logs_B = bootstrapped(log_ratio, len(now.influence_D), np.random.default_rng(0))
    ratio_now = now.value / base.value
    bound = upper_bound_of_ratio(math.log(ratio_now), logs_B, alpha, now.n_documents)
    return {"fires": bound < share, "statistic": ratio_now, "bound": bound, "threshold": share, "reason": None}


# -- of an estimate ----------------------------------------------------------------------------------------------------


def above(estimate: Estimate, threshold: float, alpha: float, shown_above: float = 0.0) -> Test:
    """Whether "at most the threshold" is rejected. `shown_above` moves what is told, statistic, bound and threshold alike."""
    if (why := why_no_interval(estimate) or _too_few(estimate)) is not None:
        value = estimate.value + shown_above if math.isfinite(estimate.value) else None
        return {"fires": None, "statistic": value, "bound": None, "threshold": threshold + shown_above, "reason": why}
    bound = lower_bound(estimate, alpha)
    assert bound is not None, "why_no_interval gave no reason"
    return {
        "fires": bound > threshold,
        "statistic": estimate.value + shown_above,
        "bound": bound + shown_above,
        "threshold": threshold + shown_above,
        "reason": None,
    }


def no_more_than(estimate: Estimate, threshold: float, alpha: float) -> Test:
    """Whether "at least the threshold" is rejected."""
    test = above(scaled(estimate, -1.0), -threshold, alpha)
    return test | {name: None if test[name] is None else -test[name] for name in ("statistic", "bound", "threshold")}


def scaled(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(factor * estimate.value, factor * estimate.influence_D, estimate.n_documents, estimate.n_tokens)


def _too_few(estimate: Estimate) -> str | None:
    if estimate.n_documents >= FEWEST_DOCUMENTS:
        return None
    return f"An alert needs at least {FEWEST_DOCUMENTS} documents; there are {estimate.n_documents}."
