from pathlib import Path
from typing import Any

import pytest

from service.library import space
from service.library.check import Roots
from service.specs.read import read_job
from tests.service.shelves import write_model

ROWS = 40


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    """A model of 420 parameters, and a data set of 40 rows."""
    write_model(tmp_path / "models" / "tiny")
    folder = tmp_path / "datasets" / "data"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text('{"letters": {"file_name": "letters.jsonl"}}')
    (folder / "letters.jsonl").write_text('{"instruction": "a", "output": "b"}\n' * ROWS)
    return Roots(tmp_path / "models", tmp_path / "datasets")


def left(
    roots: Roots, done: tuple[str, ...] = (), saved: dict[str, int] | None = None, **groups: Any
) -> dict[str, space.StepSpace]:
    document = {"model": {"model_name_or_path": "tiny"}, "data": {"template": "chatml", "dataset": "letters"}} | groups
    return space.still_to_write(roots, read_job(document).resolved, done, saved or {})


def numbers(roots: Roots, stage: str = "sft", **groups: Any) -> int:
    """How many fp32 numbers a checkpoint has, of the model and of the optimiser."""
    config_bytes = (roots.models / "tiny" / "config.json").stat().st_size
    n_bytes = left(roots, **groups)[stage].checkpoint_bytes - config_bytes - space.BESIDE_BYTES
    assert n_bytes % 4 == 0
    return n_bytes // 4


def test_a_whole_model_is_kept_with_adam_s_two_moments_of_what_trains(roots: Roots) -> None:
    assert numbers(roots, finetuning={"finetuning_type": "full"}) == 420 + 2 * 420
    frozen = {"finetuning_type": "freeze", "num_layer_trainable": 1}
    assert numbers(roots, finetuning=frozen) == 420 + 2 * 96  # the three matrices of the last layer's mlp


def test_a_model_that_is_shared_out_is_kept_twice(roots: Roots) -> None:
    """As a model, and as what its GPUs go on from."""
    shared = {"finetuning": {"finetuning_type": "full"}, "training": {"fsdp": True}, "resources": {"gpus": 2}}
    assert numbers(roots, **shared) == 2 * 420 + 2 * 420


def test_an_adapter_is_kept_without_the_model(roots: Roots) -> None:
    """Rank 2 on two 4 × 4 matrices in each of two layers: 4 · 2 · (4 + 4) numbers."""
    lora = {"finetuning_type": "lora", "lora_rank": 2, "lora_target": "q_proj,v_proj"}
    assert numbers(roots, finetuning=lora) == 64 + 2 * 64


def test_a_reference_or_a_reward_model_is_not_kept_and_a_value_head_is(roots: Roots) -> None:
    """A head of four weights and a bias, which rm does not train."""
    write_model(roots.models / "other")
    info = '{"letters": {"file_name": "letters.jsonl"}, "pairs": {"file_name": "pairs.jsonl", "ranking": true}}'
    (roots.datasets / "data" / "dataset_info.json").write_text(info)
    (roots.datasets / "data" / "pairs.jsonl").write_text('{"instruction": "a", "chosen": "b", "rejected": "c"}\n' * ROWS)
    lora = {"lora_rank": 2, "lora_target": "q_proj,v_proj"}
    scored = {"reward_model": "other", "reward_model_type": "full"}

    def kept(stage: str, **finetuning: Any) -> int:
        data = {"template": "chatml", "dataset": "letters" if stage == "ppo" else "pairs"}
        return numbers(roots, stage, data=data, finetuning={"stage": stage, **finetuning})

    assert kept("dpo", **lora) == kept("dpo", ref_model="other", **lora) == 64 + 2 * 64
    assert kept("rm", **lora) == 68 + 2 * 68
    assert kept("ppo", **scored, **lora) == kept("ppo", **scored, ref_model="other", **lora) == 69 + 2 * 69
    assert kept("dpo", finetuning_type="full") == 420 + 2 * 420, "the copy that it is held against is not kept"


@pytest.mark.parametrize("optim", ["sgd", "adafactor"])
def test_other_optimisers_keep_no_moments(roots: Roots, optim: str) -> None:
    assert numbers(roots, finetuning={"finetuning_type": "full"}, training={"optim": optim}) == 420


