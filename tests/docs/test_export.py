"""The jobs of the page on exporting are accepted, and what it says of the folder is so."""

from service.specs.export import ExportArguments
from tests.containers import ROOT
from tests.docs.test_data_and_models import examples
from tests.specs.job_documents import a_job, refusals_of

PAGE = ROOT / "docs" / "how-to" / "export.md"


def test_the_jobs_of_the_page_are_accepted() -> None:
    pipeline, checkpoint, folder = examples("export")
    assert refusals_of(a_job(**pipeline)) == []
    assert refusals_of(checkpoint) == []
    assert refusals_of(folder) == []


def test_the_page_has_the_limits_that_are_allowed() -> None:
    allowed, page = ExportArguments(), PAGE.read_text(encoding="utf-8")
    for name in ("certificate_mean_kl", "certificate_max_kl"):
        assert f"`export.{name}` ({getattr(allowed, name):g})" in page
