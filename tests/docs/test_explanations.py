"""What the explanations calculate, calculated again from the tables that stand on the pages."""

import math
import re
from collections.abc import Sequence

import numpy as np
import pytest

from service.specs.paired import difference as paired
from service.store.events import Kind
from tests.docs.blocks import pages
from worker.information import directed, generalized, intervals, processes, shannon
from worker.information.significance import alpha_spent
from worker.settings import WorkerSettings


def text(name: str) -> str:
    return " ".join(pages()[f"docs/explanation/{name}.md"].split())


def rows(name: str, first: str) -> list[list[str]]:
    """The cells of the table whose head begins with this cell."""
    table = pages()[f"docs/explanation/{name}.md"].split(f"\n| {first} |")[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in table.splitlines()[2:]]


def number(cell: str) -> float:
    """1/8, −20 and +0.25 are numbers, too."""
    top, _, bottom = cell.replace("−", "-").partition("/")
    return float(top) / float(bottom or 1)


def test_the_text_of_why_bits_is_as_long_as_it_says() -> None:
    *tokens, total = rows("why-bits", "token | base | bits")
    for _, base, bits, checkpoint, fewer in tokens:
        assert (-math.log2(number(base)), -math.log2(number(checkpoint))) == (number(bits), number(fewer))
    assert [sum(number(row[n]) for row in tokens) for n in (2, 4)] == [number(total[2]), number(total[4])] == [9, 6]
    assert all(words in text("why-bits") for words in ("2.25 a token", "1.5 a token", "0.75 bits a token"))


def test_the_drift_of_why_bits_is_what_it_says() -> None:
    places = rows("why-bits", "token | base $p$")
    p, q = ([number(row[n]) for row in places] for n in (1, 2))
    assert shannon.relative_entropy(q, p) == pytest.approx(sum(number(row[3]) for row in places)) == 0.5
    assert shannon.entropy(p) == pytest.approx(shannon.entropy(q)) == pytest.approx(1.75)


def test_the_other_figures_of_why_bits() -> None:
    page = text("why-bits")
    assert f"is {math.log2(4.5 / 4):.2f} bits, from 1.5 to 1.0 is {math.log2(1.5):.2f}" in page
    assert f"That is {7 / 8:g} bits a token" in page
    assert f"{7 / 20:g} bits a byte beside {6 / 20:g}" in page


def columns() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    *documents, _ = rows("intervals", "document")
    tokens, base, checkpoint = (np.array([number(row[n]) for row in documents]) for n in (1, 2, 3))
    return tokens, base, checkpoint


def test_the_table_of_intervals_is_what_the_formulas_give() -> None:
    n_D, base_D, checkpoint_D = columns()
    *documents, total = rows("intervals", "document")
    base, checkpoint = (intervals.ratio(sums_D, n_D) for sums_D in (base_D, checkpoint_D))
    both = (base, checkpoint, intervals.difference(checkpoint, base))
    for place, estimate in enumerate(both, 4):
        assert [number(row[place]) for row in documents] == pytest.approx(list(estimate.influence_D * n_D.sum()))
        assert number(total[place]) == 0
    for row, estimate in zip(rows("intervals", "| value"), both, strict=True):
        _told(row, estimate)
    assert f"{np.square(base.influence_D).sum():.5f}" in text("intervals")


def _told(row: Sequence[str], estimate: intervals.Estimate) -> None:
    error, between = intervals.standard_error(estimate), intervals.interval(estimate)
    assert error is not None
    assert between is not None
    low, _, high = row[-1].partition(" to ")
    assert [number(cell) for cell in (row[-3], row[-2], low, high)] == pytest.approx([estimate.value, error, *between], abs=6e-3)


