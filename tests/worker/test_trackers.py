"""Series in TensorBoard's, Weights & Biases' and MLflow's own hands, read back with what they have for that."""

import dataclasses
import json
import struct
import sys
import threading

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from tests.fake_mlflow import fake_mlflow
from tests.worker.stages.attempts import Host, a_job, a_ppo_job, add_judge
from worker import pipeline, trackers
from worker.trackers import Followed, Trackers, following

QUICK = {"max_steps": 3, "save_steps": 2}
NO_MEASURES = {"names": ""}


@pytest.fixture
def host(tmp_path, make_llama, tokenizer_folder):
    return Host(tmp_path, make_llama, tokenizer_folder)


def artifacts(host, attempt, ending):
    return [host.artifacts / message["path"] for message in attempt.of("artifact") if ending in message["name"]]


def scalars(file):
    """(name, update) -> value, of a TensorBoard file."""
    found = {}
    for event in EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "scalars":
                [found[value.tag, event.step]] = value.tensor.float_val
    return found


def told(attempt):
    return {(name, update): value for update, values in attempt.points().items() for name, value in values.items()}


def test_report_to_writes_the_series_where_tensorboard_and_wandb_read_them(host):
    named = {"run_name": "of spring", "project": "fables", "run_tags": ["fox", "grapes"], "wandb_entity": "aesop"}
    attempt = host.done(a_job(training={**QUICK, "report_to": ["tensorboard", "wandb"], **named}, measures=NO_MEASURES))
    assert attempt.notices() == []
    [events] = artifacts(host, attempt, "sft/tensorboard/attempt-1/events.out.tfevents")
    assert scalars(events) == pytest.approx(told(attempt))
    [run] = artifacts(host, attempt, ".wandb")
    assert wandb_run(run) == ("of spring", "fables", ["fox", "grapes"], "aesop")
    assert wandb_history(run) == pytest.approx({key: value for key, value in told(attempt).items() if key[0] == "loss"})
    assert all((host.artifacts / message["path"]).stat().st_size == message["size"] for message in attempt.of("artifact"))


def wandb_history(file):
    """(name, update) -> value of the losses."""
    from wandb.proto import wandb_internal_pb2

    found = {}
    for data in records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        if "loss" in items:
            found["loss", items["_step"]] = items["loss"]
    return found


def wandb_run(file):
    """(name, project, tags, entity) of the run."""
    from wandb.proto import wandb_internal_pb2

    for data in records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.HasField("run"):
            return record.run.display_name, record.run.project, list(record.run.tags), record.run.entity
    return None


def records(data, block=32_768, header=7):
    """Of a LevelDB log: blocks of records, each with its CRC, length and whether it is whole, first, middle or last."""
    at, parts = header, b""
    while at + header <= len(data):
        if block - at % block < header:
            at += block - at % block
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + header : at + header + size]
        at += header + size
        if kind in (1, 4):
            yield parts
            parts = b""


def test_ppo_logger_writes_the_series_of_ppo(host, make_llama):
    add_judge(host, "judge", make_llama(seed=1))
    job = a_ppo_job(finetuning={"ppo_logger": "tensorboard"}, training={"max_steps": 1}, measures=NO_MEASURES)
    attempt = host.done(job)
    [events] = artifacts(host, attempt, "tensorboard")
    assert scalars(events) == pytest.approx(told(attempt))
    assert ("kl", 1) in scalars(events)


def test_a_later_attempt_s_file_has_the_points_before_it_too(host):
    job = a_job(training={"max_steps": 4, "report_to": "tensorboard"}, measures=NO_MEASURES)

    def stop_at_two(message, run):
        if message["message"] == "checkpoint":
            run.wish = "stop"

    first = host.attempt(job, when=stop_at_two)
    second = host.done(job, [first])
    assert list(first.points()) == [1, 2, 3]
    assert list(second.points()) == [4]
    [events] = artifacts(host, second, "tensorboard/attempt-2")
    assert [update for name, update in scalars(events) if name == "loss"] == [1, 2, 3, 4]
    assert [update for name, update in scalars(artifacts(host, first, "tensorboard/attempt-1")[0]) if name == "loss"] == [1, 2, 3]


