"""What is known of a job before any worker has seen it: from names, sizes, headers and rows."""

import json
import math
import os
import random
import shutil
from dataclasses import replace

import pytest

from service.library import datasets, models, plan, weights
from service.library.check import FoundWell, Roots, check
from service.library.errors import LibraryError
from service.places import Places
from service.specs.dataset_info import KINDS
from service.specs.finetuning import FinetuningArguments
from service.specs.job import resolve, with_lora_defaults
from service.specs.read import read_job
from service.specs.refusals import SpecRefused
from tests.service import shelves
from tests.specs.job_documents import a_flat_job, a_job


@pytest.fixture
def roots(tmp_path):
    return shelves.stocked(tmp_path)


def refusals_of(roots, document):
    """(pointer, sentence) of what the folders, and nothing else, refuse."""
    try:
        read_job(document, lambda spec, resolved: check(roots, spec, resolved))
    except SpecRefused as refused:
        return [(refusal.pointer, refusal.detail) for refusal in refused.refusals]
    return []


def planned(roots, **groups):
    read = read_job(a_job(**groups), lambda spec, resolved: check(roots, spec, resolved))
    return plan.plan(roots, read.resolved)


def counted(roots, **arguments):
    model = models.find(roots.models, "tiny")
    tensors = weights.tensors_of(model)
    return weights.trainable(tensors, with_lora_defaults(FinetuningArguments(**arguments)), model)


# -- models --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny", "org/small"])
def test_a_job_on_a_model_that_is_there_is_accepted(roots, name):
    assert refusals_of(roots, a_job(model={"model_name_or_path": name})) == []


def test_a_model_that_is_not_there_is_refused_with_those_that_are(roots):
    [(pointer, sentence)] = refusals_of(roots, a_job(model={"model_name_or_path": "meta-llama/Llama-3.2-1B"}))
    assert pointer == "/model/model_name_or_path"
    assert sentence == "There is no model 'meta-llama/Llama-3.2-1B' in the models folder; there are: org/small, tiny."


def test_a_flat_document_is_refused_at_its_own_places(roots):
    found = refusals_of(roots, a_flat_job(model_name_or_path="huge", dataset="letters, numbers"))
    assert [pointer for pointer, _ in found] == ["/model_name_or_path", "/dataset"]


def test_a_step_is_refused_where_the_step_says_it(roots):
    document = a_job(steps=[{"name": "one"}, {"name": "two", "model": {"model_name_or_path": "huge"}}])
    assert [pointer for pointer, _ in refusals_of(roots, document)] == ["/steps/1/model/model_name_or_path"]


def test_what_an_earlier_step_makes_is_not_looked_for(roots):
    steps = [{"name": "one"}, {"name": "two", "model": {"model_name_or_path": "@one"}}]
    assert refusals_of(roots, a_job(steps=steps, finetuning={"finetuning_type": "full"})) == []


@pytest.mark.parametrize("name", ["..", "../elsewhere", "/etc", "tiny/../../secret.json", "escape"])
def test_a_model_outside_its_root_is_refused(roots, tmp_path, name):
    shelves.write_model(tmp_path / "elsewhere")
    (roots.models / "escape").symlink_to(tmp_path / "elsewhere")
    [(pointer, sentence)] = refusals_of(roots, a_job(model={"model_name_or_path": name}))
    assert pointer == "/model/model_name_or_path"
    assert str(tmp_path) not in sentence


def test_no_sentence_names_a_path_of_the_host(roots, tmp_path):
    (roots.models / "tiny" / "model.safetensors").write_bytes(b"short")
    documents = [
        a_job(),
        a_job(data={"dataset_dir": "nowhere"}),
        *(a_job(data={"dataset": name}) for name in shelves.DATASET_INFO),
    ]
    sentences = [sentence for document in documents for _, sentence in refusals_of(roots, document)]
    assert len(sentences) > 10
    assert not [sentence for sentence in sentences if str(tmp_path) in sentence]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda folder: (folder / "config.json").write_text("{"), "not readable JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "must be an object"),
        (
            lambda folder: (folder / "config.json").write_text('{"quantization_config": {"quant_method": "awq"}}'),
            "with awq;",
        ),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no weights"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "does not fit"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 100), "does not fit"),
        (lambda folder: (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"[]"), "not one of safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{x"), "not one of safetensors"),
        (lambda folder: shelves.write_safetensors(folder / "model.safetensors", shelves.tensors(), 8), "its header says"),
        (lambda folder: (folder / "config.json").rename(folder / "adapter_config.json"), "is an adapter"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_refused(roots, spoil, why):
    spoil(roots.models / "tiny")
    [(pointer, sentence)] = refusals_of(roots, a_job())
    assert pointer == "/model/model_name_or_path"
    assert why in sentence


def test_a_model_in_parts_needs_every_part_inside_its_folder(roots):
    folder = roots.models / "tiny"
    (folder / "model.safetensors").unlink()
    half = dict(list(shelves.tensors().items())[:5])
    rest = {name: shape for name, shape in shelves.tensors().items() if name not in half}
    weight_map = {name: "a.safetensors" if name in half else "b.safetensors" for name in shelves.tensors()}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    shelves.write_safetensors(folder / "a.safetensors", half)
    assert "lacks the weights file b.safetensors" in refusals_of(roots, a_job())[0][1]
    shelves.write_safetensors(folder / "b.safetensors", rest)
    assert planned(roots)[0].parameters == 420
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "../../secret.json"}}))
    assert "leaves its folder" in refusals_of(roots, a_job())[0][1]


