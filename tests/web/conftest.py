"""One browser for all tests of the dashboard, a page that may complain of nothing, and the service that it looks at."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.web.chromium import Complaints, chromium, executable
from tests.web.standing import Standing, standing

PATIENCE_MS = 60_000  # with a browser on a busy machine
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of one file: while it is open, nothing else in the process can run an event loop."""
    if executable() is None:
        pytest.skip("there is no Chromium here")
    with chromium() as started:
        yield started


@pytest.fixture
def complaints() -> list[str]:
    """What the page said was wrong. A test that had it complain empties this."""
    return []


@pytest.fixture
def page(browser: Browser, complaints: list[str]) -> Iterator[Page]:
    context = browser.new_context(accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    Complaints(page, complaints)
    yield page
    context.close()
    assert complaints == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """One for all tests of a file: what one test leaves, the next finds."""
    with standing(Path(tmp_path_factory.mktemp("site"))) as service:
        yield service


@pytest.fixture
def new_site(tmp_path: Path) -> Iterator[Standing]:
    """One of the test's own."""
    with standing(tmp_path) as service:
        yield service
