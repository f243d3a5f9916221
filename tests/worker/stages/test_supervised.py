import json
import math

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaModel
from transformers.models.llama.modeling_llama import LlamaMLP

from service.specs.reasons import Reason
from tests.worker.stages.attempts import a_job, changed, training, weights
from worker import checkpoints
from worker.data import load
from worker.models.loading import load_tokenizer
from worker.stages.training import trainer_state

# The first three losses of `a_job()`, as they were when this test was written: torch 2.13 on a CPU, transformers 5.24,
# peft 0.21. They were not derived, only seen; ln 300 = 5.70 is what a uniform guess would cost.
GOLDEN = (5.768477, 5.736209, 5.695910)

FULL = {"finetuning_type": "full"}
FREEZE = {"finetuning_type": "freeze", "num_layer_trainable": 1}
UNMEASURED = {"names": ""}


def a_run(host, finetuning=None, **groups):
    """A job that is not measured, done."""
    job = a_job(measures=UNMEASURED, **groups)
    return host.done(job if finetuning is None else job | {"finetuning": finetuning})


def losses(host, **values):
    return a_run(host, training=values).losses()


def step_norm(before, after):
    return math.sqrt(sum(float((after[name] - before[name]).square().sum()) for name in before))


@pytest.fixture
def start(host):
    return load_file(host.models / "tiny" / "model.safetensors")


def test_the_losses_of_a_seeded_model_are_what_they_were(host):
    attempt = host.done(a_job())
    assert attempt.losses()[:3] == pytest.approx(GOLDEN, rel=1e-4)
    assert attempt.of("step") == [
        {
            "message": "step",
            "position": 0,
            "step": "sft",
            "output": "job-1/1/sft/checkpoint-4",
            "summary": {"updates": 4, "epochs": 0.8},
        }
    ]


def test_full_training_changes_every_tensor(host, start):
    attempt = a_run(host, FULL)
    assert changed(start, host.weights(attempt)) == set(start)


def test_freeze_training_changes_what_is_named_and_nothing_else(host, start):
    attempt = a_run(host, FREEZE)
    assert changed(start, host.weights(attempt)) == {f"model.layers.1.mlp.{part}_proj.weight" for part in ("gate", "up", "down")}


def test_lora_training_saves_an_adapter_that_changed_and_leaves_the_model_alone(host, start):
    attempt = a_run(host)
    adapter = host.weights(attempt)
    assert all(".lora_A." in name or ".lora_B." in name for name in adapter)
    assert all(tensor.any() for name, tensor in adapter.items() if ".lora_B." in name), "B began as zeros"
    assert changed(start, weights(host.models / "tiny")) == set()
    assert not (host.folder(attempt) / "model.safetensors").exists()


