"""Names that would lead out of the folders that jobs may name and write into, through every place that takes a name."""

import io
import json
from urllib.parse import quote

import pytest

from tests.attacks.family import Family, each
from tests.attacks.house import SECRET, listening, opened, sent, status_of
from tests.service.api import made
from tests.specs.job_documents import a_job

FAMILY = Family(
    name="Path traversal",
    tried="names that climb, are absolute, encoded once and twice, in Unicode's look-alikes, with null bytes, too long, "
    "of Windows: as models, adapters, data sets and folders of a job; as names of uploads; in addresses, byte for byte",
    promise="422 or 404; no file outside the roots is read, made, changed or removed",
)

NAMES = {
    "climbs": "../secret.json",
    "climbs far": "../" * 30 + "etc/passwd",
    "climbs from within": "tiny/../../secret.json",
    "is the folder above": "..",
    "is absolute": "/etc/passwd",
    "is a URL": "file:///etc/passwd",
    "climbs, encoded": "%2e%2e%2fsecret.json",
    "climbs, encoded twice": "%252e%252e%252fsecret.json",
    "climbs, overlong UTF-8": "..%c0%afsecret.json",
    "climbs on Windows": "..\\secret.json",
    "is a drive": "C:\\Windows\\win.ini",
    "climbs, where dots are filtered once": "....//secret.json",
    "climbs by full-width dots": "．．/secret.json",
    "climbs by a two-dot leader": "‥/secret.json",
    "climbs by a division slash": "..∕secret.json",
    "ends early": "tiny\0.json",
    "is a home": "~root/.ssh/id_rsa",
    "is a variable": "$HOME/secret.json",
    "is a process": "/proc/self/environ",
    "climbs behind a space": " ../secret.json",
    "climbs behind a dot": "./../secret.json",
    "is too long": "a" * 5000,
    "is too deep": "a/" * 3000,
    "is a pipe": "|cat /etc/passwd",
    "is a line": "tiny\n../secret.json",
}


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("paths"), FAMILY, reward_hosts="rewards.example") as house:
        house.door.headers = house.bob
        house.job = house.door.submit()
        held = made.claim(house.database)
        made.artifact(house.database, held, house.settings.artifacts_root, "notes.txt", b"ours")
        yield house


# Where a job takes a name; each with how it is put there.
PLACES = {
    "model_name_or_path": lambda name: a_job(model={"model_name_or_path": name}),
    "adapter_name_or_path": lambda name: a_job(model={"adapter_name_or_path": [name]}),
    "cache_dir": lambda name: a_job(model={"model_name_or_path": "org/other", "cache_dir": name}),
    "dataset": lambda name: a_job(data={"dataset": [name]}),
    "dataset_dir": lambda name: a_job(data={"dataset_dir": name}),
    "cache_path": lambda name: a_job(data={"cache_path": name}),
    "measures.dataset": lambda name: a_job(measures={"dataset": [name]}),
    "measures.base": lambda name: a_job(measures={"base": name}),
    "export_dir": lambda name: a_job(do="export", model={"export_dir": name}),
    "export_hub_model_id": lambda name: a_job(do="export", model={"export_hub_model_id": name, "hf_hub_token": "hf_x"}),
    "export_quantization_dataset": lambda name: a_job(
        do="export", model={"export_quantization_bit": 4, "export_quantization_dataset": name}
    ),
    "ref_model": lambda name: a_job(finetuning={"stage": "dpo", "ref_model": name}),
    "reward_model": lambda name: a_job(finetuning={"stage": "ppo", "reward_model": name}),
    "task_dir": lambda name: a_job(do="evaluate", evaluation={"task": "mmlu", "task_dir": name}),
    "evaluation.save_dir": lambda name: a_job(do="evaluate", evaluation={"task": "mmlu", "save_dir": name}),
    "a step": lambda name: a_job(steps=[{"name": name}]),
    "queue": lambda name: a_job(resources={"queue": name}),
}


@pytest.mark.parametrize("place", each(PLACES, short=1))
def test_a_job_names_nothing_outside(house, place):
    before = house.outside()
    for name in NAMES.values():
        for query in ("?dry_run=true", ""):
            response = house.door.post(f"/jobs{query}", json=PLACES[place](name))
            stays = place == "cache_dir" and not _leaves(house.settings.models_root, name)
            assert response.status_code == 422 or stays, (place, name, response.text)
            assert "root:" not in response.text
    assert house.outside() == before


def _leaves(root, name):
    """A folder for what is fetched may have any name that no file system takes for a way out."""
    return "\0" in name or len(name) > 1000 or not (root / name).resolve().is_relative_to(root.resolve())


ROW = b'{"instruction": "a", "output": "b"}\n'


