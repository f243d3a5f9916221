"""The data that everybody has, through the stages: a tiny model, a few updates."""

import math
from pathlib import Path

import pytest

from tests.worker.stages.attempts import a_job, a_preference_job, a_pretraining_job

SHARED = Path(__file__).parents[4] / "shared" / "data"

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared data")

SHORT = {"max_steps": 2, "save_steps": 2, "per_device_train_batch_size": 2}


@pytest.fixture
def shared(host):
    host.datasets = SHARED.parent
    return host


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("dataset", ["alpaca_en_demo", "identity"])
def test_conversations_are_trained(shared, dataset, streaming):
    data = {"dataset": dataset, "val_size": 2, "streaming": streaming, "cutoff_len": 64}
    attempt = shared.done(a_job(data=data if streaming else data | {"max_samples": 12}, training=SHORT))
    assert len(attempt.losses()) == 2
    assert attempt.rows()[2, "cross_entropy"]["value"] > 0
    told = any("{{name}}" in notice for notice in attempt.notices())
    assert told == (dataset == "identity" and not streaming)


@pytest.mark.parametrize("data", [{"template": "qwen"}, {"template": "llama3"}, {"template": "qwen", "streaming": True}])
def test_calls_of_tools_are_trained_and_their_results_are_not(shared, make_llama, data):
    shared.add_model("roomy", make_llama(vocab_size=320))
    data = {"dataset": "glaive_toolcall_en_demo", "val_size": 2, "cutoff_len": 1024} | data
    document = a_job(
        model={"model_name_or_path": "roomy"}, data=data if "streaming" in data else data | {"max_samples": 12}, training=SHORT
    )
    attempt = shared.done(document)
    assert len(attempt.losses()) == 2
    assert attempt.rows()[2, "cross_entropy"]["value"] > 0
    coverage = attempt.events("data_loaded")[-1]
    assert 0 < coverage["data"]["trained_tokens"] < coverage["data"]["tokens"]
    assert coverage["data"]["truncated"] > 0
    assert f"{coverage['data']['truncated']} row" in coverage["text"]
    assert "truncated." in coverage["text"]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("dataset", ["wiki_demo", "wikitext2_valid"])
def test_texts_are_trained(shared, dataset, streaming):
    data = {"dataset": dataset, "val_size": 2, "streaming": streaming, "cutoff_len": 32}
    attempt = shared.done(a_pretraining_job(data=data if streaming else data | {"max_samples": 12}, training=SHORT))
    assert len(attempt.losses()) == 2
    assert attempt.rows()[2, "cross_entropy"]["value"] > 0


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        ("dpo_en_demo", "for the stages rm and dpo, not sft"),
        ("kto_en_demo", "only the stage dpo with dpo_loss kto learns from that"),
    ],
)
def test_preferences_and_labels_are_not_for_supervised_training(shared, dataset, says):
    attempt = shared.attempt(a_job(data={"dataset": dataset}, training=SHORT))
    assert says in attempt.error.sentence


@pytest.mark.parametrize(("dataset", "loss", "first"), [("dpo_en_demo", "sigmoid", math.log(2)), ("kto_en_demo", "kto", 0.5)])
@pytest.mark.parametrize("streaming", [False, True])
def test_preferences_and_labels_are_learned_by_dpo(shared, dataset, loss, first, streaming):
    data = {"dataset": dataset, "val_size": 4, "streaming": streaming, "cutoff_len": 128}
    data = data if streaming else data | {"max_samples": 16}
    attempt = shared.done(a_preference_job(finetuning={"dpo_loss": loss}, data=data, training=SHORT))
    assert attempt.losses()[0] == pytest.approx(first, rel=1e-6)
    assert attempt.losses()[1] != attempt.losses()[0]
    assert attempt.rows()[2, "cross_entropy"]["value"] > 0
    assert attempt.rows()[2, "bits_per_byte"]["value"] > 0
