import json
import math
from dataclasses import replace

import numpy as np
import pytest

from service.specs.alerts import ALPHA, BY_NAME, NAT
from worker.information.intervals import Estimate, difference, interval, ratio
from worker.information.significance import alpha_spent, clopper_pearson, lower_bound
from worker.probes.alerts import alert_tests, below, more_in_the_tail, more_than_chance
from worker.probes.finding import of_estimate, share
from worker.probes.report import MEASURES as SUMMED
from worker.probes.token import DocumentSums

NAMES = set(SUMMED)
TOKENS = 40


def a_text(entropy=3.0, nll=None, kl=0.0, documents=60, noise=0.05, seed=0):
    """Documents of 40 tokens about a level that they share between models, with a noise of their own."""
    rng = np.random.default_rng(99)
    hard_D = rng.normal(0, 0.5, size=documents)
    own = np.random.default_rng(seed)
    nll = entropy if nll is None else nll

    def bits(level):
        return ((level + hard_D + own.normal(0, noise, size=documents)) * TOKENS).tolist()

    kl_D = [kl * TOKENS] * documents
    return DocumentSums([TOKENS] * documents, [80] * documents, bits(nll), bits(entropy), kl_D, kl_D)


def outcome(base, checkpoints, step=None, split="validation", names=NAMES):
    checkpoints = checkpoints if isinstance(checkpoints, dict) else {1: checkpoints}
    return {test["alert"]: test for test in alert_tests(base, checkpoints, step or max(checkpoints), split, names)}


def fired(*arguments, **options):
    return {name for name, test in outcome(*arguments, **options).items() if test["fires"]}


def test_a_model_that_did_not_change_sets_off_nothing():
    base = a_text()
    assert fired(base, base) == fired(base, {1: base, 2: base, 3: base}) == set()
    assert set(outcome(base, base)) == {"entropy_collapse", "over_confidence", "over_fit", "numeric"}
    assert fired(base, base, split="anchor") == set()
    assert set(outcome(base, base, split="anchor")) == {"forgetting", "numeric"}


def test_a_drop_of_entropy_beyond_both_thresholds_is_a_collapse():
    # of 3 bits 30 % are 0.9, which is more than 0.43: a drop of 0.8 is none yet, one of 1.0 is
    base = a_text(3.0)
    assert "entropy_collapse" not in fired(base, a_text(2.2, nll=2.2, seed=1))
    assert "entropy_collapse" in fired(base, a_text(2.0, nll=2.0, seed=1))
    # of 1.2 bits 30 % are 0.36: 0.43 is the limit
    base = a_text(1.2)
    assert "entropy_collapse" not in fired(base, a_text(0.8, nll=0.8, seed=1))
    assert "entropy_collapse" in fired(base, a_text(0.7, nll=0.7, seed=1))


def test_a_collapse_is_told_with_its_bound_its_threshold_and_what_was_spent():
    base, now = a_text(1.2), a_text(0.7, seed=1)
    test = outcome(base, {10: base, 20: now})["entropy_collapse"]
    drop = difference(ratio(base.entropy, base.n_tokens), ratio(now.entropy, now.n_tokens))
    assert test == {
        "alert": "entropy_collapse",
        "global_step": 20,
        "fires": True,
        "statistic": pytest.approx(drop.value),
        "bound": pytest.approx(lower_bound(drop, alpha_spent(ALPHA, 2))),
        "threshold": 0.3 * NAT,
        "unit": "bits/token",
        "k": 2,
        "alpha": alpha_spent(ALPHA, 2),
        "n_documents": 60,
        "reason": None,
    }
    json.dumps(test, allow_nan=False)


def test_where_the_base_s_share_holds_out_longer_it_is_what_is_told():
    base, now = a_text(3.0), a_text(2.0, seed=1)
    test = outcome(base, now)["entropy_collapse"]
    base_H, now_H = (sum(sums.entropy) / sum(sums.n_tokens) for sums in (base, now))
    assert test["threshold"] == pytest.approx(0.3 * base_H)
    assert test["statistic"] == pytest.approx(base_H - now_H)
    assert test["threshold"] < test["bound"] < test["statistic"]