@pytest.mark.parametrize("finetuning", [{}, FULL])
def test_a_checkpoint_says_nothing_of_this_host(host, finetuning):
    attempt = a_run(host, finetuning)
    files = [file for file in host.folder(attempt).iterdir() if file.is_file()]
    assert files
    assert [file.name for file in files if str(host.root).encode() in file.read_bytes()] == []
    if not finetuning:
        config = json.loads((host.folder(attempt) / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == "tiny"


def test_additional_targets_are_trained_whole_and_saved_in_the_adapter(host, start):
    adapter = host.weights(a_run(host, finetuning={"lora_rank": 2, "additional_target": "lm_head"}))
    saved = adapter["base_model.model.lm_head.weight"]
    assert saved.shape == start["lm_head.weight"].shape
    assert not torch.equal(saved, start["lm_head.weight"])


@pytest.mark.parametrize(
    ("finetuning", "share"), [(FULL, 0.5), (FREEZE | {"num_layer_trainable": 2}, 0.95), ({"lora_rank": 8}, 0.96)]
)
def test_what_can_be_learned_is_learned(host, finetuning, share):
    """Between embeddings and a head that are random and stay so, layers alone cannot do much."""
    values = training(learning_rate=2e-2, max_steps=24, save_steps=24, per_device_train_batch_size=8)
    series = a_run(host, finetuning, training=values).losses()
    assert series[-1] < share * series[0]


def test_the_models_own_name_says_what_is_trained(host, make_llama, start):
    host.add_model("other", make_llama(seed=1))
    other = a_run(host, FULL, model={"model_name_or_path": "other"})
    assert other.losses()[0] != pytest.approx(GOLDEN[0], rel=1e-3)


# -- what an update is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "from_update"),
    [
        ({"learning_rate": 5e-3}, 2),
        ({"optim": "sgd"}, 2),
        ({"optim": "adafactor"}, 2),
        ({"adam_epsilon": 1.0}, 2),
        ({"adam_beta1": 0.1}, 3),
        ({"adam_beta2": 0.1}, 3),
        ({"lr_scheduler_type": "constant"}, 3),
        ({"warmup_steps": 2}, 2),
        ({"label_smoothing_factor": 0.5}, 1),
        ({"neftune_noise_alpha": 5.0}, 1),
        ({"per_device_train_batch_size": 3}, 1),
        ({"gradient_accumulation_steps": 2}, 1),
        ({"data_seed": 1}, 1),
        ({"seed": 1}, 1),
    ],
)
def test_a_training_argument_acts_from_its_first_update_on(host, values, from_update):
    series = losses(host, **values)
    same = from_update - 1
    assert series[:same] == pytest.approx(GOLDEN[:same], rel=1e-4)
    assert series[same] != pytest.approx(GOLDEN[same], rel=1e-4)


@pytest.mark.parametrize("values", [{}, {"dataloader_num_workers": 1}, {"save_steps": 1}, {"logging_steps": 1}])
def test_what_is_not_to_change_the_losses_does_not(host, values):
    assert losses(host, **values)[:3] == pytest.approx(GOLDEN, rel=1e-4)


def test_losses_are_the_same_without_gradient_checkpointing_and_the_layers_run_once(host, monkeypatch):
    calls = []
    forward = LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, "forward", lambda mlp, x: calls.append(mlp) or forward(mlp, x))
    with_it = a_run(host)
    n_with = len(calls)
    without = a_run(host, model={"disable_gradient_checkpointing": True})
    assert without.losses() == pytest.approx(with_it.losses(), rel=1e-5)
    # two layers once before, to compare losses, and at four updates: each once, and with checkpointing the first once more on
    # the way back
    assert (n_with, len(calls) - n_with) == (2 + 12, 2 + 8)


def test_a_plain_gradient_step_is_as_long_as_rate_times_norm(host, start):
    attempt = a_run(host, FULL, training={"optim": "sgd", "learning_rate": 0.1, "max_steps": 1, "max_grad_norm": 0})
    norm = attempt.points()[1]["grad_norm"]
    assert step_norm(start, host.weights(attempt)) == pytest.approx(0.1 * norm, rel=1e-3)


def test_a_gradient_longer_than_max_grad_norm_is_shortened_and_told_as_it_was(host, start):
    attempt = a_run(host, FULL, training={"optim": "sgd", "learning_rate": 0.1, "max_steps": 1, "max_grad_norm": 0.5})
    assert attempt.points()[1]["grad_norm"] > 2
    assert step_norm(start, host.weights(attempt)) == pytest.approx(0.1 * 0.5, rel=1e-3)


def test_weight_decay_pulls_at_all_but_the_norms(host, start):
    values = {"optim": "sgd", "learning_rate": 0.1, "max_steps": 1}
    without = host.weights(a_run(host, FULL, training=values))
    decayed = host.weights(a_run(host, FULL, training=values | {"weight_decay": 0.5}))
    for name in start:
        expected = torch.zeros_like(start[name]) if "norm" in name else -0.1 * 0.5 * start[name]
        assert torch.allclose(decayed[name] - without[name], expected, atol=1e-6), name


@pytest.mark.parametrize(
    ("values", "rates"),
    [
        ({}, (1, 0.75, 0.5, 0.25)),
        ({"lr_scheduler_type": "constant"}, (1, 1, 1, 1)),
        ({"lr_scheduler_type": "cosine"}, tuple((1 + math.cos(math.pi * n / 4)) / 2 for n in range(4))),
        ({"warmup_steps": 2}, (0, 0.5, 1, 0.5)),
        ({"warmup_ratio": 0.5}, (0, 0.5, 1, 0.5)),
    ],
)
def test_the_learning_rate_moves_as_it_was_asked_to(host, values, rates):
    attempt = a_run(host, training=values)
    assert [point["learning_rate"] for point in attempt.points().values()] == pytest.approx([1e-2 * rate for rate in rates])


