import numpy as np
import pytest
from scipy import stats

from service.specs.paired import RATIOS, difference, student_975
from worker.information import intervals
from worker.probes.report import MEASURES
from worker.probes.token import DocumentSums


def test_it_is_the_difference_that_a_worker_makes_of_the_same_sums():
    random = np.random.default_rng(3)
    counts = random.integers(0, 30, 40)
    sums, others = counts * random.normal(4, 1, 40), counts * random.normal(3.5, 1, 40)
    expected = intervals.difference(intervals.ratio(sums, counts), intervals.ratio(others, counts))
    made = difference(sums.tolist(), others.tolist(), counts.tolist())
    assert made.value == pytest.approx(expected.value)
    assert made.standard_error == pytest.approx(intervals.standard_error(expected))
    assert made.interval == pytest.approx(intervals.interval(expected), abs=1e-4)
    assert made.n_documents == expected.n_documents


def test_one_document_has_a_difference_and_no_interval():
    made = difference([6.0, 0.0], [4.0, 0.0], [2, 0])
    assert (made.value, made.standard_error, made.interval, made.n_documents) == (1.0, None, None, 1)


def test_nothing_counted_has_no_difference():
    with pytest.raises(ValueError, match="no document counts anything"):
        difference([0.0], [0.0], [0])


def test_students_quantile_is_known_to_a_thousandth():
    assert max(abs(student_975(n) - stats.t.ppf(0.975, n)) for n in range(1, 500)) < 1e-3


def test_each_measure_is_made_of_sums_that_are_kept_and_is_the_workers_own():
    sums = DocumentSums(n_tokens=[2, 3], n_bytes=[5, 7], nll=[1.0, 2.0], entropy=[3.0, 1.0], kl_from_base=[0.5, 0.25])
    kept = sums.to_json()
    for name, (total, counted, unit) in RATIOS.items():
        assert {total, counted} <= kept.keys()
        of, worker_unit = MEASURES[name]
        assert worker_unit == unit
        if kept[total]:
            assert of(sums).value == pytest.approx(sum(kept[total]) / sum(kept[counted]))