def test_a_model_that_changed_is_read_again(roots):
    assert planned(roots)[0].parameters == 420
    shelves.write_model(roots.models / "tiny", {"model.layers.0.mlp.up_proj.weight": [3, 5]})
    assert planned(roots)[0].parameters == 15


# -- adapters, and how a model is loaded ------------------------------------------------------------------------------------


def with_adapter(adapters="lora", **groups):
    return a_job(**groups | {"model": {**groups.get("model", {}), "adapter_name_or_path": adapters}})


def lora(hidden=shelves.HIDDEN, rank=2):
    """q_proj of both layers."""
    shapes = {}
    for layer in range(shelves.LAYERS):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        shapes |= {f"{name}.lora_A.weight": [rank, hidden], f"{name}.lora_B.weight": [hidden, rank]}
    return shapes


def write_adapter(roots, name="lora", shapes=None, **config):
    folder = roots.models / name
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "base_model_name_or_path": "tiny"} | config
    (folder / "adapter_config.json").write_text(json.dumps(config))
    shelves.write_safetensors(folder / "adapter_model.safetensors", lora() if shapes is None else shapes)
    return folder


def test_an_adapter_that_fits_is_accepted_and_its_own_numbers_train(roots):
    write_adapter(roots)
    assert refusals_of(roots, with_adapter()) == []
    [step] = planned(roots, model={"adapter_name_or_path": "lora"})
    assert (step.parameters, step.trainable_parameters) == (420, 2 * 2 * (4 + 4))
    [step] = planned(roots, model={"adapter_name_or_path": "lora"}, finetuning={"create_new_adapter": True, "lora_rank": 1})
    assert step.trainable_parameters == 2 * 68


@pytest.mark.parametrize(("tied", "both"), [(True, 14 * 4), (False, 2 * 14 * 4)])
def test_a_head_that_is_tied_is_counted_once_in_an_adapter_that_saves_it_too(roots, tied, both):
    shelves.write_model(roots.models / "tiny", tie_word_embeddings=tied)
    head = "base_model.model.lm_head"
    grown = {"base_model.model.model.embed_tokens.weight": [14, 4], f"{head}.weight": [14, 4]}
    write_adapter(roots, shapes=lora() | grown)
    write_adapter(roots, "head", shapes=lora() | {f"{head}.lora_A.weight": [2, 4], f"{head}.lora_B.weight": [10, 2]})
    [step] = planned(roots, model={"adapter_name_or_path": "lora"})
    assert step.trainable_parameters == 32 + both
    [step] = planned(roots, model={"adapter_name_or_path": "head"})
    assert step.trainable_parameters == 32 + 28


def test_an_adapter_that_a_step_makes_is_counted_when_it_is_loaded(roots):
    steps = [{"name": "one"}, {"name": "two", "model": {"adapter_name_or_path": "@one"}}]
    one, two = planned(roots, steps=steps)
    assert one.trainable_parameters
    assert two.trainable_parameters is None
    assert "loaded" in two.why_unknown["trainable_parameters"]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "not readable JSON"),
        (lambda folder: (folder / "adapter_config.json").write_text('{"peft_type": "IA3"}'), "of the kind IA3"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "has no weights"),
        (
            lambda folder: (folder / "adapter_config.json").unlink(),
            "There is no adapter 'lora' in the models folder;",
        ),
        (lambda folder: (folder / "adapter_config.json").rename(folder / "config.json"), "is a whole model, not an adapter"),
        (lambda folder: shelves.write_safetensors(folder / "adapter_model.safetensors", lora(), 8), "its header says"),
        (
            lambda folder: shelves.write_safetensors(folder / "adapter_model.safetensors", lora(hidden=5)),
            "The adapter 'lora' was made on 'tiny' and does not fit the model 'tiny': model.layers.0.self_attn.q_proj is 4x4 and",
        ),
        (
            lambda folder: shelves.write_safetensors(
                folder / "adapter_model.safetensors", {"base_model.model.h.0.c_attn.lora_A.weight": [2, 4]}
            ),
            "it has no h.0.c_attn",
        ),
    ],
)
def test_an_adapter_that_cannot_be_used_is_refused_at_its_own_argument(roots, spoil, why):
    spoil(write_adapter(roots))
    [(pointer, sentence)] = refusals_of(roots, with_adapter())
    assert pointer == "/model/adapter_name_or_path"
    assert why in sentence


