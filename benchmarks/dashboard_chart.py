"""From a click on a shared link to the first chart, of a job with 100,000 updates, in headless Chromium.

    python benchmarks/dashboard_chart.py [--updates 100000] [--times 9]

A new browser context for each, with nothing cached, and the job changed, so that the service renders nothing from memory: page,
modules, the job, its series thinned by the service, the chart on its canvas, and the frame after that. Beside it the series' own
request, and the chart alone of all 100,000 points in the browser's hands. Medians, with least and greatest, in milliseconds.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Browser  # noqa: E402

from service.store import events  # noqa: E402
from service.store.session import Database  # noqa: E402
from tests.web import measured  # noqa: E402
from tests.web.chromium import chromium  # noqa: E402
from tests.web.standing import standing  # noqa: E402

# The moment at which a canvas stands in a chart and a frame with it was painted.
WATCH = """
globalThis.chart = new Promise((shown) => addEventListener('DOMContentLoaded', () => {
  const look = () => {
    if (!document.querySelector('.chart canvas')) return;
    requestAnimationFrame(() => requestAnimationFrame(() => shown(performance.now())));
    observer.disconnect();
  };
  const observer = new MutationObserver(look);
  observer.observe(document.body, { childList: true, subtree: true });
}));
"""

# All points of a series drawn at once, without the service: what the chart library costs.
DRAW_ALL = """async (updates) => {
  const { lineChart } = await import('./web/charts/lines.js');
  const x = Array.from({ length: updates }, (_, index) => index + 1);
  const y = x.map((at) => 2 + Math.exp(-at / 20000) + 0.1 * Math.sin(at * 12.9898));
  const place = document.querySelector('main');
  const began = performance.now();
  const lines = [{ name: 'loss', x, y }];
  const chart = lineChart({ name: 'all', title: 'All', x: { label: 'update' }, y: { label: 'loss' }, lines });
  place.replaceChildren(chart.element);
  chart.draw();
  await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  return performance.now() - began;
}"""


ASK = """async (url) => {
  const began = performance.now();
  await (await fetch(url)).json();
  return performance.now() - began;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, standing(Path(home)) as service, chromium() as browser:
        job_id = measured.a_measured_job(service.database, service.artifacts, "long", updates=options.updates)
        url = f"{service.url}#/jobs/{job_id}"
        first_chart(browser, url)  # the service has read its files once
        shown = []
        for _ in range(options.times):
            change(service.database, job_id)
            shown.append(first_chart(browser, url))
        tell("link to first chart", shown)
        page = browser.new_page()
        page.goto(service.url)
        series = f"jobs/{job_id}/metrics/series?name=loss&points=1500"
        tell("its series, 1,500 points", [page.evaluate(ASK, series) for _ in range(options.times)])
        drawn = [page.evaluate(DRAW_ALL, options.updates) for _ in range(options.times)]
        tell(f"a chart of all {options.updates:,} points", drawn)


def change(database: Database, job_id: str) -> None:
    with database.transaction() as session:
        events.add(session, job_id, "notice", "Changed.")


def first_chart(browser: Browser, url: str) -> float:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.add_init_script(WATCH)
    page.goto(url)
    at = float(page.evaluate("globalThis.chart"))
    context.close()
    return at


def tell(what: str, milliseconds: list[float]) -> None:
    print(f"{what:36} {median(milliseconds):7.0f} ms  ({min(milliseconds):.0f} to {max(milliseconds):.0f})")


if __name__ == "__main__":
    main()
