import json
import math
from dataclasses import replace

import pytest

from service.specs.measures import OF_PAIRS
from worker.probes.report import best_checkpoint, chosen_checkpoint, leading_checkpoints, report
from worker.probes.token import DocumentSums


def sums(nll, n_tokens=(10, 10, 20), kl=0.0, entropy=None):
    """Three documents of 10, 10 and 20 tokens, two bytes a token, unless said otherwise."""
    kl_D = None if kl is None else [kl * n for n in n_tokens]
    return DocumentSums(list(n_tokens), [2 * n for n in n_tokens], list(nll), list(entropy or nll), kl_D, kl_D)


def coin(bits_per_token=1.0, **options):
    return sums([bits_per_token * n for n in (10, 10, 20)], **options)


def row_of(rows, step, measure):
    (row,) = [row for row in rows if (row["global_step"], row["measure"]) == (step, measure)]
    return row


def test_a_fair_coin_is_one_bit_a_token_a_half_a_byte_and_perplexity_two():
    rows = report({}, coin())
    values = {row["measure"]: (row["value"], row["unit"]) for row in rows}
    assert values == {
        "cross_entropy": (1.0, "bits/token"),
        "perplexity": (2.0, "1"),
        "bits_per_byte": (0.5, "bits/byte"),
        "byte_perplexity": (pytest.approx(math.sqrt(2)), "1"),
        "entropy": (1.0, "bits/token"),
        "kl_from_base": (0.0, "bits/token"),
        "kl_to_base": (0.0, "bits/token"),
        "gibbs_entropy": (pytest.approx(math.log(2)), "nats"),
        "calibration_gap": (0.0, "bits/token"),
        "arithmetic_code_bits": (pytest.approx((11 + 11 + 21) / 3), "bits"),
    }
    assert all(row["global_step"] is None and row["versus_base"] is None and row["versus_best"] is None for row in rows)


def test_documents_that_agree_leave_no_uncertainty():
    row = row_of(report({}, coin()), None, "perplexity")
    assert row["standard_error"] == 0.0
    assert row["interval"] == [2.0, 2.0]


def test_a_row_by_hand():
    # two documents of 2 tokens, 1 and 3 bits: mean 1, SE ½, t(1 df) = 12.7062; perplexity 2, SE ln2 · 2 · ½
    base = sums([1.0, 3.0], n_tokens=(2, 2))
    rows = report({}, base)
    assert row_of(rows, None, "cross_entropy") == {
        "global_step": None,
        "measure": "cross_entropy",
        "value": 1.0,
        "unit": "bits/token",
        "standard_error": 0.5,
        "interval": pytest.approx([1 - 6.3531024, 1 + 6.3531024]),
        "interval_reason": None,
        "n_documents": 2,
        "n_tokens": 4,
        "estimator": "ratio of sums over documents; Student t, clustered by document",
        "versus_base": None,
        "versus_best": None,
        "versus_leader": None,
    }
    assert row_of(rows, None, "perplexity")["standard_error"] == pytest.approx(0.6931472)
    assert row_of(rows, None, "bits_per_byte")["n_tokens"] == 4


def test_a_corpus_weighs_tokens_not_documents():
    # (5 + 5 + 40) bits over 40 tokens, not the mean ⅔(½) + ⅓(2) = 1 of the documents
    assert row_of(report({}, sums([5, 5, 40])), None, "cross_entropy")["value"] == 1.25


def test_the_difference_to_the_base_is_paired():
    # every document loses exactly ½ bit a token, however hard it is: −½ with no uncertainty, while the values have much
    base, checkpoint = sums([10, 40, 60]), sums([5, 35, 50])
    row = row_of(report({100: checkpoint}, base), 100, "cross_entropy")
    assert row["standard_error"] > 0.3
    assert row["versus_base"] == {
        "value": pytest.approx(-0.5),
        "standard_error": pytest.approx(0, abs=1e-12),
        "interval": pytest.approx([-0.5, -0.5]),
    }
    assert row["versus_best"] is None


def test_the_best_is_the_checkpoint_of_lowest_cross_entropy_and_not_the_base():
    checkpoints = {300: coin(1.5), 100: coin(2.0), 200: coin(1.25)}
    rows = report(checkpoints, coin(1.0))
    assert best_checkpoint(checkpoints) == 200
    steps = [row["global_step"] for row in rows if row["measure"] == "cross_entropy"]
    assert steps == list(dict.fromkeys(row["global_step"] for row in rows)) == [None, 100, 200, 300]
    for step, more in ((None, -0.25), (100, 0.75), (300, 0.25)):
        versus = row_of(rows, step, "cross_entropy")["versus_best"]
        assert (versus["global_step"], versus["value"]) == (200, pytest.approx(more))
    assert all(row["versus_best"] is None for row in rows if row["global_step"] == 200)
    assert row_of(rows, 300, "perplexity")["versus_best"]["value"] == pytest.approx(2**1.5 - 2**1.25)