def test_adapters_of_the_operator_are_looked_at_beside_those_of_steps(roots):
    write_adapter(roots, "org/lora")
    steps = [{"name": "one"}, {"name": "two", "model": {"model_name_or_path": "@one", "adapter_name_or_path": "org/lora,gone"}}]
    [(pointer, sentence)] = refusals_of(roots, a_job(steps=steps))
    assert pointer == "/steps/1/model/adapter_name_or_path"
    assert sentence == "There is no adapter 'gone' in the models folder; there are: org/lora."


QUANTIZED = {"quantization_config": {"quant_method": "bitsandbytes"}}
FULL = {"finetuning_type": "full"}


@pytest.mark.parametrize(
    ("config", "document", "pointer", "why"),
    [
        ({"model_type": "mistral"}, a_job(model={"shift_attn": True}), "/model/shift_attn", "this is a mistral one"),
        ({}, a_job(model={"rope_scaling": "linear"}), "/model/rope_scaling", "no max_position_embeddings"),
        (
            {"max_position_embeddings": 64, "rope_scaling": {"type": "yarn"}},
            a_job(model={"rope_scaling": "linear"}),
            "/model/rope_scaling",
            "scaled already (yarn)",
        ),
        (QUANTIZED, a_job(finetuning=FULL), "/finetuning/finetuning_type", "can only be trained with lora"),
        (
            QUANTIZED,
            a_job(model={"adapter_name_or_path": "lora"}, finetuning={"create_new_adapter": True}),
            "/model/adapter_name_or_path",
            "no adapter can be merged",
        ),
    ],
)
def test_what_a_model_does_not_go_along_with_is_refused(roots, config, document, pointer, why):
    write_adapter(roots)
    shelves.write_model(roots.models / "tiny", **config)
    [(found, sentence)] = refusals_of(roots, document)
    assert found == pointer
    assert why in sentence


@pytest.mark.parametrize(
    ("config", "document"),
    [
        ({}, a_job(model={"shift_attn": True})),
        ({"max_position_embeddings": 64}, a_job(model={"rope_scaling": "linear"})),
        ({"max_position_embeddings": 64, "rope_parameters": {"rope_type": "linear"}}, a_job(model={"rope_scaling": "linear"})),
        (QUANTIZED, a_job()),
        ({"quantization_config": {"quant_method": "gptq"}}, a_job(model={"adapter_name_or_path": "lora"})),
    ],
)
def test_what_a_model_goes_along_with_is_accepted(roots, config, document):
    write_adapter(roots)
    shelves.write_model(roots.models / "tiny", **config)
    assert refusals_of(roots, document) == []


def test_a_model_on_a_hub_is_left_to_the_worker_where_the_operator_lets_it(roots):
    document = a_job(model={"model_name_or_path": "org/far", "adapter_name_or_path": "org/near", "model_revision": "v2"})
    assert [pointer for pointer, _ in refusals_of(roots, document)] == [
        "/model/model_name_or_path",
        "/model/adapter_name_or_path",
        "/model/model_revision",
    ]
    open_roots = replace(roots, hub=True)
    assert refusals_of(open_roots, document) == []
    [step] = planned(open_roots, model={"model_name_or_path": "org/far"})
    assert (step.parameters, step.why_unknown["parameters"]) == (None, "The model is fetched when the job runs.")
    assert refusals_of(open_roots, a_job(model={"model_name_or_path": "../far"})) != []


@pytest.mark.parametrize(("argument", "value"), [("cache_dir", "mine"), ("model_revision", "v2")])
def test_what_is_for_a_hub_has_no_effect_on_a_model_of_the_folder(roots, argument, value):
    [(pointer, sentence)] = refusals_of(replace(roots, hub=True), a_job(model={argument: value}))
    assert pointer == f"/model/{argument}"
    assert sentence == "This has no effect: 'tiny' does not come from a hub."


def test_a_cache_dir_outside_the_cache_is_refused(roots):
    document = a_job(model={"model_name_or_path": "org/far", "cache_dir": "../elsewhere"})
    [(pointer, _)] = refusals_of(replace(roots, hub=True), document)
    assert pointer == "/model/cache_dir"


def test_a_model_whose_vocabulary_grows_is_counted_when_it_is_loaded(roots):
    [step] = planned(roots, model={"resize_vocab": True})
    assert (step.parameters, step.trainable_parameters) == (None, None)
    assert "vocabulary grows" in step.why_unknown["parameters"]


# -- parameters, by hand ---------------------------------------------------------------------------------------------------


def test_everything_trains_in_full(roots):
    assert counted(roots, finetuning_type="full") == 420


def test_lora_adds_a_row_and_a_column_to_each_linear_layer(roots):
    """Each layer: 4 of 4x4 and 3 of 8x4, so 4 * 8 + 3 * 12 = 68 a rank; neither embeddings nor the head."""
    assert counted(roots, lora_rank=1) == 2 * 68
    assert counted(roots, lora_rank=3) == 3 * 2 * 68


def test_lora_on_named_layers_takes_those(roots):
    assert counted(roots, lora_rank=1, lora_target=("q_proj", "down_proj")) == 2 * (8 + 12)
    assert counted(roots, lora_rank=1, lora_target=("layers.1.mlp.up_proj",)) == 12


