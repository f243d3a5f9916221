"""The job with a reward server, run as it stands but shorter, against the server of the examples."""

import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
import reward_server
import yaml

from tests.worker.stages.attempts import Host

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), reward_server.RewardModel)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_job_with_a_reward_server_runs(tmp_path, server):
    document = yaml.safe_load((EXAMPLES / "ppo-api.yaml").read_text(encoding="utf-8"))
    step = document["steps"][1]
    assert step["finetuning"]["reward_model"] == "http://127.0.0.1:8900/score"
    step["finetuning"]["reward_model"] = f"http://{server}/score"
    document["data"]["max_samples"] = 80
    document["training"] |= {"max_steps": 1, "save_steps": 1}
    step["training"] |= {"max_steps": 2, "save_steps": 2}
    host = Host.of_folders(tmp_path, EXAMPLES / "models", EXAMPLES)
    host.reward_hosts = server
    attempt = host.done(document)
    assert list(attempt.points("ppo")) == [1, 2]
    assert attempt.points("ppo")[1]["score"] < 0
    assert attempt.measured("ppo") == [None, 2]


def test_a_text_of_short_words_scores_higher():
    assert reward_server.score("a b c") == -1 > reward_server.score("abc def")
    assert reward_server.score("") == 0
