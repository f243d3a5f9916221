import hashlib

import pytest

from tests.worker.stages.attempts import a_job, a_ppo_job, a_preference_job, add_judge
from worker.stages import plots
from worker.stages.plots import draw


def test_the_curve_has_one_point_for_each_point_of_the_series(host, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "draw", lambda *what: figures.append(draw(*what)) or figures[-1])
    values = {"max_steps": 5, "logging_steps": 2}
    attempt = host.done(a_job(finetuning={"plot_loss": True}, training=values, measures={"names": ""}))
    (axes,) = figures[0].axes
    (line,) = axes.lines
    assert list(line.get_xdata()) == list(attempt.points()) == [2, 4, 5]
    assert list(line.get_ydata()) == attempt.losses()
    assert (axes.get_title(), axes.get_ylabel()) == ("Training loss of sft", "loss (nats/token)")


@pytest.mark.parametrize("job", [a_preference_job, a_ppo_job])
def test_a_loss_of_several_parts_has_no_unit(host, make_llama, monkeypatch, job):
    """A hinge or a square, and policy and values together, are no nats."""
    add_judge(host, "judge", make_llama(seed=1))
    figures = []
    monkeypatch.setattr(plots, "draw", lambda *what: figures.append(draw(*what)) or figures[-1])
    host.done(job(finetuning={"plot_loss": True}, training={"max_steps": 1}, measures={"names": ""}))
    assert figures[0].axes[0].get_ylabel() == "loss"


def test_the_picture_is_an_artifact_of_the_step(host):
    attempt = host.done(a_job(finetuning={"plot_loss": True}, training={"max_steps": 1}, measures={"names": ""}))
    (artifact,) = attempt.of("artifact")
    picture = (host.artifacts / artifact["path"]).read_bytes()
    assert (artifact["name"], artifact["path"]) == ("sft/training_loss.png", "job-1/1/sft/training_loss.png")
    assert picture.startswith(b"\x89PNG")
    assert (artifact["size"], artifact["sha256"]) == (len(picture), hashlib.sha256(picture).hexdigest())


def test_no_picture_is_drawn_unasked(host):
    assert host.done(a_job(training={"max_steps": 1}, measures={"names": ""})).of("artifact") == []
