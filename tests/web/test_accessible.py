"""Everything that the dashboard shows, as axe finds it: each view and all that opens in it, in both themes, on phone and desk."""

from dataclasses import dataclass

import pytest
from axe_playwright_python.sync_playwright import Axe

from service.specs.measures import REGISTRY
from service.store import leases
from tests.service.store import staffed
from tests.web import measured
from tests.web.standing import Standing, standing

pytestmark = pytest.mark.long

TABS = ("curves", "checkpoints", "data", "tokens", "events", "log", "files", "spec")


@dataclass
class House:
    """Two jobs that are over, and one that runs."""

    service: Standing
    mild: str
    strong: str
    running: str


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with standing(tmp_path_factory.mktemp("house")) as service:
        database, root = service.database, service.artifacts
        mild = measured.a_measured_job(database, root, "mild", gain=1.0)
        strong = measured.a_measured_job(database, root, "strong", gain=1.6, training={"learning_rate": 0.01})
        running, held = measured.a_running_job(database, "runs")
        measured.write_series(database, running, 120)
        measured.measure(database, held, -1, 1.0)
        measured.measure(database, held, 100, 1.0)
        staffed.enter(database, "gpu-host", gpus=2, cpus=1)
        yield House(service, mild, strong, running)
        with database.transaction() as session:
            leases.succeed(session, held)


@pytest.fixture(params=[(390, "light"), (390, "dark"), (1440, "light"), (1440, "dark")], ids=lambda of: f"{of[0]}-{of[1]}")
def page(request, browser):
    width, theme = request.param
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    page = context.new_page()
    page.set_default_timeout(60_000)
    yield page
    context.close()


def wrong(page, house, place):
    """What axe finds, moderate faults too, and what is wider than the window."""
    page.goto(f"{house.service.url}#{place}")
    page.wait_for_selector("main:not([aria-busy]) h1")
    page.wait_for_timeout(600)  # charts, and the dry run
    page.evaluate("document.querySelectorAll('main details').forEach((one) => (one.open = true))")
    page.wait_for_timeout(200)
    return faults(page, place)


def faults(page, place):
    found = {
        f"{place}: {one['id']} ({one['impact']}) ×{len(one['nodes'])}: {one['nodes'][0]['html'][:160]}"
        for one in Axe().run(page).response["violations"]
        if one["impact"] in ("moderate", "serious", "critical")
    }
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return found | ({f"{place}: {wide} px too wide"} if wide > 0 else set())


def test_a_job_that_runs_and_one_that_is_over(page, house):
    places = [f"/jobs/{job}?tab={tab}" for job in (house.mild, house.running) for tab in TABS]
    places += [
        f"/jobs/{house.mild}?tab=tokens&checkpoint=400&view=change",
        f"/jobs/{house.mild}?tab=checkpoints&rank_by=cross_entropy",
    ]
    assert set().union(*(wrong(page, house, place) for place in places)) == set()


def test_the_lists_and_comparisons(page, house):
    places = ["/", "/jobs", "/jobs?state=failed", "/workers", "/keys", "/sign-in", "/nowhere", "/jobs/job-none", "/compare"]
    places += [f"/compare?jobs={house.mild}", f"/compare?jobs={house.mild},{house.strong},{house.running}"]
    assert set().union(*(wrong(page, house, place) for place in places)) == set()


def test_the_form_whole_and_refused(page, house):
    found = wrong(page, house, "/submit") | wrong(page, house, f"/submit?from={house.mild}")
    page.locator("form #training-learning_rate").fill("-1")
    page.get_by_role("button", name="Submit", exact=True).click()
    page.get_by_role("alert").wait_for()
    found |= faults(page, "refused")
    page.get_by_role("button", name="Text").click()
    page.wait_for_timeout(1500)
    assert found | faults(page, "text") == set()


def test_the_whole_catalogue(page, house):
    places = [
        "/measures",
        "/measures?in=library",
        "/measures?in=alerts",
        *(f"/measures/{one.name}" for one in REGISTRY[:: len(REGISTRY) // 12]),
    ]
    assert set().union(*(wrong(page, house, place) for place in places)) == set()