def test_additional_targets_train_whole(roots):
    assert counted(roots, lora_rank=1, lora_target=("q_proj",), additional_target=("embed_tokens",)) == 16 + 40


def test_freeze_trains_the_named_modules_of_the_last_or_first_layers(roots):
    assert counted(roots, finetuning_type="freeze", num_layer_trainable=1) == 96
    assert counted(roots, finetuning_type="freeze", num_layer_trainable=-2, name_module_trainable=("self_attn",)) == 2 * 64
    assert counted(roots, finetuning_type="freeze", num_layer_trainable=1, name_module_trainable=("all",)) == 168


def test_layer_1_is_not_layer_11(roots):
    """Twelve layers of one number each, counted from the start: layers 0 and 1, not 10 and 11."""
    shelves.write_model(roots.models / "tiny", {f"h.{layer}.mlp.w": [layer + 1] for layer in range(12)})
    assert counted(roots, finetuning_type="freeze", num_layer_trainable=-2) == 1 + 2


def test_a_tied_head_is_counted_once(roots):
    shelves.write_model(roots.models / "tiny", tie_word_embeddings=True)
    assert counted(roots, finetuning_type="full") == 380


def test_what_only_a_loaded_model_shows_is_null_with_a_reason(roots):
    shelves.write_model(roots.models / "tiny", tie_word_embeddings=True)
    [step] = planned(roots, finetuning={"additional_target": "lm_head"})
    assert step.trainable_parameters is None
    assert "loaded" in step.why_unknown["trainable_parameters"]


def test_weights_that_are_no_safetensors_are_not_counted(roots):
    (roots.models / "tiny" / "model.safetensors").rename(roots.models / "tiny" / "pytorch_model.bin")
    [step] = planned(roots)
    assert step.parameters is None
    assert "safetensors" in step.why_unknown["parameters"]


@pytest.mark.parametrize(
    ("finetuning", "pointer"),
    [
        ({"lora_target": "q_proj,qq_proj"}, "/finetuning/lora_target"),
        ({"additional_target": "embeddings"}, "/finetuning/additional_target"),
        (
            {"finetuning_type": "freeze", "num_layer_trainable": 2, "name_module_trainable": "mpl"},
            "/finetuning/name_module_trainable",
        ),
        ({"finetuning_type": "freeze", "num_layer_trainable": 3}, "/finetuning/num_layer_trainable"),
    ],
)
def test_what_the_model_does_not_have_is_refused_at_its_own_argument(roots, finetuning, pointer):
    assert [found for found, _ in refusals_of(roots, a_job(finetuning=finetuning))] == [pointer]


# -- data sets -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("numbers", "there are: letters, lines,"),
        ("empty", "holds no rows"),
        ("no_rows", "holds no rows"),
        ("gone", "is not there"),
        ("outside", "leaves its folder"),
        ("absolute", "leaves its folder"),
        ("table", "is no Parquet file"),
        ("sheet", "extension that is not read"),
        ("pairs", "holds preferences (ranking), for the stages rm and dpo, not sft"),
        ("labels", "only the stage dpo with dpo_loss kto learns from that"),
        ("hub", "where the operator sets FINEBITS_HUB=1"),
        ("script", "scripts are not run"),
        ("nothing", "neither a file_name nor"),
        ("mixed", "must be of one kind"),
        ("lines", "only the stage pt"),
    ],
)
def test_a_data_set_that_cannot_be_learned_is_refused(roots, name, why):
    [(pointer, sentence)] = refusals_of(roots, a_job(data={"dataset": f"letters,{name}"}))
    assert pointer == "/data/dataset"
    assert why in sentence
    [(pointer, sentence)] = refusals_of(roots, a_job(measures={"dataset": name}))
    assert pointer == "/measures/dataset"
    [(pointer, sentence)] = refusals_of(roots, a_job(measures={"names": "equivocation", "task": name}))
    assert pointer == "/measures/task"


def test_a_file_that_links_out_of_the_folder_is_refused(roots, tmp_path):
    (roots.datasets / "data" / "letters.json").unlink()
    (roots.datasets / "data" / "letters.json").symlink_to(tmp_path / "secret.json")
    assert "leaves its folder" in refusals_of(roots, a_job())[0][1]


@pytest.mark.parametrize("folder", ["nowhere", "..", "/etc", "empty"])
def test_a_folder_without_data_sets_is_refused_once(roots, folder):
    (roots.datasets / "empty").mkdir()
    found = refusals_of(roots, a_job(data={"dataset_dir": folder}, measures={"dataset": "letters"}))
    assert [pointer for pointer, _ in found] == ["/data/dataset_dir"]


def test_an_export_that_reads_no_data_needs_no_folder_of_them(roots):
    shutil.rmtree(roots.datasets / "data")
    export = {"do": "export", "model": {"model_name_or_path": "tiny"}}
    assert refusals_of(roots, export) == []
    assert [pointer for pointer, _ in refusals_of(roots, export | {"data": {"dataset": "letters", "template": "alpaca"}})] == [
        "/data/dataset_dir"
    ]


