"""Whole steps of the stage ppo, of a tiny model that is scored by another."""

import json

import pytest
import torch
from safetensors.torch import load_file

from service.specs.finetuning import FinetuningArguments
from service.specs.reasons import Reason
from tests.worker.stages.attempts import a_ppo_job, add_judge, changed
from worker import checkpoints
from worker.models import value_head
from worker.ppo.equations import Moments
from worker.ppo.experience import Experience
from worker.ppo.progress import Progress
from worker.run import Stopped
from worker.stages import ppo as stage


@pytest.fixture
def host(host, make_llama):
    add_judge(host, "judge", make_llama(seed=1))
    return host


def critic(host, attempt):
    return load_file(host.folder(attempt) / value_head.SAFE)


# -- what an update learns from ----------------------------------------------------------------------------------------


def test_a_step_of_the_stage_ppo_learns_from_its_own_responses(host):
    attempt = host.done(a_ppo_job(training={"max_steps": 2}))
    first, second = attempt.points().values()
    assert first["kl"] == pytest.approx(0, abs=1e-5), "a new adapter is the reference"
    assert first["kl_coef"] == pytest.approx(0.2)
    assert second["kl"] != 0
    assert first["loss"] == pytest.approx(first["policy_loss"] + 0.1 * first["value_loss"], rel=1e-5)
    assert 1 <= first["response_tokens"] <= 6
    assert {"score", "score_std", "reward", "reward_std", "entropy", "clip_fraction", "explained_variance"} <= set(first)
    assert attempt.checkpoints() == [2]
    assert attempt.measured() == [None, 2]
    rows = attempt.rows()
    assert rows[2, "cross_entropy"]["value"] != rows[None, "cross_entropy"]["value"]
    assert rows[2, "kl_from_base"]["value"] > 0
    assert float(critic(host, attempt)["v_head.summary.bias"]) != 0


def test_the_prompts_are_told_of(host):
    (event,) = host.done(a_ppo_job(training={"max_steps": 1}, measures={"names": ""})).events("data_loaded")
    assert event["text"].startswith("ppo: 10 prompts of ")


def a_buffer():
    """Two texts of three predictions; the responses are of two tokens and one."""
    mask = torch.tensor([[0.0, 1, 1], [0, 0, 1]])
    return Experience(
        input_ids_BN=torch.zeros(2, 4, dtype=torch.long),
        attention_mask_BN=torch.ones(2, 4, dtype=torch.long),
        mask_BT=mask,
        logp_BT=torch.tensor([[9.0, -1, -2], [9, 9, -1]]),
        ref_logp_BT=torch.tensor([[0.0, -2, -2], [0, 0, -3]]),
        entropy_BT=mask,
        values_BT=torch.zeros(2, 3),
        scores_B=torch.tensor([1.0, 4.0]),
    )


def test_a_reward_is_the_score_less_the_penalty_and_the_penalty_alone_before_the_last_token():
    # beta 0.5: −0.5 · 1 and 1 − 0.5 · 0; 4 − 0.5 · 2
    lesson = stage.appraise(a_buffer(), FinetuningArguments(), Progress(kl_coefficient=0.5))
    assert lesson.rewards_BT.tolist() == [[0, -0.5, 1], [0, 0, 3]]


def test_ppo_score_norm_takes_the_mean_of_all_scores_so_far_off_and_divides_by_their_deviation():
    # so far 1, 4 and 7: mean 4, deviation 3. (1 − 4)/3 = −1 and 0
    seen = Progress(kl_coefficient=0.0, scores=Moments().after(torch.tensor([7.0])))
    lesson = stage.appraise(a_buffer(), FinetuningArguments(ppo_score_norm=True), seen.having_seen(a_buffer().scores_B))
    torch.testing.assert_close(lesson.rewards_BT, torch.tensor([[0.0, 0, -1], [0, 0, 0]]))


def test_ppo_whiten_rewards_gives_the_rewards_a_deviation_of_1_and_leaves_their_mean():
    # −0.5, 1 and 3 as above
    lesson = stage.appraise(a_buffer(), FinetuningArguments(ppo_whiten_rewards=True), Progress(kl_coefficient=0.5))
    rewards = lesson.rewards_BT[a_buffer().mask_BT == 1]
    assert float(rewards.std()) == pytest.approx(1)
    assert float(rewards.mean()) == pytest.approx(3.5 / 3)


def test_advantages_are_whitened_and_returns_are_not():
    lesson = stage.appraise(a_buffer(), FinetuningArguments(), Progress(kl_coefficient=0.5))
    advantages = lesson.advantages_BT[a_buffer().mask_BT == 1]
    assert (float(advantages.mean()), float(advantages.std())) == pytest.approx((0, 1), abs=1e-6)
    # R = A + 0: 1; −0.5 + 0.95 · 1 = 0.45; 3
    torch.testing.assert_close(lesson.returns_BT, torch.tensor([[0.0, 0.45, 1], [0, 0, 3]]))