def test_bf16_rounds_the_computation_but_not_what_is_trained(host):
    attempt = a_run(host, training={"bf16": True})
    assert attempt.losses()[0] == pytest.approx(GOLDEN[0], rel=1e-2)
    assert attempt.losses()[0] != GOLDEN[0]
    assert {tensor.dtype for tensor in host.weights(attempt).values()} == {torch.float32}


def test_accumulated_batches_are_one_batch(host):
    """The last update of an epoch has one small batch left, and weighs its tokens alike all the same."""
    at_once = a_run(host, FULL, training={"per_device_train_batch_size": 4})
    in_two = a_run(host, FULL, training={"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2})
    for update, expected in at_once.points().items():
        for name in ("loss", "grad_norm", "learning_rate", "tokens"):
            assert in_two.points()[update][name] == pytest.approx(expected[name], rel=1e-4), (update, name)
    assert list(in_two.points()) == [1, 2, 3, 4]


def test_updates_end_with_max_steps_or_with_the_epochs(host):
    """Ten rows in batches of two are five updates an epoch."""
    assert list(a_run(host, training={"max_steps": 3, "num_train_epochs": 9.0}).points())[-1] == 3
    assert list(a_run(host, training={"max_steps": -1, "num_train_epochs": 1.5}).points())[-1] == 8


def test_the_seed_repeats_a_run_to_the_last_bit(host):
    first, again, other = (host.weights(a_run(host, training={"seed": seed})) for seed in (7, 7, 8))
    assert changed(first, again) == set()
    assert changed(first, other) == set(first)


def test_data_seed_gives_the_order_that_this_seed_would_give(host):
    """A full model begins as its file is, so only the order is left to chance."""
    data = {"val_size": 0}
    by_seed, by_data_seed = (
        a_run(host, FULL, data=data, training={"seed": seed, "data_seed": data_seed}).losses()
        for seed, data_seed in ((7, None), (42, 7))
    )
    assert by_data_seed == by_seed


def test_grouping_by_length_puts_like_lengths_in_a_batch(host, monkeypatch):
    """A sampler sorts a few batches' rows at once, so there must be many batches in an epoch."""
    host.add_dataset("many", [{"instruction": "there " * (n % 9), "output": "fox"} for n in range(64)])
    padding = []
    forward = LlamaModel.forward

    def spy(self, *arguments, **named):
        padding.append(int((named["attention_mask"] == 0).sum()))
        return forward(self, *arguments, **named)

    monkeypatch.setattr(LlamaModel, "forward", spy)

    def padding_of(**values):
        padding.clear()
        values |= {"per_device_train_batch_size": 4, "max_steps": 16}
        a_run(host, data={"dataset": "many", "val_size": 0}, training=values)
        return list(padding)

    grouped = padding_of(group_by_length=True)
    assert sum(grouped) < 0.5 * sum(padding_of())
    assert grouped != padding_of(group_by_length=True, data_seed=1), "the order is data_seed's"


# -- checkpoints -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "updates"),
    [
        ({"save_steps": 2, "max_steps": 5}, [2, 4, 5]),
        ({"save_steps": 2, "max_steps": 4}, [2, 4]),
        ({"save_steps": 500, "max_steps": 3}, [3]),
        ({"save_steps": 5, "max_steps": -1, "num_train_epochs": 1.0}, [5]),
        ({"save_strategy": "epoch", "max_steps": -1, "num_train_epochs": 2.0}, [5, 10]),
        ({"save_strategy": "epoch", "max_steps": 7}, [5, 7]),
        ({"save_strategy": "epoch", "max_steps": 5}, [5]),
        ({"save_strategy": "epoch", "max_steps": 2}, [2]),
    ],
)
def test_checkpoints_are_made_when_asked_and_once_at_the_last_update(host, values, updates):
    groups = {"training": training(**values)}
    if values.get("save_strategy") == "epoch":
        del groups["training"]["save_steps"]
        job = a_job(measures=UNMEASURED)
        attempt = host.done(job | groups)
    else:
        attempt = a_run(host, **groups)
    assert attempt.checkpoints() == updates
    folders = [host.artifacts / message["path"] for message in attempt.of("checkpoint")]
    assert [folder.name for folder in folders] == [f"checkpoint-{update}" for update in updates]
    assert all(checkpoints.is_complete(folder) for folder in folders)


def test_a_checkpoint_is_told_with_its_files_its_epoch_and_its_loss(host):
    attempt = a_run(host, training={"logging_steps": 10})
    first, last = attempt.of("checkpoint")
    assert (first["epoch"], last["epoch"]) == (0.4, 0.8)
    # the first window is still open at 2, and is closed at the last update, 4
    assert first["train_loss"] == pytest.approx(sum(GOLDEN[:2]) / 2, rel=1e-4)
    assert last["train_loss"] == pytest.approx(attempt.points()[4]["loss"])
    names = {file["name"] for file in last["files"]}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "optimizer.pt", "trainer_state.json"} <= names


