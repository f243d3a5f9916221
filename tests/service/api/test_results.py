"""What a job made, over HTTP: events, measures, series, checkpoints."""

import pytest

from service.specs.alerts import ALERTS, BY_NAME
from service.specs.measures import CATALOGUE, REGISTRY
from service.store import alerts, events, metrics
from tests.service.api import made


@pytest.fixture
def running(door, database):
    door.submit(steps=[{"name": "one"}, {"name": "two"}])
    return made.claim(database)


@pytest.fixture
def simple(door, database):
    """A job of one step."""
    door.submit()
    return made.claim(database)


# -- events --------------------------------------------------------------------------------------------------------------


def test_events_come_in_order_page_by_page(door, database, running):
    with database.transaction() as session:
        for number in range(5):
            events.add(session, running.job_id, "measured", f"Measure {number}.", {"number": number})
    seen, after, has_more = [], 0, True
    while has_more:
        page = door.get(f"/jobs/{running.job_id}/events", params={"after": after, "limit": 3}).json()
        seen += page["data"]
        after, has_more = page["next_after"], page["has_more"]
    assert [event["number"] for event in seen] == list(range(1, 8))
    assert [event["kind"] for event in seen[:3]] == ["submitted", "started", "measured"]
    assert set(seen[2]) == {"number", "at", "attempt", "kind", "message", "data"}
    assert (seen[2]["message"], seen[2]["data"], seen[2]["attempt"]) == ("Measure 0.", {"number": 0}, 1)
    assert door.get(f"/jobs/{running.job_id}/events", params={"after": after}).json() == {
        "data": [],
        "has_more": False,
        "next_after": after,
    }


def test_bad_cursors_of_events_are_refused(door, running):
    for query in ("after=-1", "after=x", f"after={2**70}", "limit=0", "limit=1001"):
        assert door.get(f"/jobs/{running.job_id}/events?{query}").status_code == 422, query


def test_a_job_that_is_not_there_has_no_parts(door):
    for part in ("events", "metrics", "metrics/series", "checkpoints", "artifacts", "artifacts/x", "logs"):
        assert door.get(f"/jobs/job-nowhere/{part}").status_code == 404, part


# -- measures ------------------------------------------------------------------------------------------------------------


def measured(door, job_id, **query):
    response = door.get(f"/jobs/{job_id}/metrics", params=query)
    assert response.status_code == 200, response.text
    return [(row["step"], row["checkpoint"], row["split"], sorted(row["measures"])) for row in response.json()["data"]]


@pytest.fixture
def with_measures(database, running):
    for step in ("two", "one"):  # the order of the job counts, not that of the writing or of the alphabet
        made.measure(database, running, step, metrics.BASE, cross_entropy=4.0, entropy=3.0)
        made.measure(database, running, step, 20, cross_entropy=3.0, entropy=2.5)
        made.measure(database, running, step, 100, cross_entropy=2.0, entropy=2.0)
    made.measure(database, running, "two", 100, "dataset", cross_entropy=5.0)
    return running.job_id


def test_measures_come_by_step_and_checkpoint_the_base_first(door, with_measures):
    both = ["cross_entropy", "entropy"]
    assert measured(door, with_measures) == [
        ("one", "base", "validation", both),
        ("one", 20, "validation", both),
        ("one", 100, "validation", both),
        ("two", "base", "validation", both),
        ("two", 20, "validation", both),
        ("two", 100, "dataset", ["cross_entropy"]),
        ("two", 100, "validation", both),
    ]


def test_a_measure_has_its_interval_and_what_it_stands_on(door, with_measures):
    answer = door.get(f"/jobs/{with_measures}/metrics?step=one&checkpoint=20").json()
    assert answer["job_id"] == with_measures
    assert answer["data"][0]["measures"]["cross_entropy"] == {
        "value": 3.0,
        "unit": "bits/token",
        "on": "tokens",
        "standard_error": 0.1,
        "interval": [2.8, 3.2],
        "interval_reason": None,
        "n_documents": 5,
        "n_tokens": 50,
        "estimator": "documents",
        "versus_base": {"difference": -1.0},
        "versus_best": None,
        "versus_leader": None,
    }


def test_measures_are_filtered(door, with_measures):
    assert measured(door, with_measures, step="one", checkpoint="base") == [
        ("one", "base", "validation", ["cross_entropy", "entropy"])
    ]
    assert measured(door, with_measures, split="dataset") == [("two", 100, "dataset", ["cross_entropy"])]
    assert measured(door, with_measures, checkpoint=20, measure="entropy") == [
        ("one", 20, "validation", ["entropy"]),
        ("two", 20, "validation", ["entropy"]),
    ]
    assert measured(door, with_measures, checkpoint=21) == []


BAD_FILTERS = [
    ("measure=joy", "/query/measure", "there are cross_entropy, perplexity"),
    ("checkpoint=last", "/query/checkpoint", ""),
    ("checkpoint=-1", "/query/checkpoint", ""),
    (f"checkpoint={2**70}", "/query/checkpoint", ""),
    ("step=three", "/query/step", "it has one, two"),
]


