"""A real browser before a real service. Whatever the page complains of, its policy's refusals among them, fails the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web import browsing
from tests.web.site import Site, served

playwright = pytest.importorskip("playwright.sync_api")


@pytest.fixture(scope="session")
def chromium() -> Iterator["playwright.Browser"]:
    if not browsing.PROGRAM:
        pytest.skip("there is no Chromium here; Debian's package is `chromium`")
    with browsing.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One for all tests of a file: what one test leaves, the next finds."""
    with served(Path(tmp_path_factory.mktemp("site"))) as running:
        yield running


@pytest.fixture
def new_site(tmp_path: Path) -> Iterator[Site]:
    """One of the test's own."""
    with served(tmp_path) as running:
        yield running


@pytest.fixture
def page(chromium: "playwright.Browser") -> Iterator["playwright.Page"]:
    """A page of a browser that knows nothing. `page.complaints` is what it has said on its console."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(20_000)
    opened = context.new_page()
    complaints = browsing.complaints(opened)
    opened.complaints = complaints
    yield opened
    context.close()
    assert complaints == []