def test_lines_of_text_are_for_pretraining(roots):
    document = a_job(finetuning={"stage": "pt"}, data={"dataset": "lines"})
    assert refusals_of(roots, document) == []


def test_conversations_are_for_supervised_training_and_not_for_pretraining(roots):
    assert refusals_of(roots, a_job(data={"dataset": "chats"})) == []
    [(pointer, sentence)] = refusals_of(roots, a_job(finetuning={"stage": "pt"}, data={"dataset": "chats"}))
    assert (pointer, "the stage pt learns texts" in sentence) == ("/data/dataset", True)


def test_a_data_set_on_a_hub_is_accepted_where_the_operator_lets_hubs_be_reached(roots):
    document = a_job(data={"dataset": "hub"})
    roots = replace(roots, hub=True)
    assert refusals_of(roots, document) == []
    [step] = planned(roots, data={"dataset": "hub"}, training={"max_steps": 5})
    assert (step.rows, step.updates) == (None, 5)
    assert step.why_unknown["rows"] == "The rows of a data set on a hub are known to the worker that fetches them."


def test_a_data_set_on_modelscope_alone_needs_its_own_setting(roots):
    document = a_job(data={"dataset": "scope"})
    [(_, sentence)] = refusals_of(replace(roots, hub=True), document)
    assert "where USE_MODELSCOPE_HUB=1 is set" in sentence
    assert refusals_of(replace(roots, hub=True, modelscope=True), document) == []


@pytest.mark.parametrize(
    ("environment", "hubs"),
    [
        ({}, set()),
        ({"USE_MODELSCOPE_HUB": "1"}, set()),
        ({"FINEBITS_HUB": "1"}, {"huggingface"}),
        ({"FINEBITS_HUB": "1", "USE_MODELSCOPE_HUB": "1"}, {"huggingface", "modelscope"}),
        ({"FINEBITS_HUB": "1", "FINEBITS_MODELSCOPE": "True"}, {"huggingface", "modelscope"}),
    ],
)
def test_the_operators_environment_says_which_hubs_may_be_reached(monkeypatch, environment, hubs):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    places = Places()
    assert Roots(places.models_root, places.datasets_root, places.hub, modelscope=places.modelscope).hubs == hubs
    assert Places(home="there").cache_root.name == "cache"


def test_a_split_that_a_folder_does_not_have_is_refused_at_its_own_place(roots):
    assert refusals_of(roots, a_job(data={"dataset": "parts", "split": "validation"})) == []
    [(pointer, sentence)] = refusals_of(roots, a_job(data={"dataset": "parts", "split": "test"}))
    assert (pointer, "there are: train, validation" in sentence) == ("/data/split", True)
    assert planned(roots, data={"dataset": "parts", "split": "validation"})[0].rows == 1
    assert planned(roots, data={"dataset": "parts"})[0].rows == 2


def test_columnar_files_are_counted_by_the_worker(roots):
    (roots.datasets / "data" / "table.parquet").write_bytes(b"PAR1 and so on PAR1")
    [step] = planned(roots, data={"dataset": "table"})
    assert (step.rows, step.why_unknown["rows"]) == (None, "The rows of .parquet files are counted by the worker.")


@pytest.mark.parametrize(("name", "rows"), [("letters", 10), ("records", 10), ("lines", 3), ("cells", 3)])
def test_rows_are_counted_as_the_worker_counts_them(roots, name, rows):
    from worker.data.files import read_rows

    known = datasets.entries(roots.datasets, "data")
    assert datasets.rows(datasets.find(known, name, FinetuningArguments(stage="pt"), "train", hubs=set()), None) == rows
    assert len(list(read_rows(known.folder, name, known.by_name[name]))) == rows


def test_the_kinds_of_files_are_those_that_the_worker_reads():
    from worker.data.files import READERS

    assert READERS.keys() == KINDS.keys()


def test_a_file_that_is_too_large_to_count_is_left_to_the_worker(roots, monkeypatch):
    monkeypatch.setattr(datasets, "LARGEST_JSON", 10)
    [step] = planned(roots)
    assert (step.rows, step.updates) == (None, None)
    assert set(step.why_unknown) == {"rows", "training_rows", "validation_rows", "updates"}


def test_a_file_that_changed_is_counted_again(roots):
    file = roots.datasets / "data" / "letters.json"
    assert planned(roots)[0].rows == 10
    file.write_text('[{"instruction": "a", "output": "b"}]')
    os.utime(file, ns=(1, 1))
    assert planned(roots)[0].rows == 1


@pytest.mark.parametrize("spoiled", [(datasets, "_is_empty", "/data/dataset"), (weights, "_header", "/model/model_name_or_path")])
def test_a_file_that_may_not_be_read_is_refused_and_no_crash(roots, monkeypatch, spoiled):
    module, function, place = spoiled

    def denied(*arguments):
        raise PermissionError(13, "Permission denied", "/secret/path")

    monkeypatch.setattr(module, function, denied)
    [(pointer, sentence)] = refusals_of(roots, a_job())
    assert pointer == place
    assert sentence.endswith("cannot be read: Permission denied.")


