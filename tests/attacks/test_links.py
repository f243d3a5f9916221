"""Links that lead out of the folders that the service serves, put where somebody could have put them."""

import json
import os

import pytest

from service.storage.errors import Missing
from service.storage.folder import Folder
from tests.attacks.family import Family
from tests.attacks.house import SECRET, opened
from tests.service.api import made
from tests.specs.job_documents import a_job

FAMILY = Family(
    name="Symbolic links",
    tried="models, adapters, data sets, their folders and benchmarks that are links to elsewhere; files of a job, of an upload, "
    "and logs that became one",
    promise="422 or 410; what lies outside a root is not read through a link in it",
)


@pytest.fixture
def house(tmp_path):
    with opened(tmp_path, FAMILY) as house:
        house.door.headers = house.bob
        outside = tmp_path / "elsewhere"
        outside.mkdir()
        (outside / "rows.json").write_text(json.dumps([{"instruction": SECRET, "output": SECRET}] * 10))
        (outside / "config.json").write_text(json.dumps({"model_type": SECRET}))
        yield house


def link_a_model(house):
    (house.settings.models_root / "linked").symlink_to(house.root / "elsewhere")
    return a_job(model={"model_name_or_path": "linked"})


def link_a_parent(house):
    (house.settings.models_root / "up").symlink_to(house.root)
    return a_job(model={"model_name_or_path": "up/elsewhere"})


def link_an_adapter(house):
    (house.settings.models_root / "adapter").symlink_to(house.root / "elsewhere")
    return a_job(model={"adapter_name_or_path": ["adapter"]})


def link_in_a_circle(house):
    (house.settings.models_root / "circle").symlink_to("circle")
    return a_job(model={"model_name_or_path": "circle"})


def link_a_data_set(house):
    folder = house.settings.datasets_root / "data"
    (folder / "rows.json").symlink_to(house.root / "elsewhere" / "rows.json")
    (folder / "dataset_info.json").write_text(json.dumps({"linked": {"file_name": "rows.json"}}))
    return a_job(data={"dataset": ["linked"]})


def link_within_a_folder_of_data(house):
    folder = house.settings.datasets_root / "data"
    (folder / "parts" / "more.jsonl").symlink_to(house.root / "elsewhere" / "rows.json")
    (folder / "dataset_info.json").write_text(json.dumps({"linked": {"file_name": "parts"}}))
    return a_job(data={"dataset": ["linked"]})


def link_the_data_folder(house):
    (house.settings.datasets_root / "other").symlink_to(house.root / "elsewhere")
    (house.root / "elsewhere" / "dataset_info.json").write_text(json.dumps({"linked": {"file_name": "rows.json"}}))
    return a_job(data={"dataset": ["linked"], "dataset_dir": "other"})


def link_a_benchmark(house):
    (house.settings.datasets_root / "mmlu").symlink_to(house.root / "elsewhere")
    return a_job(do="evaluate", evaluation={"task": "mmlu", "task_dir": "."})


ATTACKS = {
    "a model": link_a_model,
    "what is above a model": link_a_parent,
    "an adapter": link_an_adapter,
    "itself": link_in_a_circle,
    "a data set's file": link_a_data_set,
    "a file in a data set's folder": link_within_a_folder_of_data,
    "the folder of data sets": link_the_data_folder,
    "a benchmark's folder": link_a_benchmark,
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_job_is_not_led_out_by_a_link(house, name):
    document = ATTACKS[name](house)
    for query in ("?dry_run=true", ""):
        response = house.door.post(f"/jobs{query}", json=document)
        assert response.status_code == 422, response.text
    for path in ("/models", "/datasets", "/v1/models", "/datasets/linked"):
        assert SECRET not in house.door.get(path).text
    assert house.door.post("/datasets/linked/validate", params={"dataset_dir": "other"}).status_code in (404, 422)


def test_a_file_of_a_job_that_became_a_link_is_gone(house):
    job_id = house.door.submit()
    root = house.settings.artifacts_root
    held = made.claim(house.database)
    made.artifact(house.database, held, root, "notes.txt", b"mine")
    log = root / job_id / "1" / "log.txt"
    log.write_text("a line")
    assert house.door.get(f"/jobs/{job_id}/artifacts/notes.txt").content == b"mine"
    for file in (root / job_id / "1" / "notes.txt", log):
        file.unlink()
        file.symlink_to(house.root / "secret.json")
    assert house.door.get(f"/jobs/{job_id}/artifacts/notes.txt").status_code == 410
    assert house.door.get(f"/jobs/{job_id}/artifacts/notes.txt", headers={"range": "bytes=0-10"}).status_code == 410
    assert SECRET not in house.door.get(f"/jobs/{job_id}/logs").text


def test_a_file_that_was_uploaded_and_became_a_link_is_gone(house):
    row = b'{"instruction": "a", "output": "b"}\n'
    version = house.door.put("/datasets/mine", params={"file_name": "a.jsonl"}, content=row).json()["version"]
    file_id = house.door.get("/v1/files").json()["data"][0]["id"]
    [kept] = [path for path in house.settings.artifacts_root.rglob("a.jsonl") if path.is_file()]
    kept.unlink()
    kept.symlink_to(house.root / "secret.json")
    assert house.door.get(f"/datasets/mine@{version}/content").status_code == 410
    assert house.door.get(f"/v1/files/{file_id}/content").status_code == 410
    assert SECRET not in house.door.post(f"/datasets/mine@{version}/validate").text


def test_a_link_in_the_place_of_what_is_removed_removes_no_more_than_itself(house):
    """The sweep that removes a deleted job's files follows none."""
    root = house.settings.artifacts_root
    (root / "job-1").symlink_to(house.root / "elsewhere")
    with pytest.raises(Missing):
        Folder(root).remove("job-1")
    (root / "job-2").mkdir()
    os.symlink(house.root / "elsewhere", root / "job-2" / "inner")
    Folder(root).remove("job-2")
    assert (house.root / "elsewhere" / "rows.json").exists()