def test_every_test_fires_where_its_bound_passes_its_threshold():
    base = a_text(3.0)
    checkpoints = {step: a_text(3.0 - step / 10, nll=3.0 - step / 20, kl=step / 100, seed=step) for step in range(1, 20)}
    for split in ("validation", "anchor"):
        for step in checkpoints:
            for test in outcome(base, checkpoints, step, split).values():
                beyond = test["bound"] is not None and test["bound"] > test["threshold"]
                assert test["fires"] is beyond or "needs two" in test["reason"], test


def test_losing_more_than_one_expects_is_over_confidence():
    base = a_text(3.0)
    assert "over_confidence" not in fired(base, a_text(2.5, nll=2.54, seed=1, noise=0.01))
    assert "over_confidence" in fired(base, a_text(2.5, nll=2.7, seed=1))
    assert "over_confidence" not in fired(base, a_text(2.7, nll=2.5, seed=1)), "that is doubt"


def test_over_fit_needs_two_checkpoints_in_a_row():
    base = a_text(3.0)
    best, worse, worst = (a_text(nll, seed=seed) for seed, nll in enumerate((2.0, 2.3, 2.4), 1))
    once = outcome(base, {1: best, 2: worse})["over_fit"]
    assert once["bound"] > once["threshold"] == 0
    assert (once["fires"], "needs two" in once["reason"]) == (False, True)
    assert "over_fit" in fired(base, {1: best, 2: worse, 3: worst})
    assert "over_fit" not in fired(base, {1: best, 2: worse, 3: a_text(2.0, seed=8), 4: worse})


def test_the_best_is_the_best_so_far():
    base = a_text(3.0)
    checkpoints = {step: a_text(nll, seed=step) for step, nll in enumerate((2.0, 2.3, 2.4, 1.0), 1)}
    early = {step: checkpoints[step] for step in (1, 2, 3)}
    assert outcome(base, checkpoints, step=3) == outcome(base, early, step=3), "what comes later changes no test"


def test_on_training_rows_over_fitting_is_not_tested():
    base = a_text(3.0)
    checkpoints = {step: a_text(nll, seed=step) for step, nll in enumerate((2.0, 2.3, 2.4), 1)}
    test = outcome(base, checkpoints, split="train")["over_fit"]
    assert test["fires"] is None
    assert "trained on" in test["reason"]


def test_forgetting_is_divergence_or_a_rise_on_the_anchor():
    base = a_text(3.0)
    same = a_text(3.0, nll=2.9, kl=0.1, seed=1)
    assert fired(base, same, split="anchor") == set()
    far = outcome(base, a_text(3.0, nll=2.9, kl=0.2, seed=1), split="anchor")["forgetting"]
    assert (far["fires"], far["statistic"], far["threshold"]) == (True, pytest.approx(0.2), BY_NAME["forgetting"].threshold)
    risen = outcome(base, a_text(3.0, nll=3.2, kl=0.1, seed=1), split="anchor")["forgetting"]
    assert (risen["fires"], risen["threshold"]) == (True, 0.0)
    assert "rise of the cross-entropy" in risen["reason"]


def test_a_base_with_another_vocabulary_leaves_the_rise():
    base, now = a_text(3.0), a_text(3.2, seed=1)
    without = DocumentSums(now.n_tokens, now.n_bytes, now.nll, now.entropy)
    assert fired(base, without, split="anchor") == {"forgetting"}


def test_fewer_than_twenty_documents_have_values_and_no_alerts():
    base, now = a_text(3.0, documents=19), a_text(1.0, nll=4.0, documents=19, seed=1)
    for name, test in outcome(base, now).items():
        if name != "numeric":
            assert test["fires"] is None, name
            assert test["statistic"] is not None, name
            assert test["reason"] == "An alert needs at least 20 documents; there are 19."
            assert test["n_documents"] == 19
    assert fired(a_text(3.0, documents=20), a_text(1.0, nll=4.0, documents=20, seed=1)) == {"entropy_collapse", "over_confidence"}