@pytest.mark.parametrize("name", each(NAMES.values(), short=2))
def test_an_upload_is_called_as_it_may_be_or_refused(house, name):
    """A name is what its sender calls it; where it lies is ours to say."""
    before = house.outside()
    for suffix in ("", ".jsonl"):
        answers = [
            house.door.put("/datasets/mine", params={"file_name": (name + suffix)[:200]}, content=ROW),
            house.door.post("/datasets/mine/uploads", json={"file_name": (name + suffix)[:200], "size": 3}),
            house.door.post("/v1/uploads", json={
                "purpose": "fine-tune", "filename": (name + suffix)[:500], "mime_type": "text/plain", "bytes": 2
            }),
        ]  # fmt: skip
        form = {"file": (name + suffix, io.BytesIO(ROW))}
        answers.append(house.door.post("/v1/files", data={"purpose": "fine-tune"}, files=form))
        assert {answer.status_code for answer in answers} <= {200, 201, 400, 422}
    assert house.outside() == before
    kept = [path for path in house.settings.artifacts_root.rglob("*") if path.is_file()]
    assert all(path.resolve().is_relative_to(house.settings.artifacts_root.resolve()) for path in kept)


# The tests' client decodes an address twice; what is encoded stands in RAW, too. No address leads to a name with a slash.
PLAIN = sorted((name for name in NAMES.values() if "%" not in name), key=lambda name: "/" in name)


@pytest.mark.parametrize("name", each(PLAIN, short=2))
def test_a_data_set_is_called_by_a_name(house, name):
    before = house.outside()
    address = quote(name, safe="").replace(".", "%2E")  # a client would resolve what is only dots
    for method, path in (
        ("PUT", ""),
        ("DELETE", ""),
        ("GET", ""),
        ("GET", "/content"),
        ("GET", "/versions"),
        ("POST", "/uploads"),
    ):
        body = {"json": {"file_name": "a.jsonl", "size": 3}} if method == "POST" else {"content": ROW}
        response = house.door.request(method, f"/datasets/{address}{path}", params={"file_name": "a.jsonl"}, **body)
        assert response.status_code in (404, 405, 422), (method, path, response.text)
    assert house.outside() == before


ENTRIES = [
    {"file_name": "../../secret.json"},
    {"hf_hub_url": "someone/something"},
    {"ms_hub_url": "someone/something"},
    {"script_url": "../../x.py"},
    {"folder": "../.."},
    {"subset": "../.."},
    {"columns": {"prompt": "../secret"}, "file_name": "/etc/passwd"},
]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: next(iter(entry)))
def test_an_upload_s_entry_leads_nowhere_else(house, entry):
    answers = [
        house.door.put("/datasets/led", params={"file_name": "a.jsonl", "entry": json.dumps(entry)}, content=ROW),
        house.door.post("/datasets/led/uploads", json={"file_name": "a.jsonl", "size": 3, "entry": entry}),
    ]
    if "file_name" not in entry:
        assert [answer.status_code for answer in answers] == [422, 422]
    for answer in answers:
        assert "secret" not in answer.json().get("entry", {}).get("file_name", "")


# As they stand on the wire: a client would tidy them up.
RAW = [
    "/jobs/{job}/artifacts/../../../secret.json",
    "/jobs/{job}/artifacts/..%2f..%2f..%2fsecret.json",
    "/jobs/{job}/artifacts/%2e%2e/%2e%2e/%2e%2e/secret.json",
    "/jobs/{job}/artifacts/..%252f..%252fsecret.json",
    "/jobs/{job}/artifacts//etc/passwd",
    "/jobs/{job}/artifacts/%2fetc%2fpasswd",
    "/jobs/{job}/artifacts/notes.txt%00.png",
    "/jobs/{job}/artifacts/..;/..;/secret.json",
    "/jobs/{job}/artifacts/..%5c..%5csecret.json",
    "/jobs/{job}/artifacts/%c0%ae%c0%ae/secret.json",
    "/jobs/{job}/artifacts/%ff%fe",
    "/jobs/../../secret.json",
    "/jobs/..%2f..%2fsecret.json",
    "/jobs/%2e%2e/logs",
    "/jobs/{job}/logs?attempt=../../../secret.json",
    "/jobs/{job}/logs?attempt=-1",
    "/jobs/{job}/checkpoints/..%2f/generate",
    "/v1/models/..%2f..%2fsecret.json",
    "/v1/models/../../../etc/passwd",
    "/v1/models//etc/passwd",
    "/v1/files/..%2f..%2fsecret.json/content",
    "/datasets/..%2f..%2fsecret.json/content",
    "/datasets/letters/content/../../../secret.json",
    "/docs/../secret.json",
    "//etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "http://127.0.0.1/../secret.json",
]


def test_an_address_is_taken_as_it_stands(house):
    before = house.outside()
    key = house.bob["authorization"].encode()
    with listening(house.door.app) as port:
        for path in RAW:
            for method in (b"GET", b"HEAD", b"DELETE"):
                address = path.replace("{job}", house.job).encode()
                head = b"%b %b HTTP/1.1\r\nHost: localhost\r\nAuthorization: %b\r\nConnection: close\r\n\r\n"
                raw = head % (method, address, key)
                [answer] = sent(port, FAMILY, raw)
                assert status_of(answer) in (400, 404, 405, 422), (address, answer)
                assert b"root:" not in answer
    assert house.outside() == before
    assert SECRET in (house.root / "secret.json").read_text()
