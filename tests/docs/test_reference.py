"""The reference pages that are written when the documentation is built have all that there is."""

from docs import reference_pages
from service.specs.ledger import LEDGER
from service.specs.reasons import RETRYABLE, Reason


def test_every_argument_has_its_fate() -> None:
    rows = [line for line in "\n".join(reference_pages.arguments()).splitlines() if line.startswith("| `")]
    assert len(rows) == len(LEDGER)
    assert all(any(f"| {fate}" in row for fate in reference_pages.FATES.values()) for row in rows)


def test_every_reason_is_told_with_whether_it_is_tried_again() -> None:
    rows = [line.strip("| ").split(" | ") for line in reference_pages.reasons() if line.startswith("| `")]
    assert [row[0] for row in rows] == [f"`{reason}`" for reason in Reason]
    assert {row[0].strip("`") for row in rows if row[-1] == "yes"} == {str(reason) for reason in RETRYABLE}
    assert min(len(row[1]) for row in rows) > 15


def test_every_address_is_told() -> None:
    page = "\n".join(reference_pages.http())
    for address in ("`GET` | `/jobs/{job_id}`", "`POST` | `/v1/fine_tuning/jobs`", "`GET` | `/datasets/{name}/rows`"):
        assert address in page
