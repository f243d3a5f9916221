"""POST /jobs: everything that cannot be said of data and models, as a client is told it."""

import json
from typing import Any

import pytest

from tests.service.shelves import tensors, write_model, write_safetensors
from tests.specs.job_documents import a_job
from tests.specs.test_read import CASES

FULL = {"finetuning_type": "full"}

# Of the kinds of values; what goes with what is in the rules' own cases.
VALUES = [
    ({"model": {"quantization_bit": 3}}, "/model/quantization_bit", "4 or 8"),
    ({"model": {"quantization_type": "int4", "quantization_bit": 4}}, "/model/quantization_type", "'fp4' or 'nf4'"),
    ({"model": {"rope_scaling": "yarn"}}, "/model/rope_scaling", "'linear' or 'dynamic'"),
    ({"model": {"export_quantization_bit": 5}}, "/model/export_quantization_bit", "2, 3, 4 or 8"),
    ({"model": {"model_name_or_path": ""}}, "/model/model_name_or_path", "at least 1 character"),
    ({"model": {"use_flash": True}}, "/model/use_flash", "no such"),
    ({"data": {"datasets": "letters"}}, "/data/datasets", "no such"),
    ({"data": {"cutoff_len": 0}}, "/data/cutoff_len", "greater than or equal to 2"),
    ({"data": {"val_size": -0.1}}, "/data/val_size", "greater than or equal to 0"),
    ({"data": {"mix_strategy": "shuffle"}}, "/data/mix_strategy", "'interleave_under'"),
    ({"data": {"overlength": "keep"}}, "/data/overlength", "'truncate' or 'drop'"),
    ({"data": {"buffer_size": 10}}, "/data/buffer_size", "only where streaming is on"),
    ({"model": {"double_quantization": False}}, "/model/double_quantization", "only where quantization_bit is 4"),
    ({"data": {"preprocessing_num_workers": 10**6}}, "/data/preprocessing_num_workers", "less than or equal to 128"),
    ({"data": {"overlength": "drop"}, "finetuning": {"stage": "pt"}}, "/data/overlength", "only where stage is not pt"),
    ({"data": {"train_on_prompt": True}, "finetuning": {"stage": "dpo"}}, "/data/train_on_prompt", "only where stage is"),
    ({"data": {"sft_packing": True}, "finetuning": {"stage": "pt"}}, "/data/sft_packing", "only where stage is sft"),
]

# Of this machine: what to do instead is said.
MACHINE = [
    ({"model": {"ms_hub_token": "secret"}}, "/model/ms_hub_token", "FINEBITS_HUB"),
    ({"model": {"hf_hub_token": "secret"}}, "/model/hf_hub_token", "FINEBITS_HUB"),
    ({"model": {"cache_dir": "mine"}}, "/model/cache_dir", "FINEBITS_HUB"),
    ({"model": {"model_revision": "v2"}}, "/model/model_revision", "FINEBITS_HUB"),
    ({"data": {"dataset": "hub"}}, "/data/dataset", "FINEBITS_HUB=1"),
]


@pytest.mark.parametrize(("groups", "pointer", "part"), [*VALUES, *MACHINE], ids=lambda value: str(value)[:60])
def test_a_value_that_cannot_be_is_refused(plain_door: Any, groups: dict[str, Any], pointer: str, part: str) -> None:
    [(found, sentence)] = [(at, why) for at, why in plain_door.refusals(a_job(**groups)) if part in why] or [("", "")]
    assert found == pointer, plain_door.refusals(a_job(**groups))
    assert "secret" not in sentence


@pytest.mark.parametrize(("rule", "document", "pointer", "part"), CASES)
def test_what_does_not_go_together_is_refused(plain_door: Any, rule: Any, document: Any, pointer: str, part: str) -> None:
    assert pointer in [at for at, sentence in plain_door.refusals(document) if part in sentence]