def test_bad_filters_are_refused(door, with_measures):
    for query, pointer, what in BAD_FILTERS:
        response = door.get(f"/jobs/{with_measures}/metrics?{query}")
        assert response.status_code == 422, query
        assert [error["pointer"] for error in response.json()["errors"]] == [pointer]
        assert what in response.json()["detail"]


def test_the_catalogue_is_served_as_it_stands(door):
    assert door.get("/measures").json() == {
        "data": [measure.model_dump(mode="json") for measure in REGISTRY],
        "alerts": [alert.model_dump(mode="json") for alert in ALERTS],
    }
    in_jobs = door.get("/measures", params={"in_jobs": True}).json()["data"]
    assert [measure["name"] for measure in in_jobs] == [measure.name for measure in CATALOGUE]


# -- series --------------------------------------------------------------------------------------------------------------


def test_a_series_comes_as_columns(door, database, simple):
    made.points(database, simple, "sft", {10: 3.0, 20: 2.5, 30: 2.75})
    url = f"/jobs/{simple.job_id}/metrics/series"
    assert door.get(f"{url}?name=loss").json() == {
        "name": "loss",
        "pipeline_step": "sft",
        "step": [10, 20, 30],
        "value": [3.0, 2.5, 2.75],
    }
    assert door.get(f"{url}?name=loss&from_step=15&to_step=25").json()["step"] == [20]


def test_a_thinned_series_keeps_its_extremes(door, database, simple):
    made.points(database, simple, "sft", {at: float(at == 57) - float(at == 23) for at in range(100)})
    answer = door.get(f"/jobs/{simple.job_id}/metrics/series?name=loss&points=10").json()
    assert len(answer["step"]) <= 10
    assert {1.0, -1.0} <= set(answer["value"])
    assert (answer["step"][0], answer["step"][-1]) == (0, 99)


def test_without_a_name_the_series_there_are(door, database, running):
    url = f"/jobs/{running.job_id}/metrics/series"
    assert door.get(url).json() == {"job_id": running.job_id, "data": []}
    made.points(database, running, "two", {1: 1.0})
    made.points(database, running, "one", {1: 1.0}, "grad_norm")
    made.points(database, running, "one", {1: 1.0})
    both = [{"pipeline_step": "one", "names": ["grad_norm", "loss"]}, {"pipeline_step": "two", "names": ["loss"]}]
    assert door.get(url).json()["data"] == both
    assert door.get(f"{url}?step=two").json()["data"] == both[1:]


def test_of_several_steps_one_must_be_named(door, database, running):
    made.points(database, running, "two", {1: 1.0})
    url = f"/jobs/{running.job_id}/metrics/series?name=loss"
    assert "one, two" in door.get(url).json()["detail"]
    assert door.get(f"{url}&step=two").json()["step"] == [1]
    assert door.get(f"{url}&step=one").json()["step"] == []  # has not begun
    assert door.get(f"{url}&step=three").status_code == 422


def test_a_series_that_a_step_does_not_have_is_not_found(door, database, simple):
    made.points(database, simple, "sft", {1: 1.0})
    response = door.get(f"/jobs/{simple.job_id}/metrics/series?name=reward")
    assert response.status_code == 404
    assert "it has loss" in response.json()["detail"]


def test_bad_ranges_of_a_series_are_refused(door, simple):
    for query in ("points=1", "points=0", "from_step=-1", "to_step=x"):
        assert door.get(f"/jobs/{simple.job_id}/metrics/series?name=loss&{query}").status_code == 422, query


# -- checkpoints ---------------------------------------------------------------------------------------------------------


def test_checkpoints_come_with_their_files_and_measures(door, database, simple):
    made.checkpoint(database, simple, "sft", 10, {"model.safetensors": b"weights", "deep/odd name.json": b"{}"})
    made.checkpoint(database, simple, "sft", 20, {"model.safetensors": b"more weights"})
    made.measure(database, simple, "sft", 10, "train", cross_entropy=9.0, perplexity=512.0)
    made.measure(database, simple, "sft", 10, cross_entropy=3.0)
    first, second = door.get(f"/jobs/{simple.job_id}/checkpoints").json()["data"]
    assert (first["step"], first["global_step"], first["epoch"], first["train_loss"]) == ("sft", 10, 0.5, 1.25)
    assert (first["size"], first["attempt"]) == (len(b"weights{}"), 1)
    assert first["created_at"].endswith("Z")
    assert first["metrics"] == {"cross_entropy": 3.0, "perplexity": 512.0}
    assert second["metrics"] == {}
    odd = first["files"][1]
    assert odd["url"] == f"/jobs/{simple.job_id}/artifacts/sft/checkpoint-10/deep/odd%20name.json"
    assert {"name", "size", "sha256", "url"} == set(odd)


