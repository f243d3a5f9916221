"""The documentation as it is built: without a warning, with every formula typeset, and with nothing from other hosts.

Sphinx warns of a link within that leads nowhere, of a page that no list has, and of a picture that is missing; `-W` makes each an
error. What leads to other hosts is looked up by `make links`, where there is a network.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.containers import ROOT
from tests.web.chromium import Complaints, chromium, executable

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-d",
        str(folder / "trees"),
        "docs",
        str(folder / "html"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder / "html"


def test_every_page_is_built(built: Path) -> None:
    sources = {
        path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts
    }
    assert sources == {path.relative_to(built).with_suffix("") for path in built.rglob("*.html")} - {
        Path("genindex"),
        Path("search"),
    }


@pytest.mark.skipif(executable() is None, reason="no Chromium is installed")
def test_formulas_are_typeset_and_nothing_comes_from_elsewhere(built: Path) -> None:
    with chromium() as browser:
        page = browser.new_page()
        complaints, asked = Complaints(page), list[str]()
        page.on("request", lambda request: asked.append(request.url))
        formulas = 0
        for file in sorted(built.rglob("*.html")):
            page.goto(file.as_uri())
            assert (
                page.evaluate("() => [...document.querySelectorAll('.math')].filter((one) => !one.querySelector('math'))") == []
            )
            assert page.locator(".temml-error").count() == 0
            formulas += page.locator("math").count()
        assert formulas > 200
        assert complaints.said == []
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