@pytest.mark.parametrize(
    ("entry", "file", "content", "part"),
    [
        ({"file_name": "it.json"}, "it.json", b"  \n", "it.json of the data set 'it' holds no rows"),
        ({"file_name": "it.jsonl"}, "it.jsonl", b"", "holds no rows"),
        ({"file_name": "it.csv"}, "it.csv", b"", "holds no rows"),
        ({"file_name": "it.parquet"}, "it.parquet", b"PAR1 cut off", "is no Parquet file, or a part of one only"),
        ({"file_name": "it.xlsx"}, "it.xlsx", b"PK", "an extension that is not read"),
        ({"file_name": "mixed"}, "more.txt", b"-", "here are several: a.txt (text), b.csv (csv)"),
        ({"file_name": "../it.json"}, "it.json", b"[]", "bad file_name"),
        ({"file_name": "gone.json"}, "it.json", b"[{}]", "gone.json of the data set 'it' is not there"),
        ({"script_url": "it"}, "it.json", b"[{}]", "scripts are not run"),
        ({"columns": {"images": "i"}}, "it.json", b"[{}]", "it.columns.images: there is no such key here: only text is learned"),
        ({"file_name": "letters.json", "ranking": True}, "it.json", b"[{}]", "for the stages rm and dpo, not sft"),
        ({"file_name": "it.txt"}, "it.txt", b"line", "has lines of text, without answers"),
    ],
)
def test_a_data_set_that_cannot_be_learned_is_refused(
    plain_door: Any, settings: Any, entry: dict[str, Any], file: str, content: bytes, part: str
) -> None:
    folder = settings.datasets_root / "data"
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps(info | {"it": entry}))
    (folder / file).write_bytes(content)
    [(pointer, sentence)] = plain_door.refusals(a_job(data={"dataset": "it"}))
    assert (pointer, part in sentence) == ("/data/dataset", True), sentence
    assert plain_door.submit(a_job(data={"dataset": "letters"})), "the others are as good as before"


def cut_off(models: Any) -> None:
    write_safetensors(models / "tiny" / "model.safetensors", tensors(), missing_bytes=8)


def lacking_a_shard(models: Any) -> None:
    (models / "tiny" / "model.safetensors").unlink()
    index = {"weight_map": {name: "model-00002-of-00002.safetensors" for name in tensors()}}
    (models / "tiny" / "model.safetensors.index.json").write_text(json.dumps(index))


def without_weights(models: Any) -> None:
    (models / "tiny" / "model.safetensors").unlink()


def of_another_base(models: Any) -> None:
    write_model(models / "adapter", {"base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": [2, 64]})
    (models / "adapter" / "config.json").unlink()
    (models / "adapter" / "model.safetensors").rename(models / "adapter" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "base_model_name_or_path": "somewhere/larger"}
    (models / "adapter" / "adapter_config.json").write_text(json.dumps(config))


def of_another_family(models: Any) -> None:
    write_model(models / "tiny", model_type="gpt_neox")


def quantized_already(models: Any) -> None:
    write_model(models / "tiny", quantization_config={"quant_method": "gptq"})


def of_few_positions(models: Any) -> None:
    write_model(models / "tiny", max_position_embeddings=512)


def of_a_method_that_is_not_read(models: Any) -> None:
    write_model(models / "tiny", quantization_config={"quant_method": "aqlm"})


FAST, AT_FAST = {"model": {"use_unsloth": True}}, "/model/use_unsloth"
ADAPTED = {"model": {"adapter_name_or_path": "adapter"}}
AT_MODEL, AT_ADAPTER = "/model/model_name_or_path", "/model/adapter_name_or_path"


@pytest.mark.parametrize(
    ("spoil", "groups", "pointer", "part"),
    [
        (cut_off, {}, AT_MODEL, "and its header says"),
        (lacking_a_shard, {}, AT_MODEL, "lacks the weights file model-00002-of-00002.safetensors"),
        (without_weights, {}, AT_MODEL, "has no weights"),
        (of_another_base, ADAPTED, AT_ADAPTER, "made on 'larger' and does not fit the model 'tiny'"),
        (of_another_base, {"model": {"model_name_or_path": "adapter"}}, AT_MODEL, "is an adapter, not a whole model"),
        (of_a_method_that_is_not_read, {}, AT_MODEL, "is quantized with aqlm"),
        (of_another_family, FAST, AT_FAST, "this is a gpt_neox one"),
        (quantized_already, FAST, AT_FAST, "quantized already, which trains without unsloth only"),
        (of_few_positions, FAST, "/data/cutoff_len", "which has 512, by itself"),
        (lambda models: None, ADAPTED, AT_ADAPTER, "There is no adapter 'adapter'"),
        (lambda models: None, {"model": {"adapter_name_or_path": "org/small"}}, AT_ADAPTER, "is a whole model, not an adapter"),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused(
    plain_door: Any, settings: Any, spoil: Any, groups: dict[str, Any], pointer: str, part: str
) -> None:
    spoil(settings.models_root)
    [(found, sentence)] = plain_door.refusals(a_job(**groups))
    assert (found, part in sentence) == (pointer, True), sentence
    assert str(settings.models_root) not in sentence