@pytest.mark.parametrize(("ppo_buffer_size", "ppo_epochs"), [(1, 1), (3, 2)])
def test_a_buffer_is_written_in_batches_and_passed_over_ppo_epochs_times(host, monkeypatch, ppo_buffer_size, ppo_epochs):
    asked = []
    respond = stage.respond
    monkeypatch.setattr(
        stage, "respond", lambda model, prompts, *how: asked.append(len(prompts)) or respond(model, prompts, *how)
    )
    sizes = {"ppo_buffer_size": ppo_buffer_size, "ppo_epochs": ppo_epochs}
    attempt = host.done(a_ppo_job(finetuning=sizes, training={"max_steps": 2}, measures={"names": ""}))
    assert asked == [2] * (2 * ppo_buffer_size) * 2, "batches of two, two of them a step, ppo_buffer_size steps a pass"
    optimizer = torch.load(host.folder(attempt) / "optimizer.pt", weights_only=True)
    steps = {int(state["step"]) for state in optimizer["state"].values()}
    assert steps == {2 * ppo_epochs * ppo_buffer_size}


@pytest.mark.parametrize(("epochs", "updates"), [(1, 2), (1.7, 3), (0.1, 1)])
def test_updates_are_as_many_as_the_epochs_have_buffers(host, epochs, updates):
    """Ten prompts in buffers of eight: the second reaches over the end of the epoch."""
    job = a_ppo_job(training={"max_steps": -1, "num_train_epochs": epochs}, measures={"names": ""}, finetuning={"ppo_epochs": 1})
    (step,) = host.done(job).of("step")
    assert step["summary"] == {"updates": updates, "epochs": updates * 8 / 10}


def test_ppo_target_says_which_way_the_coefficient_goes(host):
    def coefficients(target):
        job = a_ppo_job(finetuning={"ppo_target": target, "ppo_epochs": 1}, training={"max_steps": 3, "learning_rate": 1e-2})
        return [point["kl_coef"] for point in host.done(job | {"measures": {"names": ""}}).points().values()]

    # the first KL is 0 and a fifth below any target, of eight texts: 0.2 (1 − 0.2 · 8/10000)
    assert coefficients(1e9)[1:] == pytest.approx([0.2 * (1 - 0.00016), 0.2 * (1 - 0.00016) ** 2], rel=1e-6)
    assert coefficients(1e-9)[2] == pytest.approx(0.2 * (1 - 0.00016) * (1 + 0.00016), rel=1e-6)


def test_accumulated_batches_are_one_batch(host):
    def run(**sizes):
        job = a_ppo_job(training={"max_steps": 1, "optim": "sgd", **sizes})
        job["finetuning"]["ppo_epochs"] = 1
        job["finetuning"]["ppo_buffer_size"] = 1
        return host.weights(host.done(job | {"measures": {"names": ""}}))

    one = run(per_device_train_batch_size=8, gradient_accumulation_steps=1)
    four = run(per_device_train_batch_size=2, gradient_accumulation_steps=4)
    for name in one:
        torch.testing.assert_close(four[name], one[name], rtol=1e-5, atol=1e-7)


# -- the models beside it ----------------------------------------------------------------------------------------------


def test_a_reference_that_is_named_is_the_one_that_the_kl_is_from(host, make_llama):
    host.add_model("other", make_llama(seed=2))
    job = a_ppo_job(finetuning={"ref_model": "other"}, training={"max_steps": 1}, measures={"names": ""})
    assert host.done(job).points()[1]["kl"] > 0.01


def test_the_scores_are_those_of_the_reward_model(host, make_llama):
    add_judge(host, "generous", make_llama(seed=1), bias=100.0)

    def score(name):
        job = a_ppo_job(finetuning={"reward_model": name}, training={"max_steps": 1}, measures={"names": ""})
        return host.done(job).points()[1]["score"]

    assert score("generous") == pytest.approx(score("judge") + 100, abs=1e-3)


def test_the_critic_of_an_earlier_ppo_step_goes_on(host):
    steps = [{"name": "first"}, {"name": "second", "model": {"model_name_or_path": "@first"}}]
    job = a_ppo_job(training={"max_steps": 1}, measures={"names": ""}) | {"steps": steps}
    attempt = host.done(job)
    assert attempt.points("first")[1]["explained_variance"] == pytest.approx(0, abs=1e-6), "a new critic answers 0 everywhere"
    assert attempt.points("second")[1]["explained_variance"] != pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("finetuning", "trained"),
    [
        ({"finetuning_type": "full"}, {"all"}),
        ({"finetuning_type": "freeze", "num_layer_trainable": 1}, {"model.layers.1.mlp"}),
    ],
    ids=["full", "freeze"],
)
def test_what_trains_is_what_the_finetuning_type_says(host, finetuning, trained):
    attempt = host.done(a_ppo_job(finetuning=finetuning, training={"max_steps": 1, "learning_rate": 1e-2}))
    before = load_file(host.models / "tiny" / "model.safetensors")
    moved = changed(before, host.weights(attempt))
    if trained == {"all"}:
        assert moved == set(before)
    else:
        assert moved
        assert all(name.startswith(tuple(trained)) for name in moved)
    assert attempt.points()[1]["kl"] == pytest.approx(0, abs=1e-5), "the reference is a copy of the start"