@pytest.mark.parametrize(
    ("kept", "n_checkpoints"),
    [
        ({"save_total_limit": 2}, 3),
        ({"keep_best": 1}, 3),
        ({"save_total_limit": 2, "keep_best": 2}, 5),
        ({"save_total_limit": 50}, 20),
    ],
)
def test_room_is_kept_for_those_alone_that_are_there_at_once(roots: Roots, kept: dict[str, int], n_checkpoints: int) -> None:
    training = {"max_steps": 100, "save_steps": 5} | kept
    assert left(roots, training=training)["sft"].n_checkpoints == n_checkpoints


@pytest.mark.parametrize(
    ("training", "n_checkpoints"),
    [
        ({"max_steps": 10, "save_steps": 5}, 2),
        ({"max_steps": 11, "save_steps": 5}, 3),
        ({"max_steps": 3, "save_steps": 500}, 1),
        ({"num_train_epochs": 2, "per_device_train_batch_size": 4, "save_steps": 5}, 4),
        ({"num_train_epochs": 2.5, "save_strategy": "epoch"}, 3),
        ({"max_steps": 10, "save_strategy": "epoch"}, 1),
    ],
)
def test_the_checkpoints_are_those_that_the_training_will_make(
    roots: Roots, training: dict[str, Any], n_checkpoints: int
) -> None:
    assert left(roots, training=training)["sft"].n_checkpoints == n_checkpoints


def test_what_is_there_already_takes_no_more_room(roots: Roots) -> None:
    training = {"max_steps": 10, "save_steps": 2}
    assert left(roots, saved={"sft": 3}, training=training)["sft"].n_checkpoints == 2
    assert left(roots, saved={"sft": 9}, training=training)["sft"].n_checkpoints == 1
    assert left(roots, done=("sft",), training=training) == {}


def test_every_step_counts(roots: Roots) -> None:
    steps = [
        {"name": "first", "finetuning": {"finetuning_type": "full"}},
        {"name": "second", "model": {"model_name_or_path": "@first"}},
    ]
    found = left(roots, steps=steps, training={"max_steps": 10, "save_steps": 5})
    assert list(found) == ["first", "second"]
    assert space.total_bytes(found) == sum(2 * step.checkpoint_bytes for step in found.values())


def test_sizes_are_told_in_powers_of_ten() -> None:
    told = [space.told(number) for number in (0, 1_234_567, 99_900_000, 100_000_000, 12_345_678_901_234)]
    assert told == ["0.0 MB", "1.2 MB", "99.9 MB", "0.1 GB", "12,345.7 GB"]


def test_a_step_that_trains_nothing_writes_no_checkpoint(roots: Roots) -> None:
    steps = [{"name": "sft"}, {"name": "later", "do": "measure", "measures": {"checkpoints": "@sft"}}]
    assert set(left(roots, steps=steps)) == {"sft"}


@pytest.mark.parametrize(("dtype", "n_bytes"), [("auto", 4 * 420), ("float32", 4 * 420), ("bfloat16", 2 * 420)])
def test_an_export_takes_the_models_files_again_in_the_type_that_is_asked_for(roots: Roots, dtype: str, n_bytes: int) -> None:
    steps = [{"name": "sft"}, {"name": "export", "do": "export", "model": {"model_name_or_path": "@sft"}}]
    steps[1]["export"] = {"dtype": dtype}
    needed = left(roots, done=("sft",), steps=steps)["export"]
    model = roots.models / "tiny"
    header = (model / "model.safetensors").stat().st_size - 4 * 420 if dtype == "auto" else 0
    beside = (model / "config.json").stat().st_size + space.BESIDE_BYTES
    assert needed == space.StepSpace(n_bytes + header + beside, 1)
    assert left(roots, done=("sft", "export"), steps=steps) == {}


def test_an_adapter_that_is_exported_alone_takes_next_to_nothing(roots: Roots) -> None:
    steps = [{"name": "sft"}, {"name": "export", "do": "export", "model": {"model_name_or_path": "@sft"}}]
    steps[1]["export"] = {"adapter_only": True}
    assert left(roots, done=("sft",), steps=steps)["export"].checkpoint_bytes < space.BESIDE_BYTES + 1000
