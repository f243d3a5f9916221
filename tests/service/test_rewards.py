"""Reward models in the operator's folders, and reward APIs on the operator's hosts."""

from dataclasses import replace

import pytest

from service.library import plan
from service.library.check import check
from service.specs.read import read_job
from service.specs.refusals import SpecRefused
from tests.service import shelves
from tests.service.test_library import lora, write_adapter
from tests.specs.job_documents import a_job


@pytest.fixture
def roots(tmp_path):
    return shelves.stocked(tmp_path)


def refusals_of(roots, **finetuning):
    document = a_job(finetuning={"stage": "ppo", **finetuning})
    try:
        read_job(document, lambda spec, resolved: check(roots, spec, resolved))
    except SpecRefused as refused:
        return [(refusal.pointer, refusal.detail) for refusal in refused.refusals]
    return []


def add_head(folder):
    (folder / "value_head.safetensors").touch()


def test_a_reward_model_without_a_head_beside_it_is_refused(roots):
    says = "The reward model 'org/small' has no value_head.safetensors beside it: train one with the stage rm."
    full = {"reward_model": "org/small", "reward_model_type": "full"}
    assert refusals_of(roots, **full) == [("/finetuning/reward_model", says)]
    add_head(roots.models / "org" / "small")
    assert refusals_of(roots, **full) == []


def test_so_is_an_adapter_without_one_in_either_place(roots):
    write_adapter(roots, "scorer", shapes=lora())
    as_adapter = {"reward_model": "scorer"}
    on_its_own = {"reward_model": "tiny", "reward_model_adapters": "scorer", "reward_model_type": "full"}
    assert [pointer for pointer, _ in refusals_of(roots, **as_adapter)] == ["/finetuning/reward_model"]
    assert [pointer for pointer, _ in refusals_of(roots, **on_its_own)] == ["/finetuning/reward_model_adapters"]
    add_head(roots.models / "scorer")
    assert refusals_of(roots, **as_adapter) == refusals_of(roots, **on_its_own) == []


def test_a_reward_model_that_is_not_there_is_refused_with_those_that_are(roots):
    [(pointer, says)] = refusals_of(roots, reward_model="nothing", reward_model_type="full")
    assert (pointer, "There is no model 'nothing'" in says) == ("/finetuning/reward_model", True)
    [(pointer, says)] = refusals_of(roots, reward_model="nothing")
    assert (pointer, "There is no adapter 'nothing'" in says) == ("/finetuning/reward_model", True)
    [(pointer, says)] = refusals_of(roots, reward_model="tiny")
    assert (pointer, "is a whole model, not an adapter" in says) == ("/finetuning/reward_model", True)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://rewards.example:9000/score", None),
        ("http://rewards.example/score", "host rewards.example:80 is not among the operator's FINEBITS_REWARD_HOSTS"),
        ("http://rewards.example:9000@evil.org/", "with neither user nor password"),
        ("scorer", "is the URL of its endpoint"),
    ],
)
def test_a_reward_api_is_asked_where_the_operator_lists_its_host(roots, url, says):
    listed = replace(roots, reward_hosts=("rewards.example:9000",))
    found = refusals_of(listed, reward_model=url, reward_model_type="api")
    assert [(pointer, says in detail) for pointer, detail in found] == ([("/finetuning/reward_model", True)] if says else [])
    assert refusals_of(roots, reward_model=url, reward_model_type="api"), "none is, where none is listed"


@pytest.mark.parametrize(("stage", "more"), [("rm", shelves.HIDDEN), ("ppo", shelves.HIDDEN + 1)])
def test_what_trains_is_counted_with_the_head(roots, stage, more):
    add_head(roots.models / "org" / "small")

    def trains(stage):
        dataset = "pairs" if stage == "rm" else "letters"
        reward = {"reward_model": "org/small", "reward_model_type": "full"} if stage == "ppo" else {}
        read = read_job(a_job(finetuning={"stage": stage, **reward}, data={"dataset": dataset}))
        return plan.plan(roots, read.resolved)[0].trainable_parameters

    assert trains(stage) == trains("sft") + more


def test_a_key_for_an_api_is_refused_where_it_cannot_be_kept_and_in_a_url(roots):
    api = {"reward_model_type": "api", "reward_model": "https://rewards.example/score"}
    kept = replace(roots, reward_hosts=("rewards.example",), secrets=True)
    assert refusals_of(kept, **api, reward_api_key="rk-1") == []
    [(pointer, sentence)] = refusals_of(replace(kept, secrets=False), **api, reward_api_key="rk-1")
    assert (pointer, "FINEBITS_SECRET_KEY" in sentence) == ("/finetuning/reward_api_key", True)
    for name in ("key", "api-key", "access_token", "X-Amz-Signature"):
        [(pointer, sentence)] = refusals_of(kept, **(api | {"reward_model": f"https://rewards.example/score?v=2&{name}=rk-1"}))
        assert (pointer, "reward_api_key" in sentence, "rk-1" in sentence) == ("/finetuning/reward_model", True, False)
    assert refusals_of(kept, **(api | {"reward_model": "https://rewards.example/score?version=2"})) == []
