"""What `benchmarks/peer.py` makes of what the two sides told."""

import pytest

from benchmarks.peer import AGREEMENT, FIRST, LATER, UPDATES, Told, compared, medians, ratio


def told(losses, held_out=None, seconds=2.0):
    updates = [
        {"loss": loss, "tokens": 100.0 * (n + 1), "cpu_seconds": 50 + seconds * n, "wall_seconds": 9.0 * n}
        for n, loss in enumerate(losses)
    ]
    return Told(updates, held_out or {}, 0, 0)


def case(name):
    return next(case for case in AGREEMENT if case.name == name)


def test_speed_is_counted_from_the_first_update_that_is_told():
    assert told([1.0, 1.0, 1.0]).tokens_per_second("cpu_seconds") == pytest.approx(200 / 4)
    assert medians([told([1.0, 1.0], seconds=s) for s in (1.0, 2.0, 50.0)], "cpu_seconds") == pytest.approx(50)
    assert ratio(120, 100) == "120 / 100 = 1.20"


def test_before_training_losses_must_be_alike_and_after_it_near():
    ours, theirs = (told([3.0] * UPDATES, {"0": 2.0, str(UPDATES): 1.0}) for _ in range(2))
    rows = list(compared(case("sft lora"), ours, theirs))
    assert [allowed for *_, allowed in rows] == [FIRST, FIRST, LATER, LATER]
    assert all(one == other for _, one, other, _ in rows)


def test_the_peers_mean_over_all_tokens_of_a_block_becomes_that_of_the_predicted_ones():
    sum_of_block = 511 * 4.0
    rows = list(compared(case("pt full"), told([4.0] * 3), told([sum_of_block / 512] * 3)))
    assert [one for _, one, _, _ in rows] == pytest.approx([other for _, _, other, _ in rows], abs=1e-12)
    _, _, other, _ = next(compared(case("rm lora"), told([4.0] * 3), told([sum_of_block / 512] * 3)))
    assert other != pytest.approx(4.0), "of no other stage"