def test_what_the_page_on_intervals_says_of_its_figures() -> None:
    n_D, base_D, checkpoint_D = columns()
    base, checkpoint = (intervals.ratio(sums_D, n_D) for sums_D in (base_D, checkpoint_D))
    page = text("intervals")
    at_once = math.hypot(*(intervals.standard_error(one) or math.nan for one in (base, checkpoint)))
    by_the_service = paired(list(checkpoint_D), list(base_D), [int(n) for n in n_D])
    assert f"= {at_once:.3f}$" in page
    assert at_once / (by_the_service.standard_error or math.nan) == pytest.approx(5, abs=0.5)
    assert (by_the_service.interval or (0, 0))[1] < 0 < by_the_service.value + 2.776 * at_once
    perplexity = intervals.transform(checkpoint, lambda m: 2**m, lambda m: 2**m * math.log(2))
    assert f"{perplexity.value:.1f} ± {intervals.standard_error(perplexity):.1f}" in page
    spent = [100 * alpha_spent(0.01, k) for k in (1, 2, 10)]
    assert f"{spent[0]:.2f} % at the first, {spent[1]:.2f} % at the second, {spent[2]:.3f} % at the tenth" in page


def test_the_figures_of_the_notebook_are_those_of_the_definitions() -> None:
    page, four, errs = text("the-notebook"), [0.25] * 4, [[0.45, 0.05], [0.05, 0.45]]
    assert generalized.tsallis_entropy(four, 2) == pytest.approx(0.75)
    assert 1 / (1 - 2) * sum(p**2 for p in four) == -0.25
    assert f"$\\ln 4 = {math.log(4):.3f}$ nats; they get {-sum(p / math.log(p) for p in four):.3f}" in page
    assert f"= {-math.log2(2 * (0.9**2 + 0.1**2)):.3f}$ bits" in page
    assert f"has {generalized.conditional_renyi_entropy(errs, 2):.3f} bits" in page
    assert generalized.sibson_mutual_information([[0.25, 0.25], [0.25, 0.25]], 2) == pytest.approx(0, abs=1e-12)
    assert generalized.renyi_entropy(four, 2) == pytest.approx(2)
    assert f"= {math.log(2, 3):.4f}$ whatever" in page
    assert f"= {shannon.entropy([0.2, 0.8]) / math.log2(3):.4f}$" in page
    assert f"{shannon.mutual_information(errs):.3f} bits a use" in page
    assert f"has {shannon.entropy([0.25, 0.75]):.3f} bits" in page
    assert f"its rate is {processes.markov_entropy_rate([[0.7, 0.3], [0.1, 0.9]]):.3f}" in page
    copy = np.zeros((2, 2, 2, 2))  # of fair coins: [x before, x now, y before, y now]
    for before, now in np.ndindex(2, 2):
        copy[before, now, before, now] = 0.25
    assert directed.directed_information_rate(copy) == pytest.approx(1)
    assert directed.transfer_entropy(copy) == pytest.approx(0)


def test_the_events_of_a_life_are_events_and_begin_and_end_as_jobs_do() -> None:
    told = [row for row in rows("life-of-a-job", "| event") if row[0]]
    assert [int(row[0]) for row in told] == list(range(1, len(told) + 1))
    kinds = [Kind(kind) for row in told for kind in re.findall(r"`(\w+)`", row[1])]
    assert kinds[0] is Kind.SUBMITTED
    assert kinds[-1] is Kind.SUCCEEDED
    attempts = [int(row[2]) for row in told]
    assert attempts == sorted(attempts)


def test_the_page_on_the_broker_has_the_settings_there_are() -> None:
    fields = WorkerSettings.model_fields
    sweep, lease, heartbeat = (fields[f"{name}_seconds"].default for name in ("sweep", "lease", "heartbeat"))
    page = text("the-broker")
    assert f"`FINEBITS_SWEEP_SECONDS` ({sweep:g})" in page
    assert set(re.findall(r"(\d+) s at most|(\d+) s later at most", page)) == {(f"{4 * sweep:g}", ""), ("", f"{4 * sweep:g}")}
    assert f"within four sweeps, {4 * sweep:g} s" in text("survival")
    assert lease == 60
    assert f"every {heartbeat:g} s" in page