def test_what_only_counting_finds_is_refused_too(roots):
    def found(**data):
        read = read_job(a_job(data=data))
        return [(refusal.pointer, refusal.detail) for refusal in plan.check_rows(roots, read.spec, read.resolved)]

    assert found() == []
    assert found(dataset="broken") == [("/data/dataset", "broken.json is not valid JSON: Expecting value at line 2, column 2.")]
    [(pointer, sentence)] = found(val_size=10)
    assert pointer == "/data/val_size"
    assert "none would be left" in sentence


# -- rows and updates ------------------------------------------------------------------------------------------------------


def test_max_samples_cuts_each_data_set(roots):
    [step] = planned(roots, data={"dataset": "letters,records", "max_samples": 4})
    assert step.rows == 8


def mixed_by_the_worker(roots, document):
    from worker.data.load import Places, Wanted, _parts

    [step] = read_job(document).resolved.steps
    wanted = Wanted(step.finetuning.stage, step.data, step.measures, step.training.seed)
    return _parts(Places(roots.datasets, roots.datasets), wanted)


@pytest.mark.parametrize("val_size", [0, 2, 0.3, 5])
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("strategy", ["concat", "interleave_under", "interleave_over"])
def test_mixed_rows_are_counted_as_the_worker_mixes_what_is_not_held_out(roots, strategy, val_size, seed):
    groups = {
        "data": {"dataset": "letters,cells", "mix_strategy": strategy, "val_size": val_size},
        "training": {"seed": seed},
    }
    parts = mixed_by_the_worker(roots, a_job(**groups))
    [counts] = planned(roots, **groups)
    assert (counts.rows, counts.training_rows) == (13, len(parts.train))
    assert counts.validation_rows == (len(parts.evaluation) if val_size else 0)


def test_a_data_set_of_which_nothing_is_left_cannot_be_interleaved(roots):
    """Of letters' ten rows and cells' three, twelve are held out."""
    from worker.failures import JobFailure

    document = a_job(data={"dataset": "letters,cells", "mix_strategy": "interleave_under", "val_size": 12})
    read = read_job(document)
    [refusal] = plan.check_rows(roots, read.spec, read.resolved)
    assert refusal.pointer == "/data/val_size"
    assert "holds out every row of the data set that is number" in refusal.detail
    with pytest.raises(JobFailure) as failed:
        mixed_by_the_worker(roots, document)
    assert failed.value.sentence == refusal.detail


@pytest.mark.parametrize(
    ("data", "why"), [({"interleave_probs": "0.5,0.5"}, "is random"), ({"streaming": True}, "mixed as they come")]
)
def test_rows_that_are_drawn_or_streamed_are_mixed_by_the_worker(roots, data, why):
    mixed = {"dataset": "letters,cells", "mix_strategy": "interleave_under", "val_size": 2} | data
    [step] = planned(roots, data=mixed, training={"max_steps": 3} if "streaming" in data else {})
    assert (step.rows, step.training_rows, step.validation_rows) == (13, None, 2)
    assert why in step.why_unknown["training_rows"]


@pytest.mark.parametrize("val_size", [0, 0.07, 0.1, 0.25, 0.3, 0.99, 1, 3, 9])
def test_the_validation_part_is_the_workers(roots, val_size):
    from worker.data.splits import split

    try:
        training, validation = split(range(10), val_size, seed=1)
    except Exception:
        with pytest.raises(LibraryError):
            planned(roots, data={"val_size": val_size})
        return
    [step] = planned(roots, data={"val_size": val_size})
    assert (step.training_rows, step.validation_rows) == (len(training), len(validation))


