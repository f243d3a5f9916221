import json
from typing import Any

import pytest

from tests.service.api.door import Bell, Door


def test_data_sets_are_listed_with_what_they_hold_and_what_is_wrong(plain_door: Door) -> None:
    listed = {one["name"]: one for one in plain_door.get("/datasets").json()["data"]}
    assert listed["letters"] | {"rows": None} == {
        "name": "letters",
        "formatting": "alpaca",
        "holds": "conversations",
        "files": ["letters.json"],
        "rows": None,
        "trouble": None,
        "version": None,
    }
    assert listed["lines"]["holds"] == "texts"
    assert listed["pairs"]["holds"] == "pairs"
    assert listed["labels"]["holds"] == "labels"
    assert "secret" not in json.dumps(listed["outside"]["files"])
    for name in ("gone", "outside", "absolute", "empty", "script", "sheet"):
        assert listed[name]["trouble"], name
        assert listed[name]["files"] == []


def test_the_rows_of_one_data_set_are_counted(plain_door: Door) -> None:
    assert plain_door.get("/datasets/letters").json()["rows"] == 10
    broken = plain_door.get("/datasets/broken").json()
    assert broken["rows"] is None
    assert "JSON" in broken["trouble"]
    assert plain_door.get("/datasets/lettres").json()["detail"].startswith("There is no data set 'lettres'; the nearest")
    assert plain_door.get("/datasets/letters?dataset_dir=nowhere").status_code == 422


def test_models_are_listed(plain_door: Door) -> None:
    assert "tiny" in plain_door.get("/models").json()["data"]


def test_an_inspection_is_a_job_that_needs_no_gpu_and_rings_the_bell(plain_door: Door, bell: Bell) -> None:
    body = {"model": "tiny", "template": "alpaca", "cutoff_len": 64, "val_size": 2, "held_out": "records"}
    response = plain_door.post("/datasets/letters/inspect", json=body)
    assert response.status_code == 201, response.text
    job = response.json()
    assert response.headers["Location"] == f"/jobs/{job['id']}"
    assert bell.rung == ["default"]
    (step,) = job["resolved"]["steps"]
    assert (step["name"], step["do"], step["finetuning"]["stage"]) == ("inspect", "inspect", "sft")
    assert (step["data"]["dataset"], step["data"]["template"], step["data"]["cutoff_len"]) == (["letters"], "alpaca", 64)
    assert step["measures"]["dataset"] == ["records"]
    assert job["resolved"]["resources"]["gpus"] == 0
    assert job["name"] == "inspect letters"


def test_texts_are_inspected_as_texts(plain_door: Door) -> None:
    (step,) = plain_door.post("/datasets/lines/inspect", json={"model": "tiny"}).json()["resolved"]["steps"]
    assert (step["finetuning"]["stage"], step["data"]["template"]) == ("pt", None)


@pytest.mark.parametrize(("name", "loss"), [("pairs", "sigmoid"), ("labels", "kto")])
def test_preferences_are_inspected_as_dpo_reads_them(plain_door: Door, name: str, loss: str) -> None:
    (step,) = plain_door.post(f"/datasets/{name}/inspect", json={"model": "tiny"}).json()["resolved"]["steps"]
    assert (step["finetuning"]["stage"], step["finetuning"]["dpo_loss"], step["data"]["template"]) == ("dpo", loss, "default")


@pytest.mark.parametrize(
    ("path", "body", "pointer", "part"),
    [
        ("letters", {}, "/model", "Name the model whose tokenizer reads the rows; there are: "),
        ("letters", {"model": "tinny"}, "/model", "no model 'tinny'"),
        ("letters", {"model": "tiny", "template": "x"}, "/template", "There is no template 'x'"),
        ("letters", {"model": "tiny", "val_size": 1.5}, "/val_size", "share below 1"),
        ("letters", {"model": "tiny", "held_out": "lettres"}, "/held_out", "no data set 'lettres'"),
        ("letters", {"model": "tiny", "cutoff": 3}, "/cutoff", "There is no such argument."),
    ],
)
def test_what_is_wrong_is_refused_at_its_place_in_the_body(
    plain_door: Door, path: str, body: dict[str, Any], pointer: str, part: str
) -> None:
    refusals = plain_door.refusals(body, f"/datasets/{path}/inspect")
    assert [place for place, detail in refusals if part in detail] == [pointer]


def test_a_data_set_that_is_not_there_and_a_body_that_is_none(plain_door: Door) -> None:
    assert plain_door.post("/datasets/lettres/inspect", json={"model": "tiny"}).status_code == 404
    as_json = {"Content-Type": "application/json"}
    assert plain_door.post("/datasets/letters/inspect", content=b"{", headers=as_json).status_code == 400
    assert plain_door.post("/datasets/letters/inspect").json()["errors"][0]["pointer"] == "/model"


def test_who_has_uploaded_needs_no_folder_and_is_told_nothing_of_others(plain_door):
    rows = json.dumps([{"instruction": "a", "output": "b"}])
    assert plain_door.put("/datasets/mine", params={"file_name": "a.json"}, content=rows).status_code == 201
    listed = plain_door.get("/datasets", params={"dataset_dir": "nowhere"})
    assert [one["name"] for one in listed.json()["data"]] == ["mine"]
    # a name that is too long was a 500, and the fuzzer's; a folder outside was told from one that is not there
    for dataset_dir in ("x" * 5000, "../../../../etc", "../../../../nowhere"):
        refused = plain_door.get("/datasets", params={"dataset_dir": dataset_dir})
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/query/dataset_dir")