def test_documents_that_count_nothing_are_no_documents():
    sums = a_text(3.0, documents=19)
    padded = DocumentSums([*sums.n_tokens, 0], [*sums.n_bytes, 0], [*sums.nll, 0.0], [*sums.entropy, 0.0])
    assert "there are 19" in outcome(padded, padded)["entropy_collapse"]["reason"]


def test_sums_that_are_not_numbers_are_the_numeric_alert_and_no_other():
    base = a_text(3.0, documents=3)
    broken = a_text(3.0, documents=3)
    broken.nll[1], broken.entropy[1] = math.nan, math.inf
    found = outcome(base, broken)
    assert (found["numeric"]["fires"], found["numeric"]["statistic"], found["numeric"]["bound"]) == (True, 1.0, 1.0)
    for name in ("entropy_collapse", "over_confidence", "over_fit"):
        assert (found[name]["fires"], found[name]["statistic"]) == (None, None)
        assert "not a finite number" in found[name]["reason"]
    json.dumps(found, allow_nan=False)


def test_certainty_that_is_wrong_and_logits_beyond_ten_thousand_are_numeric_and_certainty_that_is_right_is_not():
    base = a_text(3.0, documents=3)
    right = replace(base, huge_logits=[0, 0, 0], certain=[40, 9, 0], certain_errors=[0, 0, 0])
    assert (outcome(base, right)["numeric"]["fires"], outcome(base, right)["numeric"]["reason"]) == (False, None)
    wrong = outcome(base, replace(right, certain_errors=[2, 0, 1]))["numeric"]
    assert (wrong["fires"], wrong["statistic"]) == (True, 2.0)
    assert wrong["reason"] == "3 tokens are held to be certainly others (certain of all tokens: 40.8%)."
    huge = outcome(base, replace(right, huge_logits=[0, 0, 5]))["numeric"]
    assert (huge["fires"], huge["statistic"], huge["reason"]) == (True, 1.0, "5 tokens have a logit beyond ±10000.")


def test_an_alert_looks_only_at_what_is_measured():
    base = a_text()
    assert set(outcome(base, base, names={"entropy"})) == {"entropy_collapse", "numeric"}
    assert set(outcome(base, base, names={"perplexity"})) == {"numeric"}


def test_k_counts_what_was_measured_up_to_the_checkpoint():
    base = a_text()
    checkpoints = {step: a_text(seed=step) for step in (70, 10, 40)}
    assert [outcome(base, checkpoints, step)["over_confidence"]["k"] for step in (10, 40, 70)] == [1, 2, 3]


def test_a_bound_at_the_nominal_level_lies_above_one_that_is_spent():
    base, now = a_text(1.2), a_text(0.7, seed=1)
    drop = difference(ratio(base.entropy, base.n_tokens), ratio(now.entropy, now.n_tokens))
    low, _ = interval(drop, 0.98)
    assert outcome(base, now)["entropy_collapse"]["bound"] < low


def an_auroc(train_D, held_D):
    """P(train > held) with DeLong's influence."""
    above_NM = (train_D[:, None] > held_D[None, :]).astype(float)
    value = above_NM.mean()
    influence = [(above_NM.mean(axis=1) - value) / len(train_D), (above_NM.mean(axis=0) - value) / len(held_D)]
    return Estimate(value, np.concatenate(influence), len(train_D) + len(held_D), 0)


def test_memorisation_is_more_than_chance_and_worth_telling():
    rng = np.random.default_rng(0)
    held_D = rng.normal(size=300)
    found = {apart: more_than_chance(an_auroc(rng.normal(apart, 1, size=300), held_D), 0.01) for apart in (0.0, 0.3, 0.6, 1.5)}
    assert [test["fires"] for test in found.values()] == [False, False, True, True]
    assert found[0.0]["bound"] < 0.5 < found[0.3]["bound"] < found[0.3]["statistic"] <= 0.6
    assert "an alert needs more" in found[0.3]["reason"]
    assert (found[0.6]["reason"], found[1.5]["reason"]) == (None, "It is above 0.75, which is critical.")
    few = more_than_chance(an_auroc(rng.normal(3, 1, size=9), rng.normal(size=10)), 0.01)
    assert (few["fires"], "at least 20 documents" in few["reason"]) == (None, True)


