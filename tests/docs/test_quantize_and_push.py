"""The jobs of the pages on quantizing and on pushing are accepted, and what the pages name is there."""

import dataclasses

import pytest

from service.specs.reasons import RETRYABLE, Reason
from tests.containers import ROOT
from tests.docs.test_data_and_models import examples
from tests.specs.job_documents import a_job, refusals_of
from worker.export.rate_distortion import RateDistortion


@pytest.mark.parametrize("page", ["quantize", "push"])
def test_the_job_of_the_page_is_accepted(page: str) -> None:
    (pipeline,) = examples(page)
    assert refusals_of(a_job(**pipeline)) == []


def test_the_page_on_quantizing_names_each_number_of_the_row() -> None:
    page = (ROOT / "docs" / "how-to" / "quantize.md").read_text(encoding="utf-8")
    names = [field.name for field in dataclasses.fields(RateDistortion)]
    assert [name for name in names if f"| `{name}` |" not in page] == []


def test_the_page_on_pushing_says_which_reason_is_tried_again() -> None:
    page = (ROOT / "docs" / "how-to" / "push.md").read_text(encoding="utf-8")
    for reason in (Reason.PUSH_FAILED, Reason.PUSH_REFUSED):
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{reason}`")]
        assert ("tried again" in row) == (reason in RETRYABLE)