def trainers_updates(rows, batch, accumulation, epochs, n_gpus):
    """As transformers' Trainer writes it (set_initial_training_values); the batches are dealt out."""
    len_dataloader = math.ceil(math.ceil(rows / batch) / n_gpus)
    a_pass = max(len_dataloader // accumulation + int(len_dataloader % accumulation > 0), 1)
    return -int(-(epochs * a_pass) // 1)


def test_updates_are_counted_as_the_trainer_does(roots):
    rng = random.Random(1)
    for _ in range(50):
        batch, accumulation, epochs = rng.randint(1, 12), rng.randint(1, 12), rng.choice([0.5, 1.0, 2.5, 3.0])
        training = {
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": accumulation,
            "num_train_epochs": epochs,
        }
        [step] = resolve(read_job(a_job(training=training)).spec).steps
        rows = rng.randint(1, 100)
        n_gpus = rng.randint(1, 4)
        assert plan.updates(rows, step, n_gpus) == trainers_updates(rows, batch, accumulation, epochs, n_gpus)


def test_an_update_has_rows_of_every_gpu(roots):
    training = {"per_device_train_batch_size": 2, "num_train_epochs": 1}
    [alone], [of_two] = (planned(roots, training=training, resources={"gpus": gpus}) for gpus in (1, 2))
    assert (alone.updates, of_two.updates) == (5, 3)


@pytest.mark.parametrize(("epochs", "updates"), [(1.0, 2), (2.0, 3), (0.1, 1)])
def test_updates_of_ppo_are_buffers_that_reach_over_the_ends_of_epochs(roots, epochs, updates):
    """Ten prompts, in buffers of eight: four times two batches of one."""
    training = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, "num_train_epochs": epochs}
    ppo = {"stage": "ppo", "reward_model": "tiny", "reward_model_type": "full", "ppo_buffer_size": 4}
    [step] = resolve(read_job(a_job(training=training, finetuning=ppo)).spec).steps
    assert plan.updates(10, step) == updates
    assert plan.updates(20, step, n_gpus=2) == updates, "buffers are of all GPUs"


def test_updates_of_ppo_are_not_known_where_a_tokenizer_must_find_room(roots):
    ppo = {"stage": "ppo", "reward_model": "tiny", "reward_model_type": "full"}
    document = a_job(finetuning=ppo, generating={"max_new_tokens": 0})
    [step] = plan.plan(roots, read_job(document).resolved)
    assert (step.updates, "fill max_length" in step.why_unknown["updates"]) == (None, True)


@pytest.mark.parametrize(
    ("finetuning", "beside"),
    [
        ({"stage": "sft", "finetuning_type": "full"}, []),
        ({"reward_model": "tiny", "reward_model_type": "full"}, ["reward"]),
        ({"reward_model": "judge", "reward_model_type": "lora"}, []),
        ({"reward_model": "http://judge", "reward_model_type": "api", "finetuning_type": "full"}, ["ref"]),
        (
            {"reward_model": "tiny", "reward_model_type": "full", "finetuning_type": "full", "ref_model": "tiny"},
            ["ref", "reward"],
        ),
    ],
    ids=str,
)
def test_the_whole_models_that_a_step_asks_beside_its_own_are_counted(roots, finetuning, beside):
    resolved = read_job(a_job(finetuning={"stage": "ppo"} | finetuning)).resolved
    [step] = plan.plan(roots, resolved)
    assert step.beside == dict.fromkeys(beside, step.parameters)


def test_max_steps_wins(roots):
    assert planned(roots, training={"max_steps": 7})[0].updates == 7


@pytest.mark.parametrize(
    "group", [{"finetuning": {"stage": "pt"}}, {"data": {"overlength": "drop"}}, {"data": {"sft_packing": True}}]
)
def test_updates_that_depend_on_tokens_are_null_with_a_reason(roots, group):
    [step] = planned(roots, **group)
    assert step.updates is None
    assert "tokenizer" in step.why_unknown["updates"]


def test_a_later_step_has_the_shape_of_the_model_it_goes_back_to(roots):
    steps = [{"name": "one"}, {"name": "two", "model": {"model_name_or_path": "@one"}}]
    assert [step.parameters for step in planned(roots, steps=steps, finetuning={"finetuning_type": "full"})] == [420, 420]


def test_what_was_found_well_is_not_looked_at_again_for_a_moment_and_what_is_wrong_always_is(roots):
    document, well = a_job(data={"dataset": "letters", "template": "alpaca"}), FoundWell(seconds=60)

    def refusals(document):
        try:
            read_job(document, lambda spec, resolved: check(roots, spec, resolved, well))
        except SpecRefused as refused:
            return [refusal.pointer for refusal in refused.refusals]
        return []

    missing = a_job(model={"model_name_or_path": "later"}, data={"dataset": "letters", "template": "alpaca"})
    assert refusals(missing) == ["/model/model_name_or_path"]
    shutil.copytree(roots.models / "tiny", roots.models / "later")
    assert refusals(missing) == []
    shutil.rmtree(roots.models / "later")
    assert refusals(missing) == [], "looked at within the moment"
    assert refusals(document) == []
    well = FoundWell(seconds=0)
    assert refusals(missing) == ["/model/model_name_or_path"]


# -- models beside the one that trains --------------------------------------------------------------------------------------


def with_reference(name="org/small", **arguments):
    return a_job(data={"dataset": "pairs"}, finetuning={"stage": "dpo", "ref_model": name, **arguments})


def write_tokenizer(folder, vocabulary, added=()):
    tokens = [{"id": index, "content": token} for token, index in added]
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}, "added_tokens": tokens}))


def test_a_reference_that_is_there_is_accepted_and_one_that_is_not_refused_at_its_own_argument(roots):
    write_adapter(roots)
    assert refusals_of(roots, with_reference()) == []
    assert refusals_of(roots, with_reference(ref_model_adapters="lora", ref_model_quantization_bit=4)) == []
    [(pointer, sentence)] = refusals_of(roots, with_reference("huge"))
    assert pointer == "/finetuning/ref_model"
    assert sentence.startswith("There is no model 'huge' in the models folder;")
    [(pointer, sentence)] = refusals_of(roots, with_reference(ref_model_adapters="polite"))
    assert pointer == "/finetuning/ref_model_adapters"
    assert sentence.startswith("There is no adapter 'polite'")