def test_of_a_reward_model_the_best_is_the_one_that_knows_the_preferences_best():
    def checkpoint(language, pairs):
        return replace(coin(language), pair_nll=[pairs] * 3, pairs_won=[1] * 3, chosen_score=[0.0] * 3, rejected_score=[0.0] * 3)

    assert best_checkpoint({10: checkpoint(1.0, 0.9), 20: checkpoint(2.0, 0.4)}) == 20
    rows = report({10: checkpoint(1.0, 0.9), 20: checkpoint(2.0, 0.4)}, checkpoint(1.0, 1.0))
    versus = row_of(rows, 10, "preference_cross_entropy")["versus_best"]
    assert (versus["global_step"], versus["value"]) == (20, pytest.approx(0.5))


def test_of_equals_the_earliest_is_best():
    assert best_checkpoint({20: coin(), 10: coin()}) == 10
    assert best_checkpoint({}) is None


def test_best_is_by_cross_entropy_for_every_measure():
    checkpoints = {1: coin(1.0, kl=0.5, entropy=[9, 9, 9]), 2: coin(2.0, kl=0.1, entropy=[1, 1, 1])}
    rows = report(checkpoints, coin())
    assert row_of(rows, 2, "entropy")["versus_best"]["global_step"] == 1
    assert row_of(rows, 2, "kl_to_base")["versus_best"]["value"] == pytest.approx(-0.4)


def test_a_divergence_is_not_compared_with_the_base():
    row = row_of(report({1: coin(kl=0.25)}, coin()), 1, "kl_from_base")
    assert row["value"] == 0.25
    assert row["versus_base"] is None


def test_a_divergence_that_could_not_be_had_has_no_row():
    rows = report({1: coin(kl=None), 2: coin(1.5, kl=0.25)}, coin())
    assert [row["measure"] for row in rows if row["global_step"] == 1] == [
        "cross_entropy",
        "perplexity",
        "bits_per_byte",
        "byte_perplexity",
        "entropy",
        "gibbs_entropy",
        "calibration_gap",
        "arithmetic_code_bits",
    ]
    assert row_of(rows, 2, "kl_from_base")["versus_best"] is None


def test_one_document_has_values_and_the_reason_why_no_interval():
    one = sums([8.0], n_tokens=(4,))
    row = row_of(report({1: one}, one), 1, "cross_entropy")
    assert row["value"] == 2.0
    assert row["standard_error"] is row["interval"] is None
    assert row["interval_reason"] == "An interval needs at least two documents; there is 1."
    assert row["versus_base"] == {"value": 0.0, "standard_error": None, "interval": None}


def test_other_documents_are_refused():
    with pytest.raises(ValueError, match="paired"):
        report({1: sums([1, 2], n_tokens=(3, 3))}, coin())


def test_a_checkpoint_that_diverged_is_told_and_is_never_best():
    checkpoints = {1: sums([float("nan")] * 3, kl=float("nan")), 2: coin(1.5), 3: coin(5000.0)}
    rows = report(checkpoints, coin())
    assert best_checkpoint(checkpoints) == 2
    assert row_of(rows, 2, "cross_entropy")["versus_best"] is None
    for row in (row_of(rows, 1, "cross_entropy"), row_of(rows, 3, "perplexity")):
        assert row["value"] is row["interval"] is row["versus_best"]["value"] is None
        assert row["interval_reason"].startswith("The value is not a finite number")
    json.dumps(rows, allow_nan=False)


def calibrated(nll, entropy, varentropy):
    """Two documents of one token each, all alike."""
    twice = [float(nll)] * 2
    sums = DocumentSums([1, 1], [1, 1], twice, [float(entropy)] * 2, varentropy=[float(varentropy)] * 2)
    return row_of(report({}, sums), None, "calibrated_temperature")


def test_a_temperature_is_one_newton_step_with_its_bound():
    # Δβ = (H − NLL) ln 2 / (V ln² 2) = −1 / (4 ln 2): T = 1/(1 − .3607)
    row = calibrated(3, 2, 4)
    assert row["value"] == pytest.approx(1 / (1 - 1 / (4 * math.log(2))))
    assert row["estimator"].endswith(f"Cramér–Rao bound {1 / math.sqrt(2 * 4 * math.log(2) ** 2):.3g} of 1/T")
    assert calibrated(2, 2, 4)["value"] == 1.0