def test_a_whole_models_checkpoint_can_be_loaded_with_its_tokenizer(host):
    folder = host.folder(a_run(host, FULL))
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    assert changed(model.state_dict(), weights(folder)) == set()
    assert load_tokenizer(folder).get_vocab() == load_tokenizer(host.models / "tiny").get_vocab()


# -- the data ----------------------------------------------------------------------------------------------------------


def test_padding_weighs_in_the_loss_unless_it_is_ignored(host):
    padded = {"per_device_train_batch_size": 8, "max_steps": 1}
    ignored, learned = (
        a_run(host, training=padded, data={"ignore_pad_token_for_loss": ignore}).losses() for ignore in (True, False)
    )
    assert learned[0] != pytest.approx(ignored[0], rel=1e-4)
    alone = {"per_device_train_batch_size": 1, "max_steps": 2}
    ignored, learned = (
        a_run(host, training=alone, data={"ignore_pad_token_for_loss": ignore}).losses() for ignore in (True, False)
    )
    assert ignored == learned, "one row a batch has no padding"


def test_prompts_are_trained_when_asked(host):
    (responses,), (everything,) = (
        a_run(host, data={"train_on_prompt": on}, training={"max_steps": 1}).events("data_loaded") for on in (False, True)
    )
    assert responses["data"]["trained_tokens"] < responses["data"]["tokens"]
    assert everything["data"]["trained_tokens"] == everything["data"]["tokens"] == responses["data"]["tokens"]
    assert responses["text"] == "sft: trained on 23 % of 242 tokens."


def test_held_out_rows_are_not_trained(host):
    for val_size, examples in ((2, 10), (0.5, 6), (0, 12)):
        (loaded,) = a_run(host, data={"val_size": val_size}, training={"max_steps": 1}).events("data_loaded")
        assert (loaded["data"]["rows"], loaded["data"]["examples"]) == (examples, examples)


@pytest.mark.parametrize("packing", [False, True])
def test_rows_over_cutoff_len_are_cut_or_dropped_and_counted(host, packing):
    cut, dropped = (
        a_run(host, data={"cutoff_len": 25, "overlength": overlength, "sft_packing": packing}, training={"max_steps": 1}).events(
            "data_loaded"
        )[0]
        for overlength in ("truncate", "drop")
    )
    n = cut["data"]["truncated"]
    assert 0 < n < 10
    assert (cut["data"]["dropped"], cut["data"]["examples"]) == (0, 10)
    assert (dropped["data"]["truncated"], dropped["data"]["dropped"], dropped["data"]["examples"]) == (0, n, 10 - n)
    assert cut["text"].endswith(f"tokens, {n} rows truncated.")
    assert dropped["text"].endswith(f"tokens, {n} rows dropped.")


def test_a_short_response_to_a_long_prompt_keeps_what_is_reserved_for_it(host):
    host.add_dataset("long", [{"instruction": "what " * 60, "output": "the quick brown fox"} for _ in range(4)])
    data = {"dataset": "long", "cutoff_len": 20, "val_size": 1}
    little, much = (
        a_run(host, data=data | {"reserved_label_len": reserved}, training={"max_steps": 1}).events("data_loaded")[0]["data"]
        for reserved in (1, 4)
    )
    assert (little["tokens"], much["tokens"]) == (60, 60)
    assert little["trained_tokens"] < much["trained_tokens"] == 3 * 4


def test_rows_are_encoded_by_as_many_processes_as_were_asked_for(host, monkeypatch):
    asked = []
    encode = load.map_in_processes
    monkeypatch.setattr(load, "map_in_processes", lambda f, items, n: asked.append(n) or encode(f, items, n))
    attempt = a_run(host, data={"preprocessing_num_workers": 2}, training={"max_steps": 3})
    assert set(asked) == {2}
    assert attempt.losses() == pytest.approx(GOLDEN, rel=0.01)