def test_what_falls_below_a_share_of_the_base_s_is_told_when_its_upper_bound_does():
    rng = np.random.default_rng(1)
    hard_D = rng.normal(10, 2, size=60)
    base = ratio(hard_D, np.ones(60, dtype=int))

    def now(share):
        return ratio(share * hard_D + rng.normal(0, 0.5, size=60), np.ones(60, dtype=int))

    found = {share: below(now(share), base, 0.7, 0.01) for share in (1.0, 0.7, 0.698, 0.6)}
    assert [test["fires"] for test in found.values()] == [False, False, False, True]
    assert all(test["statistic"] < test["bound"] for test in found.values())
    margin = found[0.6]["bound"] - found[0.6]["statistic"]
    assert margin == pytest.approx(2.39 * 0.05 / math.sqrt(60), rel=0.3), "paired: hardness is no noise"
    same = now(0.6)
    assert below(same, base, 0.7, 0.01) == below(same, base, 0.7, 0.01), "no chance"


def test_a_share_of_nothing_is_not_tested():
    base, nothing = ratio([1.0] * 30, [1] * 30), ratio([0.0] * 30, [1] * 30)
    assert "two values above 0" in below(base, nothing, 0.7, 0.01)["reason"]
    assert "at least 20" in below(ratio([1.0] * 3, [1] * 3), ratio([1.0] * 3, [1] * 3), 0.7, 0.01)["reason"]


def found_of(**values):
    """Findings of 60 documents whose spread is a tenth. name__place is name:place."""
    spread_D = np.random.default_rng(5).normal(0, 0.1, size=60)
    ones_D = np.ones(60, dtype=int)
    return {name.replace("__", ":"): of_estimate(ratio(value * (1 + spread_D), ones_D), "mean") for name, value in values.items()}


def layers(first, second):
    return {"spectral_participation_ratio__layer_1": first, "spectral_participation_ratio__layer_2": second}


PROBED = {"membership_auroc", "compression_ratio", "spectral_participation_ratio"}


def probed(now, base, names=PROBED):
    sums = a_text()
    tests = alert_tests(sums, {1: sums}, 1, "validation", names, {None: base, 1: now})
    return {test["alert"]: test for test in tests if test["alert"] != "numeric"}


def test_what_probes_find_is_tested_against_what_they_found_of_the_base():
    base = found_of(compression_ratio=0.6, **layers(5.0, 9.0))
    well = found_of(membership_auroc=0.5, compression_ratio=0.5, **layers(5.0, 8.0))
    ill = found_of(membership_auroc=0.9, compression_ratio=0.1, **layers(5.0, 3.0))
    assert {name for name, test in probed(well, base).items() if test["fires"] is False} == {
        "memorization",
        "loops",
        "representation_collapse",
    }
    found = probed(ill, base)
    assert all(test["fires"] for test in found.values())
    assert found["loops"]["statistic"] == pytest.approx(1 / 6)
    assert found["representation_collapse"]["statistic"] == pytest.approx(1 / 3), "the layer that fell"
    assert found["loops"]["threshold"] == 0.5 > found["loops"]["bound"] > found["loops"]["statistic"]
    assert "critical" in found["memorization"]["reason"]


def test_what_was_not_found_is_not_tested_and_says_why():
    found = probed(found_of(compression_ratio=0.5), {})
    assert {name: test["fires"] for name, test in found.items()} == {
        "memorization": None,
        "loops": None,
        "representation_collapse": None,
    }
    assert all(test["reason"] for test in found.values())