def test_bf16_rounds_the_policy_and_its_reference_alike(host):
    whole = host.done(a_ppo_job(training={"max_steps": 1})).points()[1]
    rounded = host.done(a_ppo_job(training={"max_steps": 1, "bf16": True})).points()[1]
    assert rounded["kl"] == pytest.approx(0, abs=1e-5)
    assert rounded["grad_norm"] != whole["grad_norm"]


# -- seeds and wishes ---------------------------------------------------------------------------------------------------


class Killed(Exception):
    """In place of a signal."""


@pytest.fixture(autouse=True)
def _every_update_is_told(monkeypatch):
    monkeypatch.setattr("worker.stages.callbacks.PROGRESS_SECONDS", 0)


def killed_at_checkpoint(update):
    def when(message, run):
        if message["message"] == "checkpoint" and message["global_step"] == update:
            raise Killed

    return when


def wished_after(update, wish):
    def when(message, run):
        progress = message.get("progress", {})
        if progress.get("phase") == "training" and progress["global_step"] == update:
            run.wish = wish

    return when


SMALL = {"ppo_buffer_size": 1, "ppo_epochs": 1}


def test_the_seed_repeats_a_run_and_another_draws_other_responses(host):
    def scores(**seeds):
        job = a_ppo_job(training={"max_steps": 1, **seeds}, measures={"names": ""}, finetuning=SMALL)
        return host.done(job).points()[1]["score"]

    first = scores(seed=1)
    assert first == scores(seed=1, data_seed=1)
    assert first != scores(seed=2)
    assert first != scores(seed=1, data_seed=2)


def test_a_cancelled_run_stops_at_the_next_update_without_a_checkpoint(host):
    attempt = host.attempt(a_ppo_job(training={"save_steps": 3}), when=wished_after(1, "cancel"))
    assert isinstance(attempt.error, Stopped)
    assert list(attempt.points()) == [1]
    assert attempt.checkpoints() == attempt.of("step") == []


def test_a_step_that_had_ended_is_finished_without_a_reward_model(host):
    job = a_ppo_job(training={"max_steps": 2})
    first = host.attempt(job, when=killed_at_checkpoint(2))
    (host.models / "judge").rename(host.models / "gone")
    second = host.done(job, earlier=[first])
    assert second.of("points") == second.of("checkpoint") == []
    assert second.measured() == [None, 2]


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_a_score_that_is_no_number_ends_the_job_and_leaves_the_last_checkpoint(host, monkeypatch):
    class Failing:
        def __init__(self, scorer):
            self.scorer, self.left = scorer, 11  # two updates and most of a third, four batches each

        def score(self, *texts):
            self.left -= 1
            return self.scorer.score(*texts) / (0 if self.left < 0 else 1)

    opened = stage.open_scorer
    monkeypatch.setattr(stage, "open_scorer", lambda *given: Failing(opened(*given)))
    attempt = host.attempt(a_ppo_job())
    assert attempt.error.reason == Reason.DIVERGED
    assert attempt.error.sentence.startswith("The score of a response became ")
    assert (list(attempt.points()), attempt.checkpoints()) == ([1, 2], [2])


def test_a_loss_that_is_no_number_ends_the_job_and_leaves_the_last_good_checkpoint(host):
    """At a rate of nothing, one of a little, and one that nothing survives."""
    rate = {"learning_rate": 1e30, "max_grad_norm": 0, "lr_scheduler_type": "constant_with_warmup", "warmup_steps": 2}
    job = a_ppo_job(training=rate | {"max_steps": 4, "save_steps": 1}, measures={"names": ""})
    attempt = host.attempt(job)
    assert attempt.error.reason == Reason.DIVERGED
    assert attempt.error.sentence.startswith("The loss became nan at update 2."), attempt.error.sentence
    json.dumps(attempt.messages, allow_nan=False)
    assert attempt.checkpoints() == [1]
    assert checkpoints.is_complete(host.folder(attempt))
    kept = [*host.weights(attempt).values(), *critic(host, attempt).values()]
    assert all(tensor.isfinite().all() for tensor in kept)
    assert [event["data"]["global_step"] for event in host.attempt(job, earlier=[attempt]).events("resumed")] == [1]


def test_prompts_longer_than_cutoff_len_are_cut_and_counted(host):
    data = {"cutoff_len": 12, "reserved_label_len": 4}
    attempt = host.done(a_ppo_job(data=data, training={"max_steps": 1}, measures={"names": ""}))
    (event,) = attempt.events("data_loaded")
    assert event["text"] == "ppo: 10 prompts of 80 tokens, 10 truncated."


def test_a_job_whose_prompts_fill_max_length_ends_before_a_model_is_loaded(host):
    attempt = host.attempt(a_ppo_job(generating={"max_new_tokens": 0, "max_length": 5}))
    assert attempt.error.reason == Reason.BAD_DATA
    assert attempt.events("model_loaded") == []
