"""The dashboard's frame and forms in a real browser: signing in, the list, the form, and a connection that breaks."""

import re

import pytest
from playwright.sync_api import expect

from service.specs.scopes import Scope
from service.store import events, jobs, leases, wishes
from tests.service.api import made
from tests.service.store import staffed
from tests.web.chromium import inaccessible
from tests.web.wire import Wire


def test_a_key_signs_in_and_leads_to_where_one_was_going(page, new_site):
    key = new_site.a_key("ann")
    new_site.submit("ann", name="hers")
    page.goto(f"{new_site.url}#/jobs?state=queued")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_label("Key").fill(key[:-1] + ("a" if key[-1] != "a" else "b"))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("This is not a key of the service.")
    assert inaccessible(page) == []
    page.get_by_label("Key").fill(key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="hers")).to_be_visible()
    assert page.url.endswith("#/jobs?state=queued")
    assert page.evaluate("document.cookie") == ""
    assert page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})") == "{}"
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto(f"{new_site.url}#/jobs")
    expect(page.get_by_label("Key")).to_be_visible()


def test_a_job_goes_from_the_form_to_its_page_and_a_refusal_stands_at_its_field(page, site):
    page.goto(f"{site.url}#/submit")
    _field(page, "model-model_name_or_path").fill("tinny")
    _field(page, "data-dataset").fill("letters")
    _field(page, "data-template").fill("chatml")
    _field(page, "training-learning_rate").fill("-1")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("#training-learning_rate-wrong")).to_contain_text("greater than 0")
    expect(_field(page, "training-learning_rate")).to_be_focused()
    _field(page, "training-learning_rate").fill("1e-4")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("#model-model_name_or_path-wrong")).to_contain_text("tinny")
    _field(page, "model-model_name_or_path").fill("tiny")
    plan = page.get_by_label("Dry run")
    expect(plan).to_contain_text("10")
    expect(plan).to_contain_text("420")
    assert inaccessible(page) == []
    _field(page, "name").fill("from the form")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", name="from the form")).to_be_visible()
    job_id = page.url.rsplit("/", 1)[1]
    assert _document(site, job_id) == {
        "name": "from the form",
        "model": {"model_name_or_path": "tiny"},
        "data": {"dataset": ["letters"], "template": "chatml"},
        "training": {"learning_rate": 0.0001},
    }
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".state")).to_have_text("cancelled")
    assert _state(site, job_id) == "cancelled"


def _field(page, name):
    return page.locator(f"form #{name}")


def _document(site, job_id):
    with site.database.reading() as session:
        return jobs.get(session, "local", job_id).document


def _state(site, job_id):
    with site.database.reading() as session:
        return jobs.get(session, "local", job_id).state


def test_a_job_is_written_as_text_too_and_its_refusals_are_listed(page, site):
    page.goto(f"{site.url}#/submit")
    page.get_by_role("button", name="Text").click()
    page.get_by_label("The job as JSON or YAML").fill(
        "name: from yaml\nmodel: {model_name_or_path: tiny}\ndata: {dataset: leters}\n"
    )
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("alert")).to_contain_text("/data/dataset")
    page.get_by_label("The job as JSON or YAML").fill(
        "name: from yaml\nmodel: {model_name_or_path: tiny}\ndata: {dataset: letters, template: chatml}\n"
    )
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", name="from yaml")).to_be_visible()


def test_the_list_is_filtered_by_its_address_and_goes_on_page_by_page(page, new_site):
    for number in range(60):
        new_site.submit(name=f"tune {number}", labels={"team": "a" if number % 2 else "b"})
    page.goto(f"{new_site.url}#/jobs")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(50)
    page.get_by_role("button", name="50 more").click()
    expect(rows).to_have_count(60)
    page.get_by_label("Name").fill("TUNE 5")
    expect(rows).to_have_count(11)  # 5, and 50 to 59
    page.get_by_label("Compare tune 51").check()
    page.get_by_label("Compare tune 53").check()
    expect(page.get_by_role("button", name="Compare 2")).to_be_visible()
    page.get_by_label("Labels").fill("team:a")
    expect(rows).to_have_count(6)
    assert page.url.endswith("#/jobs?name=TUNE+5&label=team%3Aa")
    page.get_by_label("State").select_option("failed")
    expect(page.get_by_text("No job is like that.")).to_be_visible()
    page.reload()
    expect(page.get_by_label("State")).to_have_value("failed")
    expect(page.get_by_label("Name")).to_have_value("TUNE 5")


def test_the_overview_tells_what_happens_while_it_is_looked_at(page, new_site):
    staffed.enter(new_site.database, "gpu-host", gpus=2, cpus=0)
    page.clock.install()
    page.goto(new_site.url)
    waiting = page.locator(".glance > div", has_text="Waiting").locator("dd")
    expect(waiting).to_have_text("0")
    expect(page.locator(".slot")).to_have_count(2)
    assert inaccessible(page) == []
    job_id = new_site.submit(name="<b>bold</b>")
    page.clock.fast_forward(3000)
    expect(waiting).to_contain_text("1")
    expect(page.get_by_role("link", name="<b>bold</b>")).to_be_visible()
    with new_site.database.transaction() as session:
        wishes.cancel(session, "local", job_id)
    page.clock.fast_forward(3000)
    expect(page.locator("tbody .state")).to_have_text("cancelled")