def test_texts_of_fewer_prompts_than_twenty_are_no_ground_for_an_alert():
    few = {"compression_ratio": of_estimate(ratio([0.1] * 16, [1] * 16), "mean")}
    many = {"compression_ratio": of_estimate(ratio([0.6] * 16, [1] * 16), "mean")}
    assert "at least 20" in probed(few, many, {"compression_ratio"})["loops"]["reason"]


def of_members(auroc=0.5, beyond=0.0, word_for_word=0.0, guessed=0.0, n=300):
    """Shares of n training rows and n held-out ones, of which AUROC is sure to a hundredth."""
    spread = np.resize([0.01, -0.01], 2 * n) / (2 * n) ** 0.5

    def of(rate):
        return share(np.arange(n) < round(rate * n), 0, "share")

    rates = {"membership_tpr": beyond, "verbatim_rate:train": word_for_word, "verbatim_rate:held_out": guessed}
    return {"membership_auroc": of_estimate(Estimate(auroc, spread, 2 * n, 0), "x")} | {at: of(p) for at, p in rates.items()}


def remembered(base=None, **shares):
    return probed(of_members(**shares), of_members() if base is None else base, {"membership_auroc"})["memorization"]


def test_memorisation_is_told_of_the_tail_where_the_mean_does_not_show_it():
    assert remembered(beyond=0.01)["fires"] is False
    few = remembered(beyond=0.05)
    assert (few["fires"], few["statistic"]) == (False, 0.5), "what does not fire is told by the AUROC"
    many = remembered(beyond=0.15)
    assert (many["fires"], many["statistic"]) == (True, 0.15)
    alpha = alpha_spent(ALPHA, 1) / 2
    low, high = clopper_pearson(45, 300, alpha)[0], clopper_pearson(3, 300, alpha)[1]
    assert (many["bound"], many["threshold"]) == (low, high)
    assert remembered(auroc=0.9, beyond=0.15)["statistic"] == 0.9


def test_the_tail_keeps_its_alpha_though_its_score_is_that_of_the_held_out_rows():
    rng = np.random.default_rng(0)
    fired = 0
    for _ in range(2000):
        train, held_out = rng.normal(size=100), np.sort(rng.normal(size=100))
        fired += bool(more_in_the_tail(int((train > held_out[98]).sum()), 100, 100, 0.05)["fires"])
    assert fired <= 100, "5 %"


def test_one_row_word_for_word_is_too_many_until_it_is_known_to_be_seldom():
    assert remembered(word_for_word=0.0)["fires"] is False, "none of 300, though the bound is above 1 %"
    one = remembered(word_for_word=1 / 300)
    assert (one["fires"], one["threshold"], one["bound"] > 0.01) == (True, 0.01, True)
    assert remembered(word_for_word=1 / 5000, n=5000)["fires"] is False, "known to be seldom"
    assert remembered(word_for_word=0.2, guessed=0.2)["fires"] is False, "held-out rows are guessed as well"
    assert remembered(base=of_members(word_for_word=0.2), word_for_word=0.2)["fires"] is False, "the base could say them"
    assert remembered(word_for_word=1.0, n=19)["fires"] is False, "too few to tell"


def test_texts_that_no_longer_have_new_pairs_loop_however_well_they_compress():
    base = found_of(compression_ratio=0.6, word_growth=1.0)
    names = {"compression_ratio"}
    looping = found_of(compression_ratio=0.6, word_growth=0.02)
    test = probed(looping, base, names)["loops"]
    assert (test["fires"], test["statistic"], test["threshold"]) == (True, pytest.approx(0.02, rel=0.1), 0.1)
    assert test["statistic"] < test["bound"] < 0.1
    assert "word_growth" in test["reason"]
    assert probed(found_of(compression_ratio=0.6, word_growth=0.2), base, names)["loops"]["fires"] is False
    assert probed(looping, looping, names)["loops"]["fires"] is False, "so did the base"
    assert probed(found_of(compression_ratio=0.6), base, names)["loops"]["fires"] is False
