"""What the dashboard weighs, and how soon it shows something: `python benchmarks/dashboard.py`, with a Chromium on this machine.

A service on SQLite with 1,000 jobs, read over loopback by a browser that has nothing yet (`first`), and by the same one again
(`again`, which asks of each file whether it changed). Times are medians of five, in milliseconds from the navigation: the first
paint, and the moment at which the view has what it is for.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from playwright.sync_api import Browser, Page

from service.specs.read import read_job
from service.store import jobs
from tests.specs.job_documents import a_job
from tests.web.chromium import chromium, executable
from tests.web.standing import Standing, standing

VIEWS = {"/": ".glance", "/jobs": "tbody tr", "/submit": "#training-learning_rate", "/workers": "main h1"}

# What was loaded, and when something was to be seen.
LOOK = """() => {
    const [page] = performance.getEntriesByType("navigation");
    const files = performance.getEntriesByType("resource").filter((file) => file.name.includes("/web/"));
    const paint = performance.getEntriesByName("first-contentful-paint")[0];
    const sum = (key) => [page, ...files].reduce((total, file) => total + file[key], 0);
    return { n: files.length + 1, raw: sum("decodedBodySize"), sent: sum("transferSize"), paint: paint.startTime };
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    if executable() is None:
        print("There is no Chromium here.")
        return
    with tempfile.TemporaryDirectory() as home, standing(Path(home)) as service, chromium() as browser:
        _fill(service, options.jobs)
        print(f"{options.jobs} jobs; median of {options.times}")
        print(f"{'view':<9} {'':<6} {'files':>5} {'kB':>7} {'kB sent':>8} {'paint ms':>9} {'there ms':>9}")
        for view in VIEWS:
            runs = [_visits(browser, service, view) for _ in range(options.times)]
            for which, name in enumerate(("first", "again")):
                print(f"{view:<9} {name:<6} {_line([run[which] for run in runs])}", flush=True)


def _visits(browser: Browser, service: Standing, view: str) -> list[dict[str, Any]]:
    """The first of a browser that has nothing, and a second."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    found = []
    for _ in range(2):
        page = context.new_page()
        found.append(_visit(page, service, view))
        page.close()
    context.close()
    return found


def _visit(page: Page, service: Standing, view: str) -> dict[str, Any]:
    page.goto(f"{service.url}#{view}", wait_until="commit")
    page.locator(VIEWS[view]).first.wait_for()
    there = page.evaluate("performance.now()")
    page.wait_for_load_state("networkidle") if view == "/submit" else page.wait_for_timeout(300)
    return {**page.evaluate(LOOK), "there": there}


def _fill(service: Standing, n_jobs: int) -> None:
    with service.database.transaction() as session:
        for number in range(n_jobs):
            document = a_job(name=f"job {number}", labels={"run": str(number % 10)})
            jobs.create(session, "local", document, read_job(document))


def _line(runs: list[dict[str, Any]]) -> str:
    middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    weights = f"{middle['n']:>5.0f} {middle['raw'] / 1000:>7.1f} {middle['sent'] / 1000:>8.1f}"
    return f"{weights} {middle['paint']:>9.0f} {middle['there']:>9.0f}"


if __name__ == "__main__":
    main()
