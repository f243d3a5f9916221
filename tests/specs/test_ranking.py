from service.specs.guards import threshold
from service.specs.nearest import no_such
from service.specs.ranking import Candidate, front, ranked


def at(step: int, value: float, apart: float | None = None, error: float | None = None) -> Candidate:
    return Candidate(step, value, None if apart is None else {"value": apart, "standard_error": error, "global_step": 30})


def steps(candidates: list[Candidate]) -> list[int]:
    return [candidate.global_step for candidate in candidates]


def test_the_earliest_within_one_standard_error_of_the_best_comes_first() -> None:
    candidates = [at(10, 2.5, 0.5, 0.1), at(20, 2.1, 0.1, 0.11), at(30, 2.0), at(40, 2.05, 0.05, 0.06), at(50, 2.3, 0.3, 0.1)]
    assert steps(ranked(candidates, "lower")) == [20, 30, 40, 50, 10]


def test_a_difference_of_more_than_its_standard_error_counts() -> None:
    assert steps(ranked([at(20, 2.1, 0.1, 0.09), at(30, 2.0)], "lower")) == [30, 20]


def test_where_more_is_better_the_highest_is_best() -> None:
    candidates = [at(10, 0.5, -0.4, 0.1), at(20, 0.85, -0.05, 0.1), at(30, 0.9)]
    assert steps(ranked(candidates, "higher")) == [20, 30, 10]


def test_what_cannot_be_paired_is_ranked_by_its_value() -> None:
    """As where the values were kept before differences to the best were, or there is one document."""
    assert steps(ranked([at(10, 3.0), at(20, 1.0), at(30, 2.0)], "lower")) == [20, 30, 10]
    assert steps(ranked([at(10, 3.0, 1.0, None), at(20, 2.0)], "lower")) == [20, 10]
    assert ranked([], "lower") == []


def test_the_front_has_what_no_other_beats_in_both() -> None:
    points = [(1.0, 0.1), (2.0, 0.5), (1.5, 0.6), (0.9, 0.1), (2.0, 0.5), (2.5, 3.0)]
    assert front(points) == [True, True, False, False, True, True]
    assert front([]) == []


def test_a_threshold_is_read_however_it_is_spaced() -> None:
    for when in ("kl_from_base on anchor > 0.5", " kl_from_base  on anchor>.5", "kl_from_base on anchor > 5e-1"):
        found = threshold(when)
        assert found is not None
        assert (found.measure, found.on_anchor, found.sign, found.number) == ("kl_from_base", True, ">", 0.5), when
    for when in ("over_fit", "kl_from_base", "kl_from_base > much", "kl_from_base >= 1", "kl_from_base on moon > 1", ""):
        assert threshold(when) is None, when


def test_a_threshold_is_passed_on_its_own_side_only() -> None:
    above, below = threshold("entropy > 1"), threshold("entropy < -1")
    assert above is not None
    assert below is not None
    assert [above.is_passed(value) for value in (0.9, 1.0, 1.1)] == [False, False, True]
    assert [below.is_passed(value) for value in (-1.1, -1.0, 0.0)] == [True, False, False]


def test_the_nearest_names_are_offered_and_all_where_none_is_near() -> None:
    assert no_such("measure", "entropi", ["entropy", "perplexity"]) == "There is no measure 'entropi'; the nearest is entropy."
    assert no_such("measure", "kl_to", ["kl_to_base", "kl_to_bas"]).endswith("the nearest are kl_to_bas, kl_to_base.")
    assert no_such("measure", "joy", ["entropy", "perplexity"]) == "There is no measure 'joy'; there are entropy, perplexity."