def test_mlflow_is_told_on_the_operator_s_server(host):
    with fake_mlflow() as server:
        named = {"run_name": "of spring", "project": "fables", "run_tags": "fox"}
        job = a_job(training={**QUICK, "report_to": "mlflow", **named}, measures=NO_MEASURES)
        attempt = run_with(host, job, mlflow_url=server.url)
    assert attempt.notices() == []
    losses = {update: value for name, value, update in server.metrics if name == "loss"}
    assert losses == pytest.approx(dict(enumerate(attempt.losses(), 1)))
    assert server.parameters["training.max_steps"] == "3"
    tags = {tag["key"]: tag["value"] for tag in server.runs[0]["tags"]}
    assert (tags["finebits.step"], tags["fox"]) == ("sft", "")
    assert (server.runs[0]["run_name"], server.experiments) == ("of spring", ["fables"])
    assert server.ended == ["FINISHED"]


def test_a_tracker_is_told_of_no_token(host):
    work = host.work(a_job())
    [step] = work.resolved.steps
    followed = pipeline._followed(work, step)
    assert followed.arguments["model"]["model_name_or_path"] == "tiny"
    assert not [name for name in followed.arguments["model"] if name.endswith("_token")]


def run_with(host, job, **settings):
    plain = host.work
    host.work = lambda *arguments: dataclasses.replace(plain(*arguments), **settings)
    return host.done(job)


def test_a_server_that_is_down_costs_a_notice_and_no_more(host, monkeypatch):
    job = a_job(training={**QUICK, "report_to": ["mlflow", "tensorboard"]}, measures=NO_MEASURES)
    attempt = run_with(host, job, mlflow_url="http://127.0.0.1:9")
    [notice] = attempt.notices()
    assert notice.startswith("sft: mlflow failed, and is told nothing more of sft: ")
    assert len(attempt.losses()) == 3
    assert artifacts(host, attempt, "tensorboard")


def test_a_library_that_is_missing_costs_a_notice_and_no_more(host, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    attempt = host.done(a_job(training={**QUICK, "report_to": "wandb"}, measures=NO_MEASURES))
    [notice] = attempt.notices()
    assert "wandb is not installed on this worker" in notice


# -- a tracker that hangs ----------------------------------------------------------------------------------------------


def a_followed(folder):
    return Followed("job-1", 1, "sft", {}, folder)


class Hanging:
    """Takes one point, and never comes back from it."""

    def __init__(self, followed):
        self.taken = HANGS["taken"]

    def log(self, global_step, values):
        self.taken.set()
        HANGS["end"].wait()

    def close(self):
        pass


HANGS = {}


@pytest.fixture
def hanging():
    HANGS.update(taken=threading.Event(), end=threading.Event())
    yield
    HANGS["end"].set()


def test_one_that_hangs_is_left_behind_when_its_time_is_over(tmp_path, hanging):
    said = []
    slow = Trackers(a_followed(tmp_path), {"slow": Hanging}, said.append)
    slow.note(1, {"loss": 1.0})
    assert HANGS["taken"].wait(60)
    slow.close(seconds=0.1)
    assert said == ["slow did not finish within 0.1 s; what it had not taken then is left out."]


def test_one_that_does_not_keep_up_is_told_nothing_more_and_nobody_waits(tmp_path, hanging, monkeypatch):
    monkeypatch.setattr(trackers, "MOST_WAITING", 5)
    said = []
    slow = Trackers(a_followed(tmp_path), {"slow": Hanging}, said.append)
    for update in range(50):
        slow.note(update, {"loss": 1.0})
    slow.close(seconds=0.1)
    assert said == ["slow does not keep up, and is told nothing more of sft."]


def test_whatever_a_tracker_raises_at_any_moment_is_a_sentence(tmp_path):
    class Raising:
        def __init__(self, followed):
            pass

        def log(self, global_step, values):
            if global_step == 2:
                raise RuntimeError("first line\nsecond line")

        def close(self):
            raise AssertionError("closed all the same")

    said = []
    broken = Trackers(a_followed(tmp_path), {"broken": Raising}, said.append)
    for update in (1, 2, 3):
        broken.note(update, {})
    broken.close(seconds=60)
    assert said == ["broken failed, and is told nothing more of sft: first line"]


def test_a_step_that_fails_leaves_what_was_written(host, monkeypatch):
    def fail(work, run):
        run.points("sft", 1, {"loss": 2.0})
        raise RuntimeError("the stage broke")

    monkeypatch.setitem(pipeline.STAGES, "sft", fail)
    attempt = host.attempt(a_job(training={"report_to": "tensorboard"}))
    assert str(attempt.error) == "the stage broke"
    [events] = artifacts(host, attempt, "tensorboard")
    assert scalars(events) == {("loss", 1): 2.0}


def test_without_a_tracker_nothing_is_begun(tmp_path):
    with following(None, a_followed(tmp_path), []):
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("tracker")]
