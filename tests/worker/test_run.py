import inspect
import json
from pathlib import Path

import numpy as np
import pytest

from service.specs.reasons import Reason
from tests.worker.stages.attempts import Pipe
from worker.run import Run, Stopped
from worker.supervise import WRITERS

ROOT = Path("/artifacts")

# Everything that a stage may say, said once.
SAID = {
    "event": lambda run: run.event("notice", "Something is so.", step="sft", rows=3),
    "progress": lambda run: run.progress(phase="training"),
    "points": lambda run: run.points("sft", 10, {"loss": 2.5}),
    "checkpoint": lambda run: run.checkpoint("sft", 10, ROOT / "job" / "1" / "sft" / "checkpoint-10", 0.5, 2.5, [{"name": "f"}]),
    "measurement": lambda run: run.measurement("sft", None, "validation", {"nll": [1.5]}, [{"value": None}]),
    "artifact": lambda run: run.artifact("sft/loss.png", ROOT / "job" / "1" / "sft" / "loss.png", 7, "abc"),
    "piece": lambda run: run.piece(0, "the "),
    "step_finished": lambda run: run.step_finished(1, "sft", ROOT / "job" / "1" / "sft" / "checkpoint-10", {"updates": 10}),
    "succeeded": lambda run: run.succeeded(),
    "failed": lambda run: run.failed(Reason.BAD_ROW, "Row 3 is bad.", {"row": 3}),
    "stopped": lambda run: run.stopped(),
}


def a_run() -> tuple[Run, list]:
    pipe = Pipe()
    return Run(pipe, ROOT), pipe.messages


def test_everything_that_can_be_said_is_said_here():
    methods = {name for name, _ in inspect.getmembers(Run, inspect.isfunction) if not name.startswith("_")}
    assert methods - {"check", "remind"} == set(SAID)


def test_every_message_has_a_writer_and_every_writer_a_message():
    run, messages = a_run()
    for say in SAID.values():
        say(run)
    assert {message["message"] for message in messages} == {*WRITERS, "outcome"}


@pytest.mark.parametrize("name", [name for name in SAID if name not in ("succeeded", "failed", "stopped")])
def test_a_message_has_all_that_its_writer_reads(name):
    run, messages = a_run()
    SAID[name](run)
    (message,) = messages
    source = inspect.getsource(WRITERS[message["message"]])
    read = {part.split('"')[0] for part in source.split('message["')[1:]}
    assert read <= set(message)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("succeeded", {"outcome": "succeeded"}),
        ("failed", {"outcome": "failed", "reason": "bad_row", "sentence": "Row 3 is bad.", "details": {"row": 3}}),
        ("stopped", {"outcome": "stopped"}),
    ],
)
def test_an_outcome_is_said_with_its_reason(name, message):
    run, messages = a_run()
    SAID[name](run)
    assert messages == [{"message": "outcome", **message}]


def test_paths_are_told_from_the_artifact_root_on():
    run, messages = a_run()
    SAID["checkpoint"](run)
    SAID["artifact"](run)
    SAID["step_finished"](run)
    paths = [message.get("path", message.get("output")) for message in messages]
    assert paths == ["job/1/sft/checkpoint-10", "job/1/sft/loss.png", "job/1/sft/checkpoint-10"]


def test_a_path_outside_the_artifact_root_is_never_told():
    run, messages = a_run()
    with pytest.raises(ValueError, match="not in the subpath"):
        run.artifact("passwd", Path("/etc/passwd"), 1, "abc")
    assert messages == []


def test_numbers_of_numpy_arrive_as_numbers_and_what_is_not_finite_as_null():
    run, messages = a_run()
    sums = {"nll": np.array([1.5, np.nan]), "n_tokens": [np.int64(3)]}
    run.measurement("sft", 2, "train", sums, [{"value": np.float32(0.5), "interval": [float("inf"), 1.0]}])
    assert messages[0]["documents"] == {"nll": [1.5, None], "n_tokens": [3]}
    assert messages[0]["metrics"] == [{"value": 0.5, "interval": [None, 1.0]}]
    json.dumps(messages, allow_nan=False)


def test_progress_stays_until_it_is_set_again():
    run, messages = a_run()
    run.progress(step="sft", loss=2.5)
    run.progress(loss=None)
    assert [message["progress"] for message in messages] == [{"step": "sft", "loss": 2.5}, {"step": "sft", "loss": None}]


@pytest.mark.parametrize("wish", ["cancel", "stop"])
def test_a_wish_is_obeyed_where_it_is_asked_after(wish):
    run, _ = a_run()
    run.check()
    run.wish = wish
    with pytest.raises(Stopped, match=wish):
        run.check()