@pytest.fixture
def ranked(database, simple):
    """Three checkpoints; the second cannot be told from the best, which is the third. The first two are on the front."""
    rows = {10: (3.0, -1.0, 0.1, 0.9), 20: (2.1, -1.9, 0.2, 0.1), 30: (2.0, -1.85, 0.3, None), 40: (None, None, None, None)}
    for at, (bits, gain, drift, apart) in rows.items():
        made.checkpoint(database, simple, "sft", at, {"model.safetensors": b"weights"})
        versus_leader = None if apart is None else {"value": apart, "standard_error": 0.15, "global_step": 30}
        told = [
            made.a_metric(at, "cross_entropy", bits or 0.0) | {"value": bits, "versus_leader": versus_leader},
            made.a_metric(at, "kl_from_base", drift or 0.0) | {"value": drift},
        ]
        told[0]["versus_base"] = None if gain is None else {"value": gain, "standard_error": 0.1}
        with made.behind_the_fence(database, simple) as session:
            metrics.record_measurement(session, simple, "sft", at, "validation", {})
            metrics.record(session, simple, "sft", "validation", told)
    return simple.job_id


def test_checkpoints_are_ranked_by_the_one_standard_error_rule(door, ranked):
    answer = door.get(f"/jobs/{ranked}/checkpoints", params={"rank_by": "cross_entropy"}).json()
    assert [one["global_step"] for one in answer["data"]] == [20, 30, 10, 40]
    assert [one["rank"] and one["rank"]["place"] for one in answer["data"]] == [1, 2, 3, None]
    assert [one["rank"]["within_one_standard_error"] for one in answer["data"][:3]] == [True, True, False]
    assert answer["data"][0]["rank"] == {
        "place": 1,
        "measure": "cross_entropy",
        "split": "validation",
        "value": 2.1,
        "within_one_standard_error": True,
        "versus_leader": {"value": 0.1, "standard_error": 0.15, "global_step": 30},
    }
    unranked = door.get(f"/jobs/{ranked}/checkpoints").json()["data"]
    assert [(one["global_step"], one["rank"]) for one in unranked] == [(10, None), (20, None), (30, None), (40, None)]


def test_the_front_is_of_gain_against_drift(door, ranked):
    answer = door.get(f"/jobs/{ranked}/checkpoints").json()
    assert [one["pareto"] for one in answer["data"]] == [True, True, False, None]
    assert [(it["step"], it["global_step"], it["gain"], it["drift"], it["drift_split"]) for it in answer["front"]] == [
        ("sft", 10, 1.0, 0.1, "validation"),
        ("sft", 20, 1.9, 0.2, "validation"),
    ]


def test_drift_is_that_on_the_anchor_where_there_is_one(door, database, simple, ranked):
    for at, drift in ((10, 0.5), (20, 0.4), (30, 0.1)):
        made.measure(database, simple, "sft", at, "anchor", kl_from_base=drift, cross_entropy=1.0)
    answer = door.get(f"/jobs/{ranked}/checkpoints").json()
    assert [(it["global_step"], it["drift"], it["drift_split"]) for it in answer["front"]] == [
        (30, 0.1, "anchor"),
        (20, 0.4, "anchor"),
    ]
    assert answer["data"][0]["metrics"]["cross_entropy"] == 3.0, "the task's, not the anchor's"


def test_what_cannot_rank_is_refused_with_what_can(door, ranked):
    for name, what in (("cross_entropi", "nearest are cross_entropy"), ("entropy", "rank by one of cross_entropy, perplexity")):
        response = door.get(f"/jobs/{ranked}/checkpoints", params={"rank_by": name})
        assert response.status_code == 422
        assert [error["pointer"] for error in response.json()["errors"]] == ["/query/rank_by"]
        assert what in response.json()["detail"], name


def test_alerts_come_with_the_measures_of_their_checkpoint_and_all_tests_beside_them(door, database, running, with_measures):
    common = {"statistic": 0.2, "bound": 0.1, "threshold": 0.05, "unit": "bits/token", "k": 1, "alpha": 0.006, "n_documents": 30}
    tests = [
        {"alert": "over_confidence", "global_step": 20, "fires": True, "reason": None, **common},
        {"alert": "over_fit", "global_step": 20, "fires": None, **common, "reason": "Too few."},
    ]
    with made.behind_the_fence(database, running) as session:
        alerts.record(session, running, "one", "validation", tests)
    rows = door.get(f"/jobs/{with_measures}/metrics?step=one").json()["data"]
    assert [[test["alert"] for test in row["alerts"]] for row in rows] == [[], ["over_confidence"], []]
    assert [[test["alert"] for test in row["tests"]] for row in rows] == [[], ["over_confidence", "over_fit"], []]
    told = {key: value for key, value in tests[0].items() if key != "global_step"}
    assert rows[1]["alerts"] == [told | {"suggests": BY_NAME["over_confidence"].suggests}]
    assert rows[1]["tests"][1]["suggests"] is None
