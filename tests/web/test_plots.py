"""What the dashboard draws, in a real browser: a job while it runs, comparisons, the catalogue; and what is saved of a plot."""

import csv
import io
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from service.specs.measures import CATALOGUE, REGISTRY
from service.store import leases
from tests.web import measured
from tests.web.standing import Standing, standing
from tests.web.wire import a_wire

SVG = "{http://www.w3.org/2000/svg}"


@dataclass
class House:
    """A service with jobs: two that are over, and one of 20,000 updates."""

    service: Standing
    mild: str
    strong: str
    long: str

    def at(self, place: str, port: int | None = None) -> str:
        return f"http://127.0.0.1:{port or self.service.port}/#{place}"


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with standing(tmp_path_factory.mktemp("house")) as service:
        database, root = service.database, service.artifacts
        yield House(
            service,
            mild=measured.a_measured_job(database, root, "mild", gain=1.0),
            strong=measured.a_measured_job(database, root, "strong", gain=1.6, training={"learning_rate": 0.01}),
            long=measured.a_measured_job(database, root, "long", updates=20_000),
        )


def chart(page, title):
    return page.locator("figure.chart", has=page.locator("figcaption", has_text=re.compile(f"^{re.escape(title)}")))


def saved(page, figure, kind):
    """The name and the bytes of what a button saves."""
    with page.expect_download() as waiting:
        figure.get_by_role("button", name=f"Save as {kind}").click()
    return waiting.value.suggested_filename, waiting.value.path().read_bytes()


def shown_points(page, figure):
    """The rows of a chart's table."""
    figure.locator("summary").click()
    return figure.locator("tbody tr").all_inner_texts()


# -- a job ----------------------------------------------------------------------------------------------------------------


def test_a_job_shows_its_curves_with_units_intervals_and_the_alert_where_it_fired(page, house):
    page.goto(house.at(f"/jobs/{house.mild}"))
    loss = chart(page, "Loss of sft")
    expect(loss.get_by_role("application")).to_have_accessible_name(
        re.compile("loss, nats/token against update.*entropy collapse at 400")
    )
    entropy = chart(page, "Cross-entropy of sft")
    expect(entropy.get_by_role("application")).to_have_accessible_name(re.compile("cross-entropy, bits/token"))
    assert [row.split("\t")[1] for row in shown_points(page, entropy)] == ["0", "100", "200", "300", "400"]
    expect(entropy.locator("thead")).to_contain_text("low")
    expect(page.get_by_text("Entropy collapse at 400 (validation)").first).to_be_visible()
    page.get_by_text("Every measure, as numbers").click()
    row = page.get_by_role("region", name="Measures on validation").get_by_role("row", name=re.compile("^entropy"))
    assert [cell[:3] for cell in row.get_by_role("cell").all_inner_texts()] == ["bit", "5.5", "4.8", "4.5", "4.3", "4.2"]


def test_a_plot_is_saved_as_svg_png_and_csv_with_its_data(page, house):
    page.goto(house.at(f"/jobs/{house.mild}"))
    figure = chart(page, "Cross-entropy of sft")
    name, body = saved(page, figure, "CSV")
    assert name == "cross_entropy-sft.csv"
    head, *rows = list(csv.reader(io.StringIO(body.decode())))
    assert head == ["line", "update", "cross-entropy, bits/token", "low", "high"]
    served = [
        entry["measures"]["cross_entropy"]
        for entry in page.request.get(f"{house.service.url}jobs/{house.mild}/metrics").json()["data"]
    ]
    assert [list(map(float, row[2:])) for row in rows] == [[one["value"], *one["interval"]] for one in served]
    name, body = saved(page, figure, "SVG")
    drawing = ElementTree.fromstring(body)
    texts = [text.text for text in drawing.iter(f"{SVG}text")]
    assert {"Cross-entropy of sft", "update", "cross-entropy, bits/token"} <= set(texts)
    assert len([dot for dot in drawing.iter(f"{SVG}circle") if dot.get("r") == "3"]) == len(rows), "a dot a checkpoint"
    assert any(path.get("opacity") == "0.16" for path in drawing.iter(f"{SVG}path")), "the band of the interval"
    name, body = saved(page, figure, "PNG")
    assert name == "cross_entropy-sft.png"
    assert body.startswith(b"\x89PNG\r\n\x1a\n")
    assert (int.from_bytes(body[16:20]), int.from_bytes(body[20:24])) == (1680, 960)
    assert len(body) > 10_000, "there is something on it"


