"""What ppo is scored by: an earlier step's reward model, one in the models folder, or an API."""

import shutil

import pytest

from service.specs.reasons import Reason
from tests.fake_rewards import fake_rewards, scores
from tests.worker.stages.attempts import a_job, a_preference_job, training
from worker import pipeline
from worker.rewards import opening

SHORT = training(max_steps=1, save_steps=1)
PPO = {"stage": "ppo", "ppo_epochs": 1}


def a_pipeline(rm=None, ppo=None):
    """sft -> rm -> ppo, each of one update."""
    steps = [
        {"name": "sft", "finetuning": {"stage": "sft"}},
        {
            "name": "rm",
            "model": {"model_name_or_path": "@sft"},
            "data": {"dataset": "better"},
            "finetuning": {"stage": "rm"} | (rm or {}),
            "training": training(max_steps=3, save_steps=3),
        },
        {
            "name": "ppo",
            "model": {"model_name_or_path": "@sft"},
            "finetuning": PPO | {"reward_model": "@rm"} | (ppo or {}),
            "generating": {"max_new_tokens": 4},
        },
    ]
    job = a_job(training=SHORT, measures={"names": ""}, steps=steps)
    return job | {"finetuning": {}}


@pytest.fixture
def opened(monkeypatch):
    """What each scorer was opened on, and what it answered."""
    seen = []

    def spied(work, *arguments):
        scorer = opening.open_scorer(work, *arguments)
        score = scorer.score

        def told(*texts):
            answer = score(*texts)
            seen.append((type(scorer).__name__, work.companions.get("reward"), answer, texts[0]))
            return answer

        scorer.score = told
        return scorer

    monkeypatch.setattr("worker.stages.ppo.open_scorer", spied)
    return seen


@pytest.mark.parametrize(
    ("rm", "ppo", "kind"),
    [
        ({}, {}, "SwappedAdapter"),
        ({}, {"reward_model_type": "full"}, "WholeModel"),
        ({"finetuning_type": "full"}, {"reward_model_type": "full"}, "WholeModel"),
        ({}, {"reward_model_type": "full", "finetuning_type": "full"}, "WholeModel"),
    ],
    ids=["an adapter swapped in", "an adapter on its own base", "a whole model", "a policy that trains whole"],
)
def test_sft_rm_and_ppo_are_one_job(host, opened, rm, ppo, kind):
    attempt = host.done(a_pipeline(rm, ppo))
    assert [message["step"] for message in attempt.of("step")] == ["sft", "rm", "ppo"]
    rm_folder = host.folder(attempt, "rm")
    [(opened_as, beside, answer, _), *_] = opened
    assert opened_as == kind
    assert (beside.start.adapters[-1].folder if beside.start.adapters else beside.start.whole) == rm_folder
    assert attempt.points("ppo")[1]["score"] == pytest.approx(float(answer.mean()), abs=1e-6)
    files = {file["name"] for file in attempt.of("checkpoint", "ppo")[-1]["files"]}
    assert "value_head.safetensors" in files
    assert not any(name.startswith("reward/") for name in files)


def test_each_type_of_reward_model_scores_what_ppo_writes(host, opened):
    """lora and full of one reward model agree on the same text, and an API has its own mind."""
    first = host.done(a_preference_job(finetuning={"stage": "rm"}, training=training(max_steps=3), measures={"names": ""}))
    shutil.copytree(host.folder(first), host.models / "scorer")
    job = {**a_job(training=SHORT, measures={"names": ""}, generating={"max_new_tokens": 4})}
    whole = {"reward_model": "tiny", "reward_model_adapters": "scorer", "reward_model_type": "full"}
    for finetuning in ({"reward_model": "scorer"}, whole):
        shutil.rmtree(host.artifacts / "job-1")
        host.done({**job, "finetuning": PPO | finetuning})
    (lora, _, of_lora, texts), (full, _, of_full, same_texts) = opened
    assert (lora, full) == ("SwappedAdapter", "WholeModel")
    assert texts.tolist() == same_texts.tolist()
    assert of_lora.tolist() == pytest.approx(of_full.tolist(), abs=1e-5)
    with fake_rewards() as server:
        server.answers = [lambda asked: scores([0.5] * len(asked["messages"]))]
        host.reward_hosts = server.host
        shutil.rmtree(host.artifacts / "job-1")
        attempt = host.done({**job, "finetuning": PPO | {"reward_model": server.url, "reward_model_type": "api"}})
        assert attempt.points()[1]["score"] == 0.5
        assert all("says the" in text for text in server.asked[0]["messages"])


def test_an_api_is_asked_with_the_step_s_own_key_which_is_in_no_file(host):
    with fake_rewards() as server:
        host.reward_hosts = server.host
        api = {"reward_model": server.url, "reward_model_type": "api", "reward_api_key": "rk-verysecret"}
        job = a_job(training=SHORT, measures={"names": ""}, generating={"max_new_tokens": 4})
        host.done({**job, "finetuning": PPO | api})
    assert set(server.authorized) == {"Bearer rk-verysecret"}
    files = [file for file in host.artifacts.rglob("*") if file.is_file()]
    assert files
    assert not [file for file in files if b"rk-verysecret" in file.read_bytes()]


def test_an_api_that_is_wrong_ends_the_job_with_a_reason_and_the_last_checkpoint_kept(host):
    with fake_rewards() as server:
        server.answers = [lambda asked: scores([0.5] * len(asked["messages"])), lambda asked: scores([])]
        host.reward_hosts = server.host
        values = {"measures": {"names": ""}, "generating": {"max_new_tokens": 4}}
        api = {"reward_model": server.url, "reward_model_type": "api"}
        attempt = host.attempt({**a_job(training=training(max_steps=2, save_steps=1), **values), "finetuning": PPO | api})
    assert attempt.error.reason == Reason.REWARD_API_WRONG
    assert attempt.checkpoints() == [1]


def test_a_worker_whose_operator_lists_no_host_asks_none(host):
    with fake_rewards() as server:
        api = {"reward_model": server.url, "reward_model_type": "api"}
        attempt = host.attempt({**a_job(training=SHORT, measures={"names": ""}), "finetuning": PPO | api})
        assert server.asked == []
    assert attempt.error.reason == Reason.REWARD_API_NOT_ALLOWED
    assert attempt.points() == {}


def test_every_stage_has_a_function():
    assert set(pipeline.STAGES) == {"pt", "sft", "rm", "ppo", "dpo"}