def test_the_template_and_the_data_sets_decide_what_is_trained(host):
    alpaca, both = (
        a_run(host, data=data, training={"max_steps": 1}).events("data_loaded")[0]["data"]
        for data in ({"template": "alpaca"}, {"dataset": "pets, others"})
    )
    assert alpaca["tokens"] > 242
    assert both["rows"] == 15


def test_a_template_gives_the_tokenizer_its_tokens_and_its_end(host, make_llama):
    """The model has rows to spare, as those have whose vocabulary was rounded up."""
    host.add_model("roomy", make_llama(vocab_size=320))
    attempt = a_run(host, FULL, data={"template": "chatml"}, model={"model_name_or_path": "roomy"})
    (notice,) = [event for event in attempt.events("notice") if "tokens" in event["data"]]
    assert notice["data"]["tokens"] == ["<|im_start|>", "<|im_end|>"]
    assert "the template chatml needs the tokens <|im_start|>, <|im_end|>" in notice["text"]
    tokenizer = load_tokenizer(host.folder(attempt))
    assert (len(tokenizer), tokenizer.eos_token) == (302, "<|im_end|>")
    config = AutoModelForCausalLM.from_pretrained(host.folder(attempt), local_files_only=True).generation_config
    assert tokenizer.eos_token_id in config.eos_token_id, "a response that is generated ends where it was trained to"


def test_a_template_that_the_model_has_no_rows_for_is_refused(host):
    attempt = host.attempt(a_job(data={"template": "chatml"}, measures=UNMEASURED))
    assert attempt.error.reason == Reason.BAD_MODEL
    assert "The tokenizer has 302 tokens, and the model 'tiny' has a vocabulary of 300" in attempt.error.sentence
    assert attempt.notices()[0].endswith("or grow it with resize_vocab.")


# -- the series --------------------------------------------------------------------------------------------------------


def test_a_point_is_the_mean_of_its_window_and_the_last_window_may_be_short(host):
    every = a_run(host, training={"max_steps": 5})
    windows = a_run(host, training={"max_steps": 5, "logging_steps": 3})
    one = every.losses()
    assert list(windows.points()) == [3, 5]
    assert windows.losses() == pytest.approx([sum(one[:3]) / 3, sum(one[3:]) / 2])
    for update in (3, 5):
        for name in ("learning_rate", "grad_norm", "tokens"):
            assert windows.points()[update][name] == every.points()[update][name], "these are of the last update"


def test_a_window_that_is_closed_leaves_one_entry_in_the_checkpoint_and_an_open_one_its_updates(host):
    attempt = a_run(host, training={"max_steps": 8, "save_steps": 5, "logging_steps": 3})
    kept = trainer_state(host.artifacts / attempt.of("checkpoint")[0]["path"])["log_history"]
    assert [(entry["step"], entry.get("window", False)) for entry in kept] == [(3, True), (4, False), (5, False)]


def test_tokens_are_counted_without_padding(host):
    attempt = a_run(host, training={"max_steps": -1, "num_train_epochs": 1.0})
    (loaded,) = attempt.events("data_loaded")
    assert attempt.points()[5]["tokens"] == loaded["data"]["tokens"]
    assert all(point["tokens_per_second"] > 0 for point in attempt.points().values())


def test_progress_ends_with_the_last_update_and_nothing_left_to_wait_for(host):
    attempt = a_run(host)
    told = [message["progress"] for message in attempt.of("progress")]
    assert (told[0]["step"], told[0]["position"], told[0]["steps"], told[0]["phase"]) == ("sft", 1, 1, "loading")
    assert (told[-1]["global_step"], told[-1]["max_steps"], told[-1]["eta_seconds"]) == (4, 4, 0)
    assert {progress["phase"] for progress in told} == {"loading", "training", "saving"}


def test_kept_examples_train_as_those_that_are_made(host):
    fresh = a_run(host)
    first, second = (a_run(host, data={"cache_path": "mine"}) for _ in range(2))
    assert first.losses() == second.losses() == fresh.losses()
    assert ["are kept in the cache 'mine'" in " ".join(run.notices()) for run in (first, second)] == [True, False]
    assert "sft: The tokenised examples are taken from the cache 'mine'." in second.notices()