def test_a_long_series_is_drawn_thinned_and_saved_whole(page, house):
    page.goto(house.at(f"/jobs/{house.long}"))
    figure = chart(page, "Loss of sft")
    expect(figure.locator("canvas")).to_be_visible()
    asked = page.evaluate("performance.getEntriesByType('resource').map(it => it.name)")
    series = [url for url in asked if "name=loss" in url]
    assert series
    assert all("points=1500" in url for url in series)
    _, body = saved(page, figure, "CSV")
    rows = list(csv.reader(io.StringIO(body.decode())))[1:]
    assert [int(row[1]) for row in rows] == list(range(1, 20_001))


def test_what_is_dragged_over_is_asked_for_more_closely(page, house):
    page.goto(house.at(f"/jobs/{house.long}"))
    figure = chart(page, "Loss of sft")
    over = figure.locator(".u-over")
    with page.expect_response(lambda answer: "from_step=" in answer.url) as waiting:
        over.drag_to(over, source_position={"x": 100, "y": 80}, target_position={"x": 160, "y": 80})
    closer = waiting.value.json()
    assert len(closer["step"]) > 500, "nearly every update of a twentieth of them"
    expect(figure.get_by_role("application")).to_have_accessible_name(re.compile(rf"at {closer['step'][-1]}\b"))
    with page.expect_response(lambda answer: "name=loss" in answer.url and "from_step" not in answer.url):
        figure.get_by_role("application").press("0")
    expect(figure.get_by_role("application")).to_have_accessible_name(re.compile(r"at 20000\b"))


def test_the_keyboard_moves_along_a_curve_and_looks_closer(page, house):
    page.goto(house.at(f"/jobs/{house.mild}"))
    figure = chart(page, "Entropy of sft")
    figure.get_by_role("application").focus()
    page.keyboard.press("End")
    expect(figure.locator(".readout")).to_contain_text(
        re.compile(r"update 400validation 4\.\d+ \[4\.\d+, 4\.\d+\]Entropy collapse")
    )
    page.keyboard.press("ArrowLeft")
    expect(figure.locator(".readout")).to_contain_text("update 300")
    page.keyboard.press("Home")
    expect(figure.locator(".readout")).to_contain_text("update 0validation 5.5")


def test_gain_against_drift_has_the_front_and_says_a_points_numbers(page, house):
    page.goto(house.at(f"/jobs/{house.mild}?tab=checkpoints"))
    points = chart(page, "Gain against drift of sft").get_by_role("img", name=re.compile("^checkpoint"))
    expect(points).to_have_count(4)
    said = chart(page, "Gain against drift of sft").locator(".readout")
    for _ in range(600):  # the page may draw itself anew once more, and what was in focus is gone then
        points.last.focus()
        if said.text_content():
            break
        page.wait_for_timeout(100)
    front = page.request.get(f"{house.service.url}jobs/{house.mild}/checkpoints").json()["front"]
    last = next(one for one in front if one["global_step"] == 400)
    expect(said).to_have_text(
        re.compile(rf"checkpoint 400: gain {last['gain']:.3f} \[.*\], drift {last['drift']:.3f} \[.*\], on the front")
    )
    expect(page.get_by_role("row", name=re.compile(r"^base 6\.200 ± 0\.050"))).to_be_visible()


def test_each_token_says_what_it_costs_before_and_after(page, house):
    page.goto(house.at(f"/jobs/{house.mild}?tab=tokens&checkpoint=100"))
    token = page.get_by_role("img", name=re.compile("Lima"))
    token.hover()
    expect(page.locator(".readout")).to_have_text(re.compile(r"“Lima”: before 6(\.00)? bits, after 3\.96 bits, −2\.04 bits"))
    page.get_by_role("button", name="Change", exact=True).click()
    expect(token).to_have_class(re.compile("better"))
    expect(page).to_have_url(re.compile("view=change"))
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".readout")).to_contain_text("“.”: before 6")
    expect(page.locator("article .token.masked").first).to_have_text("Question")