def test_a_reference_that_does_not_go_along_with_the_step_is_refused(roots):
    shelves.write_model(roots.models / "org" / "small", model_type="gpt2")
    document = with_reference()
    [(pointer, sentence)] = refusals_of(roots, document | {"model": document["model"] | {"shift_attn": True}})
    assert pointer == "/finetuning/ref_model"
    assert "this is a gpt2 one" in sentence
    write_adapter(roots, shapes=lora(hidden=5))
    [(pointer, sentence)] = refusals_of(roots, with_reference("tiny", ref_model_adapters="lora"))
    assert pointer == "/finetuning/ref_model_adapters"
    assert "does not fit the model 'tiny'" in sentence


def test_a_reference_may_be_what_an_earlier_step_makes_and_no_later_one(roots):
    dpo = {"finetuning": {"stage": "dpo", "ref_model": "@sft"}, "data": {"dataset": "pairs"}}
    steps = [{"name": "sft"}, {"name": "dpo", "model": {"model_name_or_path": "@sft"}, **dpo}]
    assert refusals_of(roots, a_job(steps=steps)) == []
    [(pointer, sentence)] = refusals_of(roots, a_job(steps=[{"name": "dpo", **dpo}, {"name": "sft"}]))
    assert (pointer, sentence) == ("/steps/0/finetuning/ref_model", "No earlier step is named 'sft'; there are none.")
    quantized = dpo | {"finetuning": dpo["finetuning"] | {"ref_model_adapters": "@sft"}}
    [(pointer, sentence)] = refusals_of(roots, a_job(steps=[steps[0], {"name": "dpo", **quantized}]))
    assert pointer == "/steps/1/finetuning/ref_model_adapters"
    assert sentence.startswith("The adapter of the step 'sft' was trained on 'tiny', and here it would lie on 'tiny' + '@sft'.")


@pytest.mark.parametrize(
    ("vocabulary", "added", "part"),
    [
        ({"a": 0, "b": 1, "c": 2}, [], None),
        ({"a": 0, "b": 1}, [("<s>", 2)], None),
        ({"a": 0, "b": 1, "<s>": 2}, [("<s>", 2), ("<new>", 3)], None),
        ([["a", 0.0], ["b", -1.5], ["c", -2.0]], [], None),
        ({"a": 1, "b": 0}, [], "2 tokens differ, such as 'a'"),
        ({"a": 0}, [], "1 token differs, such as 'b'"),
        ({"a": 0, "b": 1}, [("<s>", 3)], "1 token differs, such as '<s>'"),
        ({"a": 0}, [("<s>", 3)], "2 tokens differ, such as 'b'"),
    ],
)
def test_a_reference_with_another_tokenizer_is_refused(roots, vocabulary, added, part):
    write_tokenizer(roots.models / "tiny", {"a": 0, "b": 1}, [("<s>", 2)])
    write_tokenizer(roots.models / "org" / "small", vocabulary, added)
    found = refusals_of(roots, with_reference())
    if part is None:
        assert found == []
        return
    [(pointer, sentence)] = found
    assert pointer == "/finetuning/ref_model"
    assert sentence.startswith("'org/small' has another tokenizer than 'tiny' (")
    assert part in sentence


def test_a_tokenizer_that_cannot_be_read_here_is_left_to_the_worker(roots):
    write_tokenizer(roots.models / "tiny", {"a": 0})
    (roots.models / "org" / "small" / "tokenizer.json").write_text("[]")
    assert refusals_of(roots, with_reference()) == []


@pytest.mark.parametrize(
    ("data", "finetuning", "training", "pointer", "part"),
    [
        ({"dataset": "labels"}, {}, {}, "/data/dataset", "only the stage dpo with dpo_loss kto"),
        ({"dataset": "labels"}, {"dpo_loss": "kto_pair"}, {}, "/data/dataset", "only the stage dpo with dpo_loss kto"),
        ({"dataset": "labels, pairs"}, {"dpo_loss": "kto"}, {}, "/data/dataset", "hold pairs and some labels"),
        (
            {"dataset": "labels"},
            {"dpo_loss": "kto"},
            {"per_device_train_batch_size": 1},
            "/training/per_device_train_batch_size",
            "must be at least 2",
        ),
        ({"dataset": "letters"}, {}, {}, "/data/dataset", "needs a chosen and a rejected one"),
    ],
)
def test_data_that_dpo_cannot_learn_from_is_refused(roots, data, finetuning, training, pointer, part):
    document = a_job(data=data, finetuning={"stage": "dpo"} | finetuning, training=training)
    [(found, sentence)] = refusals_of(roots, document)
    assert found == pointer
    assert part in sentence


def test_labels_are_learned_by_kto(roots):
    training = {"per_device_train_batch_size": 2}
    document = a_job(data={"dataset": "labels"}, finetuning={"stage": "dpo", "dpo_loss": "kto"}, training=training)
    assert refusals_of(roots, document) == []
