"""The whole way of a push, from the request to the hub, and nothing of its token on the way: files, database, logs, events."""

import base64
import shutil
from pathlib import Path

import pytest
from pydantic import SecretStr

from service.embedded import running
from service.settings import Settings
from tests.fake_hub import fake_hub
from tests.test_whole_way import EXAMPLES, ended

pytestmark = [pytest.mark.slow, pytest.mark.long]

TOKEN = "hf_verysecret"
KEY = SecretStr(base64.urlsafe_b64encode(bytes(range(32))).decode())


def test_a_job_exports_and_pushes_and_its_token_is_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    shutil.copytree(EXAMPLES / "models", home / "models")
    shutil.copytree(EXAMPLES / "data", home / "datasets" / "data")
    job = {
        "do": "export",
        "model": {"model_name_or_path": "tiny-llama", "export_hub_model_id": "ann/tiny", "hf_hub_token": TOKEN},
        "data": {"dataset": "instructions", "template": "alpaca", "cutoff_len": 64, "max_samples": 20, "val_size": 8},
        "resources": {"gpus": 0},
    }
    with fake_hub() as hub:
        hub.writer = TOKEN
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        settings = Settings(home=home, port=0, hub=True, hub_push=True, secret_key=KEY)
        with running(settings) as started, started.client() as client:
            done = ended(client, client.submit(job)["id"])
            assert done["state"] == "succeeded", f"{done['reason']}: {done['sentence']}\n{client.logs(done['id'])[-3000:]}"
            refused = ended(client, client.submit(job | {"model": job["model"] | {"hf_hub_token": f"{TOKEN}er"}})["id"])
            told = str([client.events(one["id"]) for one in (done, refused)]) + str([done, refused])
    assert (refused["reason"], "hf_hub_token" in refused["sentence"]) == ("push_refused", True)
    assert "config.json" in hub.repositories["ann/tiny"]
    assert TOKEN not in told
    files = [path for path in home.rglob("*") if path.is_file()]
    assert {"finebits.db"} <= {path.name for path in files}
    assert any(path.suffix == ".log" and path.stat().st_size for path in files)
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]