def test_the_rows_show_what_is_trained(page, house):
    page.goto(house.at(f"/jobs/{house.mild}?tab=data"))
    row = page.locator("article.row-shown").first
    expect(row.locator(".token.trained")).to_have_text([" Lima", ".", "</s>"])
    expect(row.locator(".token.masked")).to_have_count(12)
    expect(page.get_by_role("row", name="letters.json, row 7 letters.json, row 2 100 % 93 %")).to_be_visible()


def test_a_job_that_left_no_rows_shows_the_mask_of_those_it_is_measured_on(page, house):
    page.route(re.compile("/artifacts$"), lambda route: route.fulfill(json={"data": []}))
    page.goto(house.at(f"/jobs/{house.mild}?tab=data"))
    row = page.locator("article.row-shown")
    expect(row).to_have_count(1)
    expect(row.locator(".token.trained")).to_have_text([" Lima", ".", "</s>"])
    expect(row.locator(".token.masked")).to_have_count(12)
    expect(page.get_by_role("button", name="Look at letters as sft reads it")).to_be_visible()


# -- a job while it runs --------------------------------------------------------------------------------------------------


@pytest.fixture
def run(house):
    job_id, held = measured.a_running_job(house.service.database, "runs")
    yield job_id, held
    with house.service.database.transaction() as session:
        leases.succeed(session, held)


def test_a_job_is_watched_live_also_after_the_stream_was_cut(page, house, run):
    job_id, held = run
    database = house.service.database
    with a_wire(house.service.port) as wire:
        page.goto(house.at(f"/jobs/{job_id}", wire.port))
        expect(page.get_by_text("1 of 400 (0 %)")).to_be_visible()
        measured.write_series(database, job_id, 20)
        told(database, held, 20)
        figure = chart(page, "Loss of sft")
        expect(figure.get_by_role("application")).to_have_accessible_name(re.compile(r"at 20\b"))
        page.evaluate("window.stays = true")
        questions = re.compile(r"/jobs/[^/]+(/metrics/series\?.*)?$")
        page.route(questions, lambda route: route.abort())  # nothing is heard of but what is streamed
        measured.write_series(database, job_id, 50, first=21)
        told(database, held, 50)
        expect(figure.get_by_role("application")).to_have_accessible_name(re.compile(r"at 50\b"))
        expect(page.get_by_text("50 of 400 (13 %)")).to_be_visible()
        page.unroute(questions)
        wire.cut()
        expect(page.locator("#link-state")).to_contain_text("Reconnecting")
        measured.write_series(database, job_id, 80, first=51)
        measured.measure(database, held, -1, 1.0)
        measured.measure(database, held, 100, 1.0)
        told(database, held, 100)
        wire.mend()
        expect(chart(page, "Cross-entropy of sft").get_by_role("application")).to_have_accessible_name(re.compile("at 100"))
        expect(figure.get_by_role("application")).to_have_accessible_name(re.compile(r"at 80\b"))
        expect(page.locator("#link-state")).to_be_hidden()
        assert [row.split("\t")[1] for row in shown_points(page, figure)] == [f"{at}" for at in range(1, 81)]
        assert page.evaluate("window.stays"), "the page was not loaded again"


def told(database, held, number):
    with database.transaction() as session:
        leases.renew(
            session, held, 600, {"step": "sft", "phase": "training", "global_step": number, "max_steps": 400, "loss": 3.0}
        )


# -- several, and the catalogue -------------------------------------------------------------------------------------------


def test_jobs_are_compared_paired_by_document_with_the_difference_of_their_specs(page, house):
    page.goto(house.at(f"/compare?jobs={house.mild},{house.strong}"))
    row = page.get_by_role("row", name=re.compile("^cross_entropy"))
    answer = page.request.get(f"{house.service.url}jobs/{house.strong}/versus/{house.mild}").json()
    (apart,) = [one for one in answer["data"] if one["measure"] == "cross_entropy"]
    expect(row).to_contain_text(f"{apart['value']:.3f}".replace("-", "−"))
    expect(row).to_contain_text("apart")
    arguments = page.get_by_role("region", name="Difference of their specs")
    expect(arguments.locator("tbody tr")).to_have_text([re.compile("training.learning_rate.*0.01")])
    figure = chart(page, "Cross-entropy")
    assert {row.split("\t")[0] for row in shown_points(page, figure)} == {"mild", "strong"}