def test_a_stream_that_is_cut_goes_on_and_every_event_comes_once(page, new_site):
    wire = Wire(new_site.port)
    job_id = new_site.submit()
    held = made.claim(new_site.database)
    page.goto(f"http://127.0.0.1:{wire.port}/#/workers")
    page.get_by_text("No worker has reported").wait_for()
    page.evaluate(
        """async (path) => {
            const { stream } = await import("/web/stream.js");
            window.told = [];
            const note = ({ id, event, data }) => told.push([event, id, JSON.parse(data)]);
            window.over = stream(path, note, new AbortController().signal);
        }""",
        f"/jobs/{job_id}/events/stream",
    )
    _until_told(page, new_site, job_id)
    wire.cut()
    expect(page.get_by_text("Reconnecting")).to_be_visible()
    for number in range(3):
        with made.behind_the_fence(new_site.database, held) as session:
            events.add(session, job_id, events.Kind.CHECKPOINT_SAVED, f"number {number}")
    wire.mend()
    expect(page.get_by_text("Reconnecting")).to_be_hidden()
    with new_site.database.transaction() as session:
        leases.succeed(session, held)
    page.evaluate("over")
    told = page.evaluate("told")
    assert [(event, number) for event, number, _ in told[:-1]] == [
        ("message", str(n + 1)) for n in range(_event_count(new_site, job_id))
    ]
    assert told[-1][0] == "end"
    assert [event["message"] for _, _, event in told[-5:-2]] == ["number 0", "number 1", "number 2"]
    wire.close()


def _until_told(page, site, job_id):
    while page.evaluate("told.length") < _event_count(site, job_id):
        page.wait_for_timeout(20)


def _event_count(site, job_id):
    with site.database.reading() as session:
        return jobs.get(session, "local", job_id).event_count


def test_a_tab_that_nobody_looks_at_lets_go_of_its_connection_and_goes_on_where_it_was(page, site):
    job_id = site.submit()
    page.clock.install()
    page.goto(f"{site.url}#/jobs/{job_id}?tab=events")
    expect(page.locator("ol.events li")).to_have_count(1)
    with page.expect_event("requestfailed", lambda request: "/events/stream" in request.url):
        page.evaluate(LOOKED_AT, False)
        page.clock.fast_forward(20_000)
    with site.database.transaction() as session:
        wishes.cancel(session, "local", job_id)
    expect(page.locator("#link-state")).to_be_hidden()
    expect(page.locator("ol.events li")).to_have_count(1)
    page.evaluate(LOOKED_AT, True)
    expect(page.locator("ol.events code").first).to_have_text("cancelled")
    expect(page.locator("ol.events li")).to_have_count(2)


LOOKED_AT = """(isSeen) => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => !isSeen });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_a_job_that_is_retried_is_followed_anew(page, site):
    job_id = site.submit()
    with site.database.transaction() as session:
        wishes.cancel(session, "local", job_id)
    page.goto(f"{site.url}#/jobs/{job_id}")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".state")).to_have_text("queued")
    with site.database.transaction() as session:
        wishes.cancel(session, "local", job_id)
    expect(page.locator(".state")).to_have_text("cancelled")


def test_the_page_s_policy_lets_nothing_run_that_was_not_served(page, site, complaints):
    page.goto(site.url)
    tried = """(what) => new Promise((resolve) => {
        addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective), { once: true });
        const made = Object.assign(document.createElement(what.tag), what);
        document.body.append(made);
        setTimeout(() => resolve("it ran"), 5000);
    })"""
    assert page.evaluate(tried, {"tag": "script", "textContent": "window.ran = 1"}) == "script-src-elem"
    assert page.evaluate(tried, {"tag": "script", "src": "http://127.0.0.1:9/x.js"}) == "script-src-elem"
    assert page.evaluate(tried, {"tag": "style", "textContent": "body { display: none }"}) == "style-src-elem"
    assert page.evaluate(tried, {"tag": "img", "src": "http://127.0.0.1:9/x.png"}) == "img-src"
    assert page.evaluate("window.ran ?? null") is None
    complaints.clear()


def test_keys_of_the_keyboard_lead_to_the_views_and_the_theme_stays(page, site):
    page.goto(site.url)
    page.get_by_role("heading", name="Overview").wait_for()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("g")
    page.keyboard.press("w")
    expect(page.get_by_role("heading", name="Workers", level=1)).to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press("j")
    expect(page.get_by_role("heading", name="Jobs", level=1)).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_label("Name")).to_be_focused()
    page.keyboard.press("g")
    page.keyboard.press("o")
    expect(page.get_by_label("Name")).to_have_value("go")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Change to the dark theme").click()
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before


def test_whoever_may_makes_and_revokes_keys(page, new_site):
    key = new_site.a_key("root", Scope.ADMIN)
    page.goto(f"{new_site.url}#/keys")
    page.get_by_label("Key", exact=True).fill(key)
    page.keyboard.press("Enter")
    page.get_by_label("Owner").fill("bob")
    page.get_by_role("button", name="Make the key").click()
    shown = page.locator("pre").text_content()
    assert re.fullmatch(r"fb_[a-z2-7]{8}_[a-z2-7]{32}", shown)
    assert inaccessible(page) == []
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name=f"Revoke key-{shown.split('_')[1]}").click()
    expect(page.locator("tbody")).to_contain_text("revoked")


VIEWS = ("", "jobs", "submit", "workers", "keys")


@pytest.mark.long
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 820, 1440])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_window(page, site, view, width, theme):
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=theme)
    page.goto(f"{site.url}#/{view}")
    page.locator("main:not([aria-busy]) h1").wait_for()
    assert inaccessible(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
