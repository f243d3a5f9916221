import json
import math

import numpy as np
import pytest

from worker.information.intervals import difference, interval, standard_error
from worker.probes.finding import Finding, exact, jackknife, mean


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.array([1.0, 4.0, 2.0, 9.0])
    found = jackknife(lambda kept: values[kept].mean(), 4, 40, "mean")
    assert found.estimate.value == 4.0
    assert standard_error(found.estimate) == pytest.approx(values.std(ddof=1) / 2)
    assert found.estimate.influence_D.sum() == pytest.approx(0)
    assert found.estimator == "mean; jackknife over documents"


def test_many_documents_are_left_out_in_groups_with_an_error_of_the_same_size():
    values = np.random.default_rng(0).normal(size=2000)
    found = jackknife(lambda kept: values[kept].mean(), 2000, 2000, "mean")
    assert (found.n_documents, found.estimate.n_documents) == (2000, 20)
    assert standard_error(found.estimate) == pytest.approx(values.std() / math.sqrt(2000), rel=0.5)


def test_findings_on_the_same_documents_pair():
    values, shift = np.array([1.0, 4.0, 2.0, 9.0]), np.array([0.5, 0.5, 0.5, 0.5])
    a = jackknife(lambda kept: (values + shift)[kept].mean(), 4, 4, "mean")
    b = jackknife(lambda kept: values[kept].mean(), 4, 4, "mean")
    assert interval(difference(a.estimate, b.estimate)) == pytest.approx((0.5, 0.5))


def test_what_some_documents_alone_decide_has_a_value_and_the_reason_why_no_interval():
    def of_three(kept):
        if len(kept) < 3:
            raise ValueError("too few")
        return 7.0

    found = jackknife(of_three, 3, 3, "seven")
    assert found.estimate.value == 7.0
    assert "Without some of the documents" in found.why_no_interval
    assert math.isnan(jackknife(of_three, 2, 2, "seven").estimate.value)
    assert jackknife(lambda kept: 1.0, 1, 1, "one").why_no_interval == "An interval needs at least two documents; there is 1."


def test_a_mean_leaves_out_the_documents_that_have_no_value():
    found = mean(np.array([1.0, np.nan, 3.0]), "mean", 9)
    assert (found.estimate.value, found.n_documents) == (2.0, 2)
    assert found.estimate.influence_D.tolist() == [-0.5, 0.0, 0.5]
    assert mean(np.array([np.nan]), "mean", 0).why_no_interval == "No document has a value."


@pytest.mark.parametrize(
    "found",
    [
        mean(np.array([1.0, 2.0]), "mean", 3),
        exact(2.5, "Nothing was sampled.", "known"),
        exact(math.nan, "It has none.", "none"),
    ],
)
def test_a_finding_survives_json(found):
    again = Finding.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)))
    assert again.to_json() == found.to_json()
    assert again.why_no_interval == found.why_no_interval