def test_a_comparison_goes_on_with_a_job_that_runs(page, house, run):
    job_id, held = run
    page.clock.install()
    page.goto(house.at(f"/compare?jobs={house.mild},{job_id}"))
    measured.write_series(house.service.database, job_id, 30)
    told(house.service.database, held, 30)
    page.clock.fast_forward(5_000)
    drawn = chart(page, "Loss").get_by_role("application")
    expect(drawn).to_have_accessible_name(re.compile(r"mild from .* at 400\. runs from .* at 30\."))
    measured.measure(house.service.database, held, -1, 1.0)
    measured.measure(house.service.database, held, 100, 1.0)
    page.clock.fast_forward(5_000)
    expect(page.get_by_role("row", name=re.compile("^cross_entropy"))).to_contain_text("apart")
    expect(chart(page, "Loss")).to_have_count(1)


def test_every_formula_of_the_catalogue_is_typeset(page, house):
    for where in ("jobs", "library"):
        page.goto(house.at(f"/measures?in={where}"))
        expected = [one for one in REGISTRY if one.formula and one.in_jobs == (where == "jobs")]
        expect(page.locator(".formula math")).to_have_count(len(expected))
        assert page.locator(".formula[data-wrong], .temml-error, math merror").count() == 0


def test_a_measures_page_says_what_it_is_and_what_it_is_for(page, house):
    page.goto(house.at("/measures/kl_from_base"))
    expect(page.locator("h1")).to_have_text("kl_from_base")
    expect(page.get_by_text("best predictor of forgetting")).to_be_visible()
    expect(page.locator(".formula annotation")).to_contain_text(r"\lg \frac{q_t(v)}{p_t(v)}")
    expect(page.get_by_text("forgetting", exact=True)).to_be_visible()


def test_every_measure_that_a_job_takes_by_itself_says_what_it_is_for(page, house):
    page.goto(house.at("/measures"))
    known = page.evaluate("import('./web/measures/purpose.js').then(it => Object.keys(it.FOR))")
    assert {one.name for one in CATALOGUE if one.default} <= set(known) <= {one.name for one in REGISTRY}


# -- with the keyboard alone ---------------------------------------------------------------------------------------------


CALLED = """(({ ariaLabel, labels, textContent }) => ariaLabel ?? labels?.[0]?.textContent ?? textContent)(
    document.activeElement)"""


def tab_to(page, name, key="Tab"):
    """Until what is in focus is called so."""
    for _ in range(120):
        page.keyboard.press(key)
        said = page.evaluate(CALLED)
        if re.fullmatch(name, said.strip()):
            return
    raise AssertionError(f"{name} cannot be reached")


def test_jobs_are_compared_submitted_and_cancelled_with_the_keyboard_alone(page, house):
    page.goto(house.at("/jobs"))
    page.get_by_role("checkbox", name="Compare mild").wait_for()
    tab_to(page, "Compare strong")
    page.keyboard.press("Space")
    tab_to(page, "Compare mild")
    page.keyboard.press("Space")
    tab_to(page, "Compare 2", "Shift+Tab")
    page.keyboard.press("Enter")
    chart(page, "Cross-entropy").wait_for()
    tab_to(page, "Numbers")
    page.keyboard.press("Enter")
    expect(page.locator("details.numbers[open] tbody tr").first).to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press("s")
    page.locator("form #name").wait_for()
    for field, value in (("name", "typed"), (r"model_name_or_path \*", "tiny"), ("dataset", "letters"), ("template", "chatml")):
        tab_to(page, field)
        page.keyboard.type(value)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="typed")).to_be_visible()
    tab_to(page, "Cancel")
    page.keyboard.press("Enter")
    expect(page.locator(".job-head .state")).to_have_text("cancelled")


# -- for everyone ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_axe_finds_nothing_serious(browser, house, theme):
    page = browser.new_page(color_scheme=theme)
    tabs = ("curves", "checkpoints", "data", "tokens", "events", "log", "files", "spec")
    places = [
        *(f"/jobs/{house.mild}?tab={tab}" for tab in tabs),
        f"/compare?jobs={house.mild},{house.strong}",
        "/measures/entropy",
        "/measures?q=kl_",
    ]
    wrong = {}
    for place in places:
        page.goto(house.at(place))
        page.wait_for_selector("main:not([aria-busy]) h1")
        found = Axe().run(page).response["violations"]
        wrong |= {(place, one["id"]): one["nodes"][0]["html"] for one in found if one["impact"] in ("serious", "critical")}
    page.close()
    assert wrong == {}
