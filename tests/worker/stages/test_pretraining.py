import pytest
from safetensors.torch import load_file

from tests.worker.stages.attempts import a_pretraining_job, changed, training

# The first three losses of `a_pretraining_job()`, seen as those of test_supervised.py were.
GOLDEN = (5.743601, 5.525160, 5.333742)


def test_the_losses_of_a_seeded_model_are_what_they_were(host):
    attempt = host.done(a_pretraining_job())
    assert attempt.losses()[:3] == pytest.approx(GOLDEN, rel=1e-4)
    assert attempt.of("step")[0]["step"] == "pt"


@pytest.mark.parametrize(
    ("finetuning", "names"),
    [
        ({"finetuning_type": "full"}, ""),
        ({"finetuning_type": "freeze", "num_layer_trainable": -1, "name_module_trainable": "self_attn"}, "layers.0.self_attn."),
    ],
)
def test_exactly_what_should_change_does(host, finetuning, names):
    start = load_file(host.models / "tiny" / "model.safetensors")
    attempt = host.done(a_pretraining_job(finetuning=finetuning, measures={"names": ""}))
    assert changed(start, host.weights(attempt)) == {name for name in start if names in name}


def test_an_adapter_is_trained_on_texts_too(host):
    attempt = host.done(a_pretraining_job(finetuning={"finetuning_type": "lora"}))
    assert all(tensor.any() for name, tensor in host.weights(attempt).items() if ".lora_B." in name)
    assert attempt.losses()[0] == pytest.approx(GOLDEN[0], rel=1e-4), "an adapter that is fresh changes nothing"


def test_an_adapter_begins_as_the_seed_says(host):
    values = {"max_steps": 1, "learning_rate": 1e-9}
    first, again, other = (
        host.weights(
            host.done(
                a_pretraining_job(
                    finetuning={"finetuning_type": "lora"}, training=values | {"seed": seed}, measures={"names": ""}
                )
            )
        )
        for seed in (1, 1, 2)
    )
    assert changed(first, again) == set()
    assert {name for name in first if ".lora_A." in name} <= changed(first, other)


def test_what_can_be_learned_is_learned_and_helps_on_texts_that_were_held_out(host):
    values = training(max_steps=30, save_steps=30, per_device_train_batch_size=8)
    attempt = host.done(a_pretraining_job(training=values))
    assert attempt.losses()[-1] < 0.3 * attempt.losses()[0]
    rows = attempt.rows()
    assert rows[30, "cross_entropy"]["value"] < 0.5 * rows[None, "cross_entropy"]["value"]
    assert rows[30, "kl_from_base"]["value"] > 0.1


def test_every_token_is_trained_in_blocks_of_cutoff_len(host):
    (short,), (long,) = (
        host.done(a_pretraining_job(data={"cutoff_len": length}, training={"max_steps": 1}, measures={"names": ""})).events(
            "data_loaded"
        )
        for length in (16, 32)
    )
    for loaded, length in ((short, 16), (long, 32)):
        assert loaded["data"]["examples"] == loaded["data"]["tokens"] // length
        assert loaded["data"]["trained_tokens"] == loaded["data"]["examples"] * length
