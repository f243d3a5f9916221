"""Two workers that share a database, a broker and an S3, and no folder: what two hosts are to each other."""

import hashlib
import os
import signal

import pytest

from service.app import create_app
from service.settings import Settings
from tests.running import Running, job
from tests.servers import S3
from tests.service.api.door import Bell, Door

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_job_whose_host_is_lost_goes_on_on_another_and_its_files_are_served(running: Running, s3: S3) -> None:
    url = f"s3://finebits/hosts-{os.getpid()}"
    hosts = {name: running.home / name for name in ("one", "two")}
    settings = {"FINEBITS_ARTIFACTS_URL": url, "FINEBITS_LOG_SECONDS": "0.5"}
    first = running.start_worker(FINEBITS_ARTIFACTS_ROOT=str(hosts["one"]), **settings)
    undisturbed = running.submit(job())
    assert running.wait_for_end(undisturbed).state == "succeeded"

    # lost in mid-training, with a checkpoint in the store: the worker and all that it started
    job_id = running.submit(job())
    running.wait(job_id, lambda found: "checkpoint_saved" in running.kinds(job_id))
    children = running.children(first)
    os.kill(first.pid, signal.SIGKILL)
    for child in children:
        child.kill()
    assert "succeeded" not in running.kinds(job_id)
    running.forget_the_dead()
    running.start_worker(FINEBITS_ARTIFACTS_ROOT=str(hosts["two"]), **settings)
    ended = running.wait_for_end(job_id)
    assert (ended.state, ended.attempt, ended.lost) == ("succeeded", 2, 1)
    assert "resumed" in running.kinds(job_id)
    assert running.series(job_id) == pytest.approx(running.series(undisturbed), rel=1e-6)
    assert running.cross_entropies(job_id) == pytest.approx(running.cross_entropies(undisturbed), rel=1e-6)
    assert sorted(running.cross_entropies(job_id)) == [-1, 10, 20, 30, 40, 50, 60]
    assert [path.name for path in hosts["two"].glob(f"{job_id}/*/sft/checkpoint-*")] == ["checkpoint-60"]
    assert not running.artifacts.exists(), "no host wrote where the other could see it"

    # the API runs on a third host
    api = Settings(home=running.home / "three", artifacts_url=url, s3_endpoint=s3.endpoint)
    with Door(create_app(api, running.database, Bell())) as door:
        artifacts = door.get(f"/jobs/{job_id}/artifacts").json()["data"]
        assert {artifact["attempt"] for artifact in artifacts} >= {1, ended.attempt}
        for artifact in artifacts:
            body = door.get(artifact["url"]).content
            assert (len(body), hashlib.sha256(body).hexdigest()) == (artifact["size"], artifact["sha256"])
        assert door.get(f"/jobs/{job_id}/logs?tail=1").text.startswith("sft 60/60")
        assert "sft 7/60" in door.get(f"/jobs/{undisturbed}/logs").text