def test_a_model_too_sure_for_a_step_has_no_temperature_and_has_not_diverged():
    row = calibrated(9, 1, 1)
    assert row["value"] is row["interval"] is None
    assert row["interval_reason"].startswith("One Newton step leads to no temperature")


def test_rows_are_json():
    rows = report({1: coin(1.5, kl=0.2), 2: coin(1.25, kl=0.3)}, coin())
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_each_measure_has_a_leader_of_its_own():
    checkpoints = {1: coin(2.0, kl=0.1), 2: coin(1.0, kl=0.5), 3: coin(1.5, kl=0.3)}
    rows = report(checkpoints, coin(3.0))
    leaders = leading_checkpoints(checkpoints)
    assert {name: leaders.get(name) for name in ("cross_entropy", "bits_per_byte", "kl_from_base", "entropy")} == {
        "cross_entropy": 2,
        "bits_per_byte": 2,
        "kl_from_base": 1,
        "entropy": None,
    }, "neither more nor less entropy is better"
    drift = row_of(rows, 3, "kl_from_base")
    assert drift["versus_leader"]["global_step"] == 1
    assert drift["versus_leader"]["value"] == pytest.approx(0.2)
    assert drift["versus_best"]["global_step"] == 2
    assert row_of(rows, 1, "kl_from_base")["versus_leader"] is None, "it is the leader"
    assert row_of(rows, None, "kl_from_base")["versus_leader"] is None, "the base is no checkpoint"
    assert row_of(rows, 2, "entropy")["versus_leader"] is None


def test_a_checkpoint_that_diverged_leads_in_nothing():
    broken = coin(math.nan, kl=math.nan)
    assert leading_checkpoints({1: broken, 2: coin(1.0, kl=0.5)})["kl_from_base"] == 2
    assert leading_checkpoints({1: broken}) == {}


def test_the_chosen_checkpoint_is_the_earliest_that_cannot_be_told_from_the_best():
    best, near, far = sums([10, 20, 30]), sums([11, 19, 31]), sums([14, 24, 36])  # of 10, 10 and 20 tokens
    assert best_checkpoint({1: far, 2: near, 3: best}) == 3
    assert chosen_checkpoint({1: far, 2: near, 3: best}) == 2
    assert chosen_checkpoint({1: far, 3: best}) == 3
    assert chosen_checkpoint({1: coin(math.nan)}) is None


def test_pairs_are_told_in_bits_a_pair_and_in_the_scores_own_nats():
    # margins ln 3 and -ln 3: 2 - lg 3 and 2 bits
    pairs = {"pair_nll": [2 - math.log2(3), 2.0], "pairs_won": [1, 0]}
    scores = {"chosen_score": [math.log(3), 1.0], "rejected_score": [0.0, 1 + math.log(3)]}
    rows = report({}, replace(sums([1.0, 3.0], n_tokens=(2, 2)), **pairs, **scores))
    values = {
        row["measure"]: (pytest.approx(row["value"]), row["unit"], row["n_documents"])
        for row in rows
        if row["measure"] in OF_PAIRS
    }
    assert values == {
        "preference_cross_entropy": (2 - math.log2(3) / 2, "bits/pair", 2),
        "reward_accuracy": (0.5, "1", 2),
        "reward_margin": (0.0, "nats", 2),
        "chosen_reward": ((math.log(3) + 1) / 2, "nats", 2),
        "rejected_reward": ((math.log(3) + 1) / 2, "nats", 2),
    }
    # two pairs, one won: SE 1/2, t(1 df) = 12.7062
    assert row_of(rows, None, "reward_accuracy")["interval"] == pytest.approx([0.5 - 6.3531, 0.5 + 6.3531], abs=1e-4)


def test_sums_of_pairs_come_back_from_the_store_and_older_ones_have_none():
    kept = replace(coin(), pair_nll=[1.0, 2.0, math.inf], pairs_won=[1, 0, 0], chosen_score=[1.0] * 3, rejected_score=[0.0] * 3)
    back = DocumentSums.from_json(json.loads(json.dumps(kept.to_json())))
    assert back.pair_nll[:2] == [1.0, 2.0]
    assert math.isnan(back.pair_nll[2])
    assert (back.pairs_won, back.chosen_score) == ([1, 0, 0], [1.0] * 3)
    older = {name: values for name, values in coin().to_json().items() if name in ("n_tokens", "n_bytes", "nll", "entropy")}
    assert DocumentSums.from_json(older).pair_nll is None
