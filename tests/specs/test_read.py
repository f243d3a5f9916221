"""Documents in, jobs out: nested, flat or as YAML; and everything that is wrong, in its place, at once."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.specs import rules
from service.specs.flat import COMMAND_LINE
from service.specs.job import JobSpec, resolve
from service.specs.ledger import GROUPS
from service.specs.lineage import Lineage, lineages
from service.specs.read import read_job
from service.specs.refusals import Refusal, SpecRefused
from tests.specs.job_documents import a_flat_job, a_job, pointers_of, refusals_of, without

# A supervised fine-tuning file as LLaMA-Factory's own examples write it.
LLAMA_FACTORY_FILE = """
### model
model_name_or_path: tiny

### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all

### dataset
dataset: letters, numbers
template: chatml
cutoff_len: 2048
max_samples: 1000
overwrite_cache: true
preprocessing_num_workers: 16
dataloader_num_workers: 4

### output
output_dir: saves/tiny/lora/sft
logging_steps: 10
save_steps: 500
plot_loss: true
overwrite_output_dir: true
save_only_model: false
report_to: none

### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
resume_from_checkpoint: null
"""

THE_SAME_NESTED: dict[str, Any] = {
    "model": {"model_name_or_path": "tiny"},
    "finetuning": {"stage": "sft", "finetuning_type": "lora", "lora_rank": 8, "lora_target": ["all"], "plot_loss": True},
    "data": {
        "dataset": ["letters", "numbers"],
        "template": "chatml",
        "cutoff_len": 2048,
        "max_samples": 1000,
        "overwrite_cache": True,
        "preprocessing_num_workers": 16,
    },
    "training": {
        "dataloader_num_workers": 4,
        "logging_steps": 10,
        "save_steps": 500,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 8,
        "learning_rate": 1e-4,
        "num_train_epochs": 3,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.1,
        "bf16": True,
    },
    "labels": {"output_dir": "saves/tiny/lora/sft"},
}


def read_steps(*steps: dict[str, Any], **groups: Any) -> Any:
    return read_job(a_job(**groups, steps=list(steps))).resolved.steps


# ---------------------------------------------------------------------------------------------------- one job, three ways


def test_a_llama_factory_file_and_the_nested_document_are_the_same_job() -> None:
    flat = read_job(yaml.safe_load(LLAMA_FACTORY_FILE))
    nested = read_job(THE_SAME_NESTED)
    from_yaml = read_job(yaml.safe_load(yaml.safe_dump(THE_SAME_NESTED)))
    assert flat.spec == nested.spec == from_yaml.spec
    assert flat.resolved == nested.resolved
    assert flat.spec.data.dataset == ("letters", "numbers")


def test_a_llama_factory_file_gets_a_notice_for_every_line_that_is_met_otherwise() -> None:
    notices = [notice.pointer for notice in read_job(yaml.safe_load(LLAMA_FACTORY_FILE)).notices]
    assert notices == [
        "/do_train",
        "/output_dir",
        "/overwrite_output_dir",
        "/save_only_model",
        "/ddp_timeout",
        "/resume_from_checkpoint",
    ]


def test_the_smallest_flat_document_is_the_smallest_nested_one() -> None:
    assert read_job(a_flat_job()).spec == read_job(a_job()).spec


@pytest.mark.parametrize(("key", "value"), [(key, fits[0]) for key, (fits, _) in COMMAND_LINE.items() if fits[0] is not int])
def test_a_command_line_key_that_means_what_happens_anyway_is_noted(key: str, value: Any) -> None:
    notices = read_job(a_flat_job(**{key: value})).notices
    assert [(notice.pointer, notice.detail) for notice in notices] == [(f"/{key}", COMMAND_LINE[key][1])]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("do_train", False),
        ("do_train", 1),
        ("do_train", []),
        ("do_train", None),
        ("do_eval", 0),
        ("do_predict", 1),
        ("predict_with_generate", True),
        ("ddp_timeout", True),
        ("ddp_timeout", "long"),
        ("resume_from_checkpoint", "saves/checkpoint-10"),
        ("save_only_model", True),
        ("save_only_model", 0),
        ("trust_remote_code", True),
    ],
)
def test_a_command_line_key_that_asks_for_something_else_is_refused(key: str, value: Any) -> None:
    assert refusals_of(a_flat_job(**{key: value})) == [(f"/{key}", COMMAND_LINE[key][1])]


@pytest.mark.parametrize("order", [["labels", "output_dir"], ["output_dir", "labels"]])
def test_output_dir_is_kept_as_a_label_beside_the_labels_given(order: list[str]) -> None:
    given_labels = {"team": "speech"}
    values = {"labels": given_labels, "output_dir": "saves"}
    spec = read_job(a_flat_job(**{key: values[key] for key in order})).spec
    assert spec.labels == {"team": "speech", "output_dir": "saves"}
    assert given_labels == {"team": "speech"}, "the caller's own document was changed"


def test_a_flat_seed_is_trainings_unless_the_file_asks_a_benchmark() -> None:
    assert read_job(a_flat_job(seed=7)).spec.training.seed == 7
    assert pointers_of(a_flat_job(seed=-1, task="mmlu")) == ["/seed"]
    assert "greater than or equal to 0" in refusals_of(a_flat_job(seed=-1, task="mmlu"))[0][1]


def test_a_flat_file_may_name_and_place_its_job() -> None:
    spec = read_job(a_flat_job(name="first try", queue="a100", priority=5, gpus=1)).spec
    assert (spec.name, spec.resources.queue, spec.resources.priority, spec.resources.gpus) == ("first try", "a100", 5, 1)


# ---------------------------------------------------------------------------------------------------- places


@pytest.mark.parametrize("document", [None, [], [{"model": {}}], "model", 3, 2.5, True])
def test_a_document_that_is_no_object_is_refused_as_a_whole(document: Any) -> None:
    ((pointer, detail),) = refusals_of(document)
    assert pointer == ""
    assert "A job is an object" in detail


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        (a_job(modle={}), "/modle"),
        (a_job(model={"model_path": "x"}), "/model/model_path"),
        (a_job(training={"lr": 1e-4}), "/training/lr"),
        (a_job(resources={"cpus": 3}), "/resources/cpus"),
        (a_job(steps=[{"name": "one", "stage": "sft"}]), "/steps/0/stage"),
        (a_job(steps=[{"name": "one"}, {"name": "two", "training": {"lr": 1e-4}}]), "/steps/1/training/lr"),
        (a_job(steps=[{"name": "one", "resources": {"gpus": 1}}]), "/steps/0/resources"),
        (a_job(template="chatml"), "/template"),
        (a_flat_job(lr=1e-4), "/lr"),
        (a_job(**{"a/b~c": 1}), "/a~1b~0c"),
    ],
)
def test_an_unknown_key_is_refused_at_its_place_at_every_depth(document: Any, pointer: str) -> None:
    assert refusals_of(document) == [(pointer, "There is no such argument.")]


@pytest.mark.parametrize(
    ("group", "field", "value"),
    [
        ("training", "save_steps", "10"),
        ("training", "save_steps", True),
        ("training", "save_steps", 10.5),
        ("training", "save_steps", None),
        ("training", "learning_rate", "1e-4"),
        ("training", "learning_rate", True),
        ("training", "learning_rate", float("nan")),
        ("training", "learning_rate", float("inf")),
        ("training", "bf16", "true"),
        ("training", "bf16", 1),
        ("training", "seed", 2**32),
        ("training", "data_seed", 2**32),
        ("data", "template", 3),
        ("data", "dataset", 3),
        ("data", "dataset", {"a": "b"}),
        ("data", "dataset", ["letters", 3]),
        ("data", "val_size", -1),
        ("model", "quantization_bit", 3),
        ("model", "model_name_or_path", ""),
        ("model", "model_name_or_path", None),
        ("resources", "queue", "Not A Queue"),
        ("resources", "queue", "default\n"),
        ("measures", "names", None),
        ("measures", "every", 0),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_at_job_level_in_a_step_and_flat(group: str, field: str, value: Any) -> None:
    assert pointers_of(a_job(**{group: {field: value}})) == [f"/{group}/{field}"]
    if group != "resources":
        assert pointers_of(a_job(steps=[{"name": "one", group: {field: value}}])) == [f"/steps/0/{group}/{field}"]
    if group != "measures":
        assert pointers_of(a_flat_job(**{field: value})) == [f"/{field}"]


@pytest.mark.parametrize("group", [*GROUPS, "labels"])
@pytest.mark.parametrize("value", ["tiny", 3, [], True])
def test_a_group_that_is_no_object_is_refused_at_its_own_place(group: str, value: Any) -> None:
    nested = [(pointer, detail) for pointer, detail in refusals_of({**a_job(), group: value})]
    assert nested == [(f"/{group}", "Input should be an object.")]
    assert pointers_of({**a_flat_job(), group: value}) == [f"/{group}"]
    assert pointers_of({group: value, **a_flat_job()}) == [f"/{group}"]
    assert pointers_of({group: value, **a_flat_job(output_dir="saves")}) == [f"/{group}"]


@pytest.mark.parametrize("steps", [{}, "one", 3, None])
def test_steps_that_are_no_list_are_refused(steps: Any) -> None:
    assert refusals_of(a_job(steps=steps)) == [("/steps", "Input should be a list.")]


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", "@a", "a\n", "é", "x" * 64])
def test_a_name_that_could_not_stand_in_a_path_is_no_name_of_a_step_or_a_label(name: str) -> None:
    assert pointers_of(a_job(steps=[{"name": name}])) == ["/steps/0/name"]
    assert pointers_of(a_job(labels={name: "x"})) == [Refusal(("labels", name), "").pointer]


@pytest.mark.parametrize("name", ["sft", "0", "a.b-c_d", "x" * 63])
def test_letters_digits_dots_and_dashes_make_a_name(name: str) -> None:
    assert refusals_of(a_job(steps=[{"name": name}], labels={name: "x"})) == []


def test_a_label_is_a_short_text() -> None:
    assert pointers_of(a_job(labels={"team": 3})) == ["/labels/team"]
    assert pointers_of(a_job(labels={"team": "x" * 257})) == ["/labels/team"]
    assert pointers_of(a_job(labels={f"label{number}": "" for number in range(33)})) == ["/labels"]


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        (a_job(name="a\0b"), "/name"),
        (a_job(model={"model_name_or_path": "tiny\0"}), "/model/model_name_or_path"),
        (a_job(labels={"team": "\0"}), "/labels/team"),
        (a_job(data={"dataset": ["letters", "\0"]}), "/data/dataset/1"),
        (a_job(steps=[{"name": "one", "data": {"dataset_dir": "\0"}}]), "/steps/0/data/dataset_dir"),
        (a_flat_job(dataset_dir="a\0"), "/dataset_dir"),
    ],
)
def test_a_null_byte_is_refused_where_it_stands(document: Any, pointer: str) -> None:
    assert refusals_of(document) == [(pointer, "Text may not hold a null byte.")]


def test_all_that_is_wrong_with_types_is_said_at_once() -> None:
    document = a_job(name="\0", model={"x": 1}, training={"save_steps": "a", "bf16": 1}, steps=[{"name": "?", "data": {"y": 1}}])
    assert pointers_of(document) == [
        "/name",
        "/model/x",
        "/training/save_steps",
        "/training/bf16",
        "/steps/0/name",
        "/steps/0/data/y",
    ]


def test_all_that_is_wrong_with_rules_and_fates_is_said_at_once() -> None:
    document = a_job(
        data={"template": "nope", "dataset": ""},
        finetuning={"num_layer_trainable": 0},
        evaluation={"download_mode": "force_redownload"},
        steps=[{"name": "one"}, {"name": "one"}],
    )
    assert sorted(pointers_of(document)) == [
        "/data/dataset",
        "/data/template",
        "/evaluation/download_mode",
        "/finetuning/num_layer_trainable",
        "/finetuning/num_layer_trainable",
        "/steps/1/name",
    ]


def test_all_that_is_wrong_with_a_flat_document_is_said_at_once_under_flat_pointers() -> None:
    document = a_flat_job(predict_with_generate=True, template="nope", ppo_logger="wandb", lora_rank=4, finetuning_type="full")
    assert sorted(pointers_of(document)) == ["/lora_rank", "/ppo_logger", "/predict_with_generate", "/template"]


def test_what_a_flat_document_lacks_is_named_flat() -> None:
    assert pointers_of({"template": "chatml", "dataset": "letters"}) == ["/model_name_or_path"]
    assert pointers_of({"model_name_or_path": "tiny"}) == ["/template", "/dataset"]


def test_the_error_says_every_place_and_why() -> None:
    with pytest.raises(SpecRefused, match=r"^/data/template: There is no template 'nope'.*; /data/dataset: A training step"):
        read_job(a_job(data={"template": "nope", "dataset": ""}))


# ---------------------------------------------------------------------------------------------------- steps


def test_a_job_without_steps_is_one_step_named_after_its_stage() -> None:
    (step,) = read_job(a_job(finetuning={"stage": "pt"})).resolved.steps
    assert step.name == "pt"


def test_a_step_changes_what_it_sets_and_keeps_the_rest() -> None:
    first, second = read_steps(
        {"name": "first", "training": {"learning_rate": 1e-3}, "data": {"dataset": "numbers"}},
        {"name": "second", "training": {"save_steps": 7}},
        training={"learning_rate": 1e-4, "save_steps": 100},
        data={"cutoff_len": 256},
    )
    assert (first.training.learning_rate, first.training.save_steps) == (1e-3, 100)
    assert (second.training.learning_rate, second.training.save_steps) == (1e-4, 7)
    assert (first.data.dataset, first.data.cutoff_len) == (("numbers",), 256)
    assert (second.data.dataset, second.data.cutoff_len) == (("letters",), 256)


def test_a_step_may_set_an_argument_back_to_its_default() -> None:
    (step,) = read_steps({"name": "only", "training": {"save_steps": 500}}, training={"save_steps": 7})
    assert step.training.save_steps == 500


def test_a_null_in_a_step_sets_null_where_null_means_something() -> None:
    (step,) = read_steps({"name": "only", "data": {"max_samples": None}}, data={"max_samples": 10})
    assert step.data.max_samples is None


def test_a_null_in_a_step_is_refused_where_null_means_nothing() -> None:
    assert pointers_of(a_job(steps=[{"name": "only", "data": {"cutoff_len": None}}])) == ["/steps/0/data/cutoff_len"]


@pytest.mark.parametrize("step", [{"data": None}, {"data": {}}])
def test_a_step_with_a_null_or_empty_group_overrides_nothing(step: dict[str, Any]) -> None:
    assert (
        read_steps({"name": "only", **step}, data={"cutoff_len": 99})[0].data
        == read_job(a_job(data={"cutoff_len": 99})).spec.data
    )


def test_commas_are_split_in_a_step_as_in_the_job() -> None:
    (step,) = read_steps({"name": "only", "data": {"dataset": " letters ,numbers,"}, "measures": {"names": "entropy,perplexity"}})
    assert step.data.dataset == ("letters", "numbers")
    assert step.measures.names == ("entropy", "perplexity")


def test_lora_defaults_follow_each_steps_own_rank() -> None:
    first, second, third = read_steps(
        {"name": "first"},
        {"name": "second", "finetuning": {"lora_rank": 32, "lora_target": "q_proj"}},
        {"name": "third", "finetuning": {"lora_alpha": 5}},
        finetuning={"lora_rank": 4},
    )
    assert (first.finetuning.lora_alpha, first.finetuning.lora_target) == (8, ("all",))
    assert (second.finetuning.lora_alpha, second.finetuning.lora_target) == (64, ("q_proj",))
    assert third.finetuning.lora_alpha == 5


def test_the_spec_is_kept_as_it_came_and_only_the_resolved_job_has_defaults_filled_in() -> None:
    read = read_job(a_job())
    assert read.spec.finetuning.lora_alpha is None
    assert read.spec.model_dump(exclude_unset=True) == a_job(data={"dataset": ("letters",)})


def test_a_rule_broken_by_the_job_is_said_once_whatever_the_number_of_steps() -> None:
    steps = [{"name": "one"}, {"name": "two"}]
    assert pointers_of(a_job(training={"max_steps": 0}, steps=steps)) == ["/training/max_steps"]


def test_a_rule_broken_by_a_step_points_into_the_step() -> None:
    steps = [{"name": "one"}, {"name": "two", "training": {"max_steps": 0}}]
    assert pointers_of(a_job(steps=steps)) == ["/steps/1/training/max_steps"]


def test_a_step_may_mend_what_the_job_leaves_out() -> None:
    bare = without(a_job(), "data", "template")
    assert pointers_of(bare) == ["/data/template"]
    assert pointers_of({**bare, "steps": [{"name": "only", "data": {"template": "chatml"}}]}) == []


def test_steps_have_names_of_their_own() -> None:
    ((pointer, detail),) = refusals_of(a_job(steps=[{"name": "sft"}, {"name": "pt"}, {"name": "sft"}]))
    assert pointer == "/steps/2/name"
    assert "another step named 'sft'" in detail


# ---------------------------------------------------------------------------------------------------- "@name"

FULL = {"finetuning_type": "full"}


def test_a_later_step_may_start_from_the_model_that_an_earlier_one_made() -> None:
    _, second = read_steps({"name": "pt", "finetuning": FULL}, {"name": "sft", "model": {"model_name_or_path": "@pt"}})
    assert second.model.model_name_or_path == "@pt"


@pytest.mark.parametrize("name", ["@nobody", "@second", "@third", "@"])
def test_a_reference_to_no_earlier_step_is_refused_with_those_there_are(name: str) -> None:
    steps = [{"name": "first"}, {"name": "second", "model": {"model_name_or_path": name}}, {"name": "third"}]
    assert refusals_of(a_job(finetuning=FULL, steps=steps)) == [
        ("/steps/1/model/model_name_or_path", f"No earlier step is named {name[1:]!r}; there are first.")
    ]


def test_a_reference_in_the_jobs_own_group_reaches_its_first_step_too() -> None:
    assert pointers_of(a_job(model={"model_name_or_path": "@first"})) == ["/model/model_name_or_path"]
    steps = [{"name": "first", "model": {"model_name_or_path": "tiny"}}, {"name": "second"}]
    assert pointers_of(a_job(model={"model_name_or_path": "@first"}, finetuning=FULL, steps=steps)) == []


def lineages_of(*steps: dict[str, Any], **groups: Any) -> dict[str, Lineage]:
    return lineages(read_job(a_job(**groups, steps=list(steps))).resolved)


def on(model: str, *adapters: str) -> dict[str, Any]:
    return {"model_name_or_path": model} | ({"adapter_name_or_path": ",".join(adapters)} if adapters else {})


NEW = {"create_new_adapter": True}


@pytest.mark.parametrize(
    ("model", "finetuning", "lineage"),
    [
        (on("tiny"), {}, Lineage("tiny")),
        (on("tiny", "a"), {}, Lineage("tiny", (), "a")),
        (on("tiny", "a", "b", "c"), {}, Lineage("tiny", ("a", "b"), "c")),
        (on("tiny", "a", "b"), NEW, Lineage("tiny", ("a", "b"))),
        (on("tiny", "a"), FULL, Lineage("tiny", ("a",))),
        # what "first" made is an adapter, so the model it stands for is a chain
        (on("@first"), {}, Lineage("tiny", ("@first",))),
        (on("@first"), FULL, Lineage("tiny", ("@first",))),
        (on("tiny", "@first"), {}, Lineage("tiny", (), "@first")),
        (on("tiny", "@first"), NEW, Lineage("tiny", ("@first",))),
        (on("@first", "a"), {}, Lineage("tiny", ("@first",), "a")),
    ],
)
def test_all_adapters_but_the_last_are_merged_and_the_last_too_where_training_does_not_go_on_with_it(
    model: dict[str, Any], finetuning: dict[str, Any], lineage: Lineage
) -> None:
    found = lineages_of({"name": "first"}, {"name": "second", "model": model, "finetuning": finetuning})
    assert found == {"first": Lineage("tiny"), "second": lineage}


def test_an_adapter_that_went_on_takes_the_place_of_the_one_it_began_as() -> None:
    found = lineages_of(
        {"name": "one", "model": on("tiny", "a", "b")},
        {"name": "two", "model": on("@one")},
        {"name": "three", "model": on("tiny", "a", "@one", "@two")},
    )
    assert found["two"] == Lineage("tiny", ("a", "@one"))
    assert found["three"] == Lineage("tiny", ("a", "@one"), "@two")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (on("org/small", "@one"), "was trained on 'tiny', and here it would lie on 'org/small'. Name '@one' as model"),
        (on("tiny", "a", "@one"), "was trained on 'tiny', and here it would lie on 'tiny' + 'a'."),
        (on("tiny", "@two"), "was trained on 'tiny' + '@one', and here it would lie on 'tiny'."),
        (on("tiny", "@one", "@one"), "here it would lie on 'tiny' + '@one'."),
        (on("tiny", "@whole"), "The step 'whole' makes a whole model, not an adapter"),
        (on("tiny", "@nobody"), "No earlier step is named 'nobody'; there are one, two, whole."),
    ],
)
def test_an_adapter_of_another_base_is_refused_with_both_named(model: dict[str, Any], says: str) -> None:
    steps = [
        {"name": "one"},
        {"name": "two", "model": on("@one")},
        {"name": "whole", "finetuning": FULL},
        {"name": "last", "model": model},
    ]
    ((pointer, detail),) = refusals_of(a_job(steps=steps))
    assert pointer == "/steps/3/model/adapter_name_or_path"
    assert says in detail


def test_a_chain_of_adapters_is_not_merged_into_a_quantized_model() -> None:
    steps = [{"name": "one"}, {"name": "two", "model": {"model_name_or_path": "@one", "quantization_bit": 4}}]
    ((pointer, detail),) = refusals_of(a_job(steps=steps))
    assert pointer == "/steps/1/model/quantization_bit"
    assert "'@one'" in detail
    steps[1] = {"name": "two", "model": {"adapter_name_or_path": "@one", "quantization_bit": 4}}
    assert refusals_of(a_job(steps=steps)) == []


# ---------------------------------------------------------------------------------------------------- rules


def a_stream(data: dict[str, Any] | None = None, training: dict[str, Any] | None = None) -> dict[str, Any]:
    return a_job(data={"streaming": True, **(data or {})}, training={"max_steps": 9, **(training or {})})


# For each rule, documents that break it and no other rule: (document, pointer, part of the sentence). What an argument's
# fate refuses as well is refused twice, once for each reason; FATES holds the pointers that the ledger adds.
def guarded(*when: str, **measures: Any) -> dict[str, Any]:
    return a_job(measures={**measures, "guards": [{"when": it, "then": "stop"} for it in when]})


PPO = {"stage": "ppo", "reward_model": "scorer"}


def exporting(checkpoint: str, **model: Any) -> dict[str, Any]:
    return a_job(do="export", model={"model_name_or_path": checkpoint, **model})


def evaluating(**evaluation: Any) -> dict[str, Any]:
    return {"do": "evaluate", "model": {"model_name_or_path": "tiny"}, "evaluation": evaluation}


def measuring(
    checkpoints: str | None = None, names: str = "entropy", dataset: str | None = None, **groups: Any
) -> dict[str, Any]:
    """A job that measures."""
    every = {"every": groups.pop("every")} if "every" in groups else {}
    given = {"names": names, "checkpoints": checkpoints, "dataset": dataset} | every
    return a_job(do="measure", measures={name: value for name, value in given.items() if value is not None}, **groups)


ASKED = [{"role": "user", "content": "a"}]

UNSLOTH = {"use_unsloth": True}

BROKEN: dict[Callable[..., Any], list[tuple[dict[str, Any], str, str]]] = {
    rules.template_is_given: [
        (without(a_job(), "data", "template"), "/data/template", "stage sft needs a template"),
    ],
    rules.template_is_known: [
        (a_job(data={"template": "nope"}), "/data/template", "no template 'nope'"),
    ],
    rules.own_template_is_not_split: [
        (
            a_job(data={"template": "tokenizer"}, model={"split_special_tokens": True}),
            "/model/split_special_tokens",
            "whose marks would be split",
        ),
    ],
    rules.dataset_is_given: [
        (without(a_job(), "data", "dataset"), "/data/dataset", "needs a data set"),
        (a_job(data={"dataset": " , "}), "/data/dataset", "needs a data set"),
    ],
    rules.held_out_rows_are_not_trained: [
        (a_job(data={"dataset": "letters, numbers, letters", "val_size": 0.1}), "/data/dataset", "letters is named twice"),
    ],
    rules.packed_examples_stay_apart: [
        (a_job(data={"sft_packing": True}, model={"shift_attn": True}), "/model/shift_attn", "reach over the examples"),
    ],
    rules.blocks_are_of_one_length: [
        (a_job(data={"sft_packing": True}, training={"group_by_length": True}), "/training/group_by_length", "nothing to group"),
    ],
    rules.label_fits: [
        (a_job(data={"reserved_label_len": 8, "cutoff_len": 8}), "/data/reserved_label_len", "smaller than cutoff_len"),
    ],
    rules.val_size_is_a_share_or_a_count: [(a_job(data={"val_size": 1.5}), "/data/val_size", "share below 1 or a whole")],
    rules.streaming_has_an_end: [(a_job(data={"streaming": True}), "/data/streaming", "set training.max_steps")],
    rules.streaming_counts_its_validation: [
        (a_job(data={"streaming": True, "val_size": 0.1}, training={"max_steps": 9}), "/data/val_size", "whole number"),
    ],
    rules.streaming_takes_all: [
        (a_job(data={"streaming": True, "max_samples": 5}, training={"max_steps": 9}), "/data/max_samples", "go with streaming"),
    ],
    rules.streaming_is_counted_in_steps: [
        (a_stream(training={"save_strategy": "epoch"}), "/training/save_strategy", "use save_strategy steps"),
    ],
    rules.streaming_keeps_its_order: [
        (a_stream(training={"group_by_length": True}), "/training/group_by_length", "cannot be grouped by length"),
    ],
    rules.streaming_is_not_cached: [(a_stream(data={"cache_path": "mine"}), "/data/cache_path", "leave out cache_path")],
    rules.streaming_is_not_packed: [(a_stream(data={"sft_packing": True}), "/data/sft_packing", "does not go with streaming")],
    rules.streaming_tokenises_as_it_trains: [
        (a_stream(data={"preprocessing_num_workers": 2}), "/data/preprocessing_num_workers", "by the training process"),
    ],
    rules.streaming_reads_in_the_training_process: [
        (a_stream(training={"dataloader_num_workers": 1}), "/training/dataloader_num_workers", "by the training process"),
    ],
    rules.split_is_a_name: [
        (a_job(data={"split": "train[:10%]"}), "/data/split", "the name of one split"),
        (a_job(data={"split": ""}), "/data/split", "the name of one split"),
    ],
    rules.several_are_interleaved: [
        (a_job(data={"mix_strategy": "interleave_under"}), "/data/mix_strategy", "nothing to interleave it with"),
    ],
    rules.cache_path_is_a_name: [
        (a_job(data={"cache_path": "../mine"}), "/data/cache_path", "no folders"),
        (a_job(data={"cache_path": "/cache"}), "/data/cache_path", "no folders"),
        (a_job(data={"cache_path": "."}), "/data/cache_path", "no folders"),
    ],
    rules.interleave_probs_fit: [
        (a_job(data={"interleave_probs": "a"}), "/data/interleave_probs", "are numbers"),
        (a_job(data={"interleave_probs": "0.5,0.5"}), "/data/interleave_probs", "2 probabilities for 1 data sets"),
        (a_job(data={"interleave_probs": "0.5,0.4", "dataset": "a,b"}), "/data/interleave_probs", "add up to 0.9"),
        (a_job(data={"interleave_probs": "2,-1", "dataset": "a,b"}), "/data/interleave_probs", "above 0 and up to 1"),
        (a_job(data={"interleave_probs": "1,0", "dataset": "a,b"}), "/data/interleave_probs", "that is never drawn"),
        (a_job(data={"interleave_probs": "nan"}), "/data/interleave_probs", "above 0 and up to 1"),
    ],
    rules.quantization_needs_lora: [
        (a_job(model={"quantization_bit": 4}, finetuning=FULL), "/model/quantization_bit", "only be trained with"),
    ],
    rules.quantized_base_keeps_its_adapter: [
        (
            a_job(model={"quantization_bit": 4, "adapter_name_or_path": "a"}, finetuning={"create_new_adapter": True}),
            "/finetuning/create_new_adapter",
            "cannot merge",
        ),
        (a_job(model={"quantization_bit": 4, "adapter_name_or_path": "a,b"}), "/model/adapter_name_or_path", "one adapter only"),
    ],
    rules.quantized_companions_keep_their_adapter: [
        (
            a_job(
                finetuning={"stage": "dpo", "ref_model": "b", "ref_model_adapters": "c,d", "ref_model_quantization_bit": 8},
            ),
            "/finetuning/ref_model_adapters",
            "one adapter only",
        ),
    ],
    rules.whole_models_take_one_adapter: [
        (a_job(model={"adapter_name_or_path": "a,b"}, finetuning=FULL), "/model/adapter_name_or_path", "full takes one adapter"),
    ],
    rules.pairs_are_measured_by_rewards: [
        (a_job(measures={"names": "cross_entropy,reward_margin"}), "/measures/names", "only a step of the stage rm"),
        (a_job(steps=[{"name": "a", "measures": {"names": "reward_margin"}}]), "/steps/0/measures/names", "of the stage rm"),
    ],
    rules.ppo_has_a_reward: [(a_job(finetuning={"stage": "ppo"}), "/finetuning/reward_model", "needs a reward model")],
    rules.lora_reward_needs_lora: [
        (
            a_job(finetuning={**FULL, "stage": "ppo", "reward_model": "scorer"}),
            "/finetuning/reward_model_type",
            "need reward_model_type full or api",
        ),
    ],
    rules.ppo_attends_fully: [
        (
            a_job(model={"shift_attn": True}, finetuning={"stage": "ppo", "reward_model": "scorer"}),
            "/model/shift_attn",
            "ppo generates its own",
        ),
    ],
    rules.ppo_is_counted_in_steps: [
        (a_job(finetuning=PPO, training={"save_strategy": "epoch"}), "/training/save_strategy", "reaches over the end"),
    ],
    rules.ppo_does_not_scale_gradients: [
        (a_job(finetuning=PPO, training={"fp16": True}), "/training/fp16", "train with bf16 instead"),
    ],
    rules.drawing_needs_a_temperature: [
        (a_job(finetuning=PPO, generating={"temperature": 0}), "/generating/temperature", "set do_sample to false"),
    ],
    rules.shifted_attention_is_its_own: [
        (a_job(model={"shift_attn": True, "flash_attn": True}), "/model/flash_attn", "not both"),
    ],
    rules.shifted_groups_have_halves: [
        (a_job(model={"shift_attn": True}, data={"cutoff_len": 7}), "/data/cutoff_len", "need two at least"),
    ],
    rules.unsloth_trains_adapters_on_texts: [
        (a_job(model=UNSLOTH, finetuning=FULL), "/model/use_unsloth", "finetuning_type full has none"),
        *(
            (a_job(model=UNSLOTH, finetuning={"stage": stage}), "/model/use_unsloth", f"{stage} trains without it")
            for stage in ("rm", "dpo")
        ),
    ],
    rules.unsloth_does_its_own: [
        (a_job(**{**given, "model": UNSLOTH | given.get("model", {})}), pointer, "does not go along with use_unsloth")
        for given, pointer in (
            (
                {"model": {"adapter_name_or_path": "a"}, "finetuning": {"create_new_adapter": True}},
                "/model/adapter_name_or_path",
            ),
            ({"model": {"resize_vocab": True}}, "/model/resize_vocab"),
            ({"model": {"rope_scaling": "linear"}}, "/model/rope_scaling"),
            ({"model": {"flash_attn": True}}, "/model/flash_attn"),
            ({"model": {"shift_attn": True}}, "/model/shift_attn"),
            ({"model": {"upcast_layernorm": True}}, "/model/upcast_layernorm"),
            ({"model": {"upcast_lmhead_output": True}}, "/model/upcast_lmhead_output"),
            ({"data": {"sft_packing": True}}, "/data/sft_packing"),
            ({"finetuning": {"additional_target": "embed_tokens"}}, "/finetuning/additional_target"),
        )
    ],
    rules.unsloth_quantizes_to_four_bits: [
        (a_job(model=UNSLOTH | {"quantization_bit": 8}), "/model/quantization_bit", "4 bits or none"),
        (
            a_job(model=UNSLOTH | {"quantization_bit": 4, "quantization_type": "fp4"}),
            "/model/quantization_type",
            "quantizes to nf4",
        ),
        (
            a_job(model=UNSLOTH | {"quantization_bit": 4, "double_quantization": False}),
            "/model/double_quantization",
            "quantizes its scales, too",
        ),
    ],
    rules.scaled_gradients_are_fp32: [
        (
            a_job(finetuning={"lora_bf16_mode": True}, training={"fp16": True}),
            "/finetuning/lora_bf16_mode",
            "needs fp32 adapters",
        ),
    ],
    rules.export_quantization_has_a_corpus: [
        (exporting("tiny", export_quantization_bit=4), "/model/export_quantization_dataset", "a data set to calibrate on"),
    ],
    rules.quantized_exports_are_safetensors: [
        (
            exporting("tiny", export_quantization_bit=4, export_quantization_dataset="letters", export_legacy_format=True),
            "/model/export_legacy_format",
            "written as safetensors",
        ),
    ],
    rules.hub_model_id_is_a_name: [
        (exporting("tiny", export_hub_model_id=name, hf_hub_token="hf_x"), "/model/export_hub_model_id", "named owner/name")
        for name in ("tiny", "a/b/c", "../tiny", "ann/tiny--1", "ann/tiny.git", "ann/", "ann/.tiny", "https://hub/ann/tiny")
    ],
    rules.pushing_has_a_token: [
        (exporting("tiny", export_hub_model_id="ann/tiny"), "/model/hf_hub_token", "a token that may write there"),
    ],
    rules.warmup_is_said_once: [
        (a_job(training={"warmup_steps": 10, "warmup_ratio": 0.1}), "/training/warmup_ratio", "not both"),
    ],
    rules.precision_is_one: [(a_job(training={"bf16": True, "fp16": True}), "/training/fp16", "not both")],
    rules.max_steps_is_positive: [(a_job(training={"max_steps": 0}), "/training/max_steps", "at least 1, or -1")],
    rules.adafactor_has_whole_matrices: [
        (
            a_job(finetuning={"finetuning_type": "full"}, training={"fsdp": True, "optim": "adafactor"}, resources={"gpus": 2}),
            "/training/optim",
            "use adamw_torch or sgd",
        ),
    ],
    rules.measures_are_known: [
        (a_job(measures={"names": "entropy,loss"}), "/measures/names", "no measure 'loss'; there are cross_entropy"),
        (
            a_job(measures={"names": "crossentropy"}),
            "/measures/names",
            "no measure 'crossentropy'; the nearest are cross_entropy",
        ),
    ],
    rules.anchor_is_measured: [(a_job(measures={"names": "", "anchor": "letters"}), "/measures/anchor", "names is empty")],
    rules.guards_watch_what_is_measured: [
        (guarded("overfit"), "/measures/guards/0/when", "no alert 'overfit'; the nearest is over_fit. Or a measure, < or >"),
        (guarded("kl_form_base > 1"), "/measures/guards/0/when", "no measure 'kl_form_base'; the nearest are kl_from_base"),
        (guarded("over_confidence", names="entropy"), "/measures/guards/0/when", "looks at cross_entropy, which is not measured"),
        (guarded("entropy < 1.5", names="perplexity"), "/measures/guards/0/when", "looks at entropy, which is not measured"),
        (guarded("forgetting"), "/measures/guards/0/when", "name a data set in measures.anchor"),
        (guarded("kl_from_base on anchor > .5"), "/measures/guards/0/when", "name a data set in measures.anchor"),
        (guarded("numeric", names=""), "/measures/guards/0/when", "Nothing is measured"),
        (guarded("numeric", "over_fit > 2"), "/measures/guards/1/when", "no measure 'over_fit'"),
    ],
    rules.guards_do_one_thing_each: [(guarded("numeric", "numeric"), "/measures/guards/1/when", "say once what is to be done")],
    rules.measures_of_a_task_have_one: [
        (a_job(measures={"names": "mutual_information,fano_bound"}), "/measures/task", "fano_bound are taken on labels"),
    ],
    rules.measures_of_conversations_have_them: [
        (
            a_job(finetuning={"stage": "pt"}, measures={"names": "usable_information"}),
            "/measures/names",
            "taken on conversations",
        ),
    ],
    rules.membership_has_rows_of_both_kinds: [
        (a_job(measures={"names": "membership_auroc"}), "/measures/names", "set data.val_size, or name measures.dataset"),
    ],
    rules.streams_are_not_read_for_measures: [
        (
            a_job(measures={"names": "empirical_entropy"}, data={"streaming": True}, training={"max_steps": 9}),
            "/measures/names",
            "not all read where they are streamed",
        ),
    ],
    rules.measures_of_an_adapter_have_one: [
        (
            a_job(finetuning={"finetuning_type": "full"}, measures={"names": "entropy,spectral_entropy"}),
            "/measures/names",
            "spectral_entropy is taken on a LoRA adapter, and finetuning_type is full",
        ),
    ],
    rules.measuring_has_a_text: [
        (measuring(data={"dataset": None}), "/measures/dataset", "needs a text"),
        (measuring(names=""), "/measures/names", "has nothing to do"),
        (measuring(data={"dataset": None, "val_size": 9}, dataset="letters"), "/data/val_size", "to hold rows out of"),
    ],
    rules.measuring_reads_answers: [
        (measuring(finetuning={"stage": "ppo"}), "/finetuning/stage", "rm scores pairs); ppo is none"),
    ],
    rules.predicting_reads_conversations: [
        (a_job(do="predict", finetuning={"stage": "dpo"}), "/finetuning/stage", "as the stage sft reads them; dpo has none"),
    ],
    rules.generating_reads_messages: [
        (
            without(a_job(do="generate", finetuning={"stage": "dpo"}, messages=ASKED), "data", "dataset"),
            "/finetuning/stage",
            "in pt a text",
        ),
    ],
    rules.one_model_answers: [
        (
            a_job(do="predict", measures={"checkpoints": f"job-{1:024x}/sft/4,job-{1:024x}/sft/8"}),
            "/measures/checkpoints",
            "a step of its own",
        ),
        (a_job(do="predict", measures={"checkpoints": f"job-{1:024x}/sft/*"}), "/measures/checkpoints/0", "by its number"),
    ],
    rules.inspecting_reads_rows: [
        (a_job(do="inspect", finetuning={"stage": "ppo"}), "/finetuning/stage", "dpo and rm preferences"),
    ],
    rules.measures_of_training_rows_have_them: [
        (measuring(data={"dataset": None}, dataset="letters", names="sample_coverage"), "/measures/names", "what was trained on"),
    ],
    rules.measures_of_gradients_train: [
        (measuring(names="fisher_information"), "/measures/names", "in a step that measures nothing does"),
    ],
    rules.checkpoints_are_named: [
        (measuring(checkpoints="sft/40"), "/measures/checkpoints/0", "'sft/40' is no checkpoint's name"),
        (measuring(checkpoints=f"job-{1:024x}/sft,job-{1:024x}"), "/measures/checkpoints/1", "is no checkpoint's name"),
        (measuring(checkpoints=f"job-{1:024x}/sft/all"), "/measures/checkpoints/0", "is no checkpoint's name"),
    ],
    rules.export_dir_is_a_name: [
        (a_job(do="export", model={"export_dir": name}), "/model/export_dir", "no folders")
        for name in ("../pets", "a/b", "/etc", ".hidden", "")
    ],
    rules.exported_checkpoint_is_one: [
        (exporting(f"job-{1:024x}/sft/*"), "/model/model_name_or_path", "name one checkpoint"),
        (exporting(f"job-{1:024x}/sft/4", adapter_name_or_path="a"), "/model/adapter_name_or_path", "comes with the adapters"),
    ],
    rules.some_layer_is_trainable: [
        (
            a_job(finetuning={"finetuning_type": "freeze", "num_layer_trainable": 0}),
            "/finetuning/num_layer_trainable",
            "not 0",
        ),
    ],
    rules.evaluating_has_a_task: [
        (evaluating(), "/evaluation/task", "needs a task"),
        (evaluating(task="../mmlu"), "/evaluation/task", "no task's name"),
        (evaluating(task="lm_eval:"), "/evaluation/task", "no task's name"),
    ],
    rules.results_have_a_folder: [
        (evaluating(task="mmlu", save_dir="../elsewhere"), "/evaluation/save_dir", "no folders"),
        (evaluating(task="mmlu", save_dir="a/b"), "/evaluation/save_dir", "no folders"),
    ],
}


def test_a_step_that_measures_refuses_what_only_training_looks_at() -> None:
    document = measuring(training={"learning_rate": 1.0, "seed": 3}, finetuning={"lora_rank": 2}, every=2)
    why = "This has no effect here: it works only where a step trains."
    adapter = "This has no effect here: it works only where training makes a new LoRA adapter."
    expected = [("/finetuning/lora_rank", adapter), ("/training/learning_rate", why), ("/measures/every", why)]
    assert sorted(refusals_of(document)) == sorted(expected)


def test_in_a_pipeline_the_jobs_arguments_of_training_stand_and_a_step_that_measures_has_them_off() -> None:
    steps = [{"name": "sft"}, {"name": "later", "do": "measure", "measures": {"checkpoints": "@sft"}}]
    measures = {"guards": [{"when": "over_fit", "then": "stop"}]}
    document = a_job(data={"streaming": True}, steps=steps, measures=measures, training={"max_steps": 9, "learning_rate": 1.0})
    trains, looks = read_job(document).resolved.steps
    assert (trains.do, looks.do) == ("train", "measure")
    assert trains.data.streaming
    assert trains.measures.guards
    assert not looks.data.streaming
    assert not looks.measures.guards


@pytest.mark.parametrize(
    ("steps", "pointer", "part"),
    [
        (
            [{"name": "a", "do": "measure", "measures": {"checkpoints": "@a"}}],
            "/steps/0/measures/checkpoints/0",
            "No earlier step",
        ),
        (
            [{"name": "a"}, {"name": "b", "do": "measure", "measures": {"checkpoints": "@a,@a/*"}}],
            "/steps/1/measures/checkpoints/1",
            "name them by number",
        ),
        (
            [{"name": "a", "do": "measure"}, {"name": "b", "model": {"model_name_or_path": "@a"}}],
            "/steps/1/model/model_name_or_path",
            "The step 'a' trains nothing",
        ),
    ],
)
def test_what_a_step_measures_or_begins_with_was_trained_before(steps: Any, pointer: str, part: str) -> None:
    (refusal,) = refusals_of(a_job(steps=steps))
    assert refusal[0] == pointer
    assert part in refusal[1]


@pytest.mark.parametrize(
    ("step", "pointer"),
    [
        ({"model": {"model_name_or_path": "@rm"}}, "/steps/1/model/model_name_or_path"),
        ({"model": {"adapter_name_or_path": "@rm"}}, "/steps/1/model/adapter_name_or_path"),
        ({"measures": {"checkpoints": "@rm/4"}}, "/steps/1/measures/checkpoints/0"),
    ],
)
def test_a_reward_model_of_the_same_job_predicts_nothing(step: Any, pointer: str) -> None:
    steps = [{"name": "rm", "finetuning": {"stage": "rm"}}, {"name": "predict", "do": "predict", **step}]
    assert refusals_of(a_job(steps=steps)) == [(pointer, rules.REWARDS_WRITE_NOTHING)]
    steps[0] = {"name": "rm"}
    assert refusals_of(a_job(steps=steps)) == []


@pytest.mark.parametrize(
    ("document", "part"),
    [
        (a_job(messages=ASKED), "no step generates"),
        (a_job(do="generate"), "needs messages to answer"),
        (a_job(do="generate", messages=[*ASKED, {"role": "assistant", "content": "b"}]), "a user last"),
        (a_job(do="generate", messages=[*ASKED, *ASKED, *ASKED]), "speak in turn"),
        (a_job(do="generate", messages=[{"role": "system", "content": "b"}]), "a user last"),
        (a_job(do="generate", finetuning={"stage": "pt"}, messages=[{"role": "system", "content": "b"}, *ASKED]), "no turns"),
    ],
)
def test_messages_end_with_what_is_answered_and_a_step_answers_them(document: Any, part: str) -> None:
    document = {**document, "data": {name: value for name, value in document["data"].items() if name != "dataset"}}
    if document.get("do") is None:
        document["data"]["dataset"] = "letters"
    assert [(pointer, part in why) for pointer, why in refusals_of(document)] == [("/messages", True)]


def test_a_flat_file_that_predicts_is_a_job_that_predicts() -> None:
    flat = a_flat_job(do_predict=True, do_train=False, predict_with_generate=True, eval_num_beams=4, max_new_tokens=9)
    nested = a_job(do="predict", data={"eval_num_beams": 4}, generating={"max_new_tokens": 9})
    assert read_job(flat).spec == read_job(nested).spec
    assert [notice.pointer for notice in read_job(flat).notices] == ["/do_predict", "/do_train", "/predict_with_generate"]
    assert pointers_of(a_flat_job(do_predict=True, do_train=True)) == ["/do_predict"]
    assert pointers_of(a_flat_job(do_predict=True, stage="rm")) == ["/stage"]


FATES: dict[Callable[..., Any], set[str]] = {
    rules.interleave_probs_fit: {"/data/interleave_probs"},
}

CASES = [
    pytest.param(rule, *case, id=f"{rule.__name__}-{number}")
    for rule, cases in BROKEN.items()
    for number, case in enumerate(cases)
]


@pytest.mark.parametrize(
    ("document", "pointer", "part"),
    [
        (a_job(model=UNSLOTH, steps=[{"name": "pt"}, {"name": "sft"}]), "/model/use_unsloth", "a job of its own"),
        (
            a_job(steps=[{"name": "pt"}, {"name": "sft", "model": UNSLOTH}]),
            "/steps/1/model/use_unsloth",
            "a job of its own",
        ),
        (a_job(model=UNSLOTH, resources={"gpus": 0}), "/resources/gpus", "run on a GPU"),
        (a_job(model=UNSLOTH, resources={"gpus": 2}), "/resources/gpus", "one GPU here"),
        (a_job(model=UNSLOTH, do="measure", measures={"dataset": "letters"}), "/model/use_unsloth", "no effect here"),
    ],
)
def test_unsloth_has_a_job_and_a_gpu_for_itself_and_makes_new_adapters(document: Any, pointer: str, part: str) -> None:
    assert [found for found, detail in refusals_of(document) if part in detail] == [pointer]


def test_every_rule_stands_in_the_table_and_every_function_of_a_step_in_the_rules() -> None:
    assert set(BROKEN) == set(rules.RULES)
    of_a_step = {
        value for value in vars(rules).values() if getattr(value, "__annotations__", {}).get("return") is rules.Complaints
    }
    assert of_a_step == set(rules.RULES)
    assert len(rules.RULES) == len(set(rules.RULES))


@pytest.mark.parametrize(("rule", "document", "pointer", "part"), CASES)
def test_a_broken_rule_is_refused_in_its_place(rule: Callable[..., Any], document: Any, pointer: str, part: str) -> None:
    refusals = refusals_of(document)
    assert [refused for refused, detail in refusals if part in detail] == [pointer]
    assert {refused for refused, detail in refusals if part not in detail} <= FATES.get(rule, set())


@pytest.mark.parametrize(("rule", "document", "pointer", "part"), CASES)
def test_no_other_rule_complains(rule: Callable[..., Any], document: Any, pointer: str, part: str) -> None:
    (step,) = resolve(JobSpec.model_validate(document)).steps
    assert {other for other in rules.RULES if list(other(step))} == {rule}


@pytest.mark.parametrize(
    "document",
    [
        without(a_job(finetuning={"stage": "pt"}), "data", "template"),
        a_job(data={"template": "tokenizer"}),
        a_job(data={"template": "chatml"}, model={"split_special_tokens": True}),
        a_job(data={"sft_packing": True}),
        a_job(data={"val_size": 1}),
        a_job(data={"dataset": "letters, letters"}),
        a_job(data={"val_size": 0.999}),
        a_job(data={"val_size": 200.0}),
        a_job(data={"reserved_label_len": 7, "cutoff_len": 8}),
        a_job(training={"max_steps": 1}),
        a_stream(data={"val_size": 7, "preprocessing_num_workers": 1, "buffer_size": 1}),
        a_job(data={"cache_path": "alpaca-2048.v1", "overwrite_cache": True}),
        a_job(data={"dataset": "a,b", "mix_strategy": "interleave_over", "interleave_probs": "0.999999,0.000001"}),
        a_job(training={"warmup_steps": 10}),
        a_job(measures={"names": []}),
        guarded("entropy_collapse", "over_confidence", "over_fit", "numeric", "kl_from_base>1e-2", "entropy < +1"),
        guarded("forgetting", "kl_from_base on anchor > 0.5", anchor="letters"),
        a_job(finetuning={"finetuning_type": "freeze", "num_layer_trainable": -3}),
        a_job(do="predict", generating={"num_beams": 2, "length_penalty": 0.5}, data={"eval_num_beams": 3}),
        a_job(do="predict", measures={"checkpoints": f"job-{1:024x}/sft"}),
        a_job(do="predict", generating={"max_new_tokens": 0, "max_length": 9}),
    ],
)
def test_what_is_just_inside_the_rules_is_accepted(document: Any) -> None:
    assert refusals_of(document) == []


# ---------------------------------------------------------------------------------------------------- any document

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

ARGUMENT_NAMES = sorted({field for group in GROUPS.values() for field in group.model_fields})
TEXT = st.text(st.characters(), max_size=6)  # lone surrogates and null bytes too, which JSON can carry
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.sampled_from(["tiny", "chatml", "@one", "a,b", "1e-4"])
)
KEYS = TEXT | st.sampled_from([*ARGUMENT_NAMES, *GROUPS, *COMMAND_LINE, "output_dir", "labels", "name", "steps", "[key]"])
ANY_JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


def some_arguments(group: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(sorted(GROUPS[group].model_fields)), SCALARS, max_size=3)


JOBLIKE = st.fixed_dictionaries(
    {"model": some_arguments("model").map(lambda arguments: {"model_name_or_path": "tiny", **arguments})},
    optional={
        **{group: some_arguments(group) | SCALARS for group in GROUPS if group != "model"},
        "labels": st.dictionaries(TEXT, SCALARS, max_size=2),
        "steps": st.lists(
            st.fixed_dictionaries({"name": TEXT | st.just("one")}, optional={"data": some_arguments("data")}), max_size=2
        ),
    },
)
FLATLIKE = st.dictionaries(KEYS, ANY_JSON, max_size=6).map(lambda document: {**a_flat_job(), **document})

ACCEPTED_ARGUMENTS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "data": {
        "dataset": st.sampled_from(["letters", "letters, numbers", ["letters", "numbers"]]),
        "cutoff_len": st.integers(2, 10**30),
        "max_samples": st.none() | st.integers(1, 10**6),
        "val_size": st.floats(0, 1, exclude_max=True) | st.integers(0, 10**30),
        "overlength": st.sampled_from(["truncate", "drop"]),
    },
    "training": {
        "learning_rate": st.floats(0, 1e308, exclude_min=True) | st.integers(1, 3),
        "neftune_noise_alpha": st.none() | st.floats(1e-300, 5),
        "lr_scheduler_type": st.sampled_from(["linear", "cosine"]),
        "bf16": st.booleans(),
    },
    "measures": {"names": st.sampled_from(["", "entropy", ["entropy", "perplexity"]]), "every": st.integers(1, 9)},
    "model": {"hf_hub_token": st.none(), "split_special_tokens": st.booleans()},
    "finetuning": {"lora_target": st.none() | st.sampled_from(["all", "q_proj,v_proj"]), "plot_loss": st.booleans()},
}


@st.composite
def accepted_documents(draw: st.DrawFn) -> dict[str, Any]:
    groups = {group: st.fixed_dictionaries({}, optional=fields) for group, fields in ACCEPTED_ARGUMENTS.items()}
    document = a_job(**draw(st.fixed_dictionaries({}, optional=groups)))
    names = draw(st.lists(st.sampled_from(["one", "two", "three"]), unique=True))
    document["steps"] = [{"name": name, **draw(st.fixed_dictionaries({}, optional=groups))} for name in names]
    if draw(st.booleans()):
        document["name"] = draw(st.text(st.sampled_from('ab1 é名\n"\\'), min_size=1, max_size=20))
    return document


@unhurried
@given(ANY_JSON | JOBLIKE | FLATLIKE)
def test_a_document_is_read_or_refused_and_nothing_else_happens(document: Any) -> None:
    before = repr(document)
    refusals = refusals_of(document)
    assert all(detail for _, detail in refusals)
    assert len(refusals) == len(set(refusals))
    assert repr(document) == before, "the caller's own document was changed"


@unhurried
@given(accepted_documents())
def test_a_spec_survives_json_with_what_was_set_and_what_was_not(document: dict[str, Any]) -> None:
    spec = read_job(document).spec
    again = JobSpec.model_validate_json(spec.model_dump_json(exclude_unset=True))
    assert again == spec
    assert again.model_dump(exclude_unset=True) == spec.model_dump(exclude_unset=True)
    assert resolve(again) == resolve(spec)


@unhurried
@given(accepted_documents())
def test_a_stored_spec_is_itself_a_document_that_reads_as_the_same_job(document: dict[str, Any]) -> None:
    """This is how a job is submitted again."""
    first = read_job(document)
    again = read_job(json.loads(first.spec.model_dump_json(exclude_unset=True)))
    assert again == first


def test_a_token_is_not_shown_in_what_is_said_or_printed_of_a_job() -> None:
    document = a_job(model={"hf_hub_token": "hf_verysecret"})
    assert all("verysecret" not in detail for _, detail in refusals_of(document))
    spec = JobSpec.model_validate(document)
    assert "verysecret" not in repr(spec)
    assert "verysecret" not in spec.model_dump_json()


def test_a_guard_is_refused_where_it_stands_in_its_step() -> None:
    guards = [{"when": "numeric", "then": "stop"}, {"when": "over_fitt", "then": "stop"}]
    document = a_job(steps=[{"name": "one"}, {"name": "two", "measures": {"guards": guards}}])
    assert pointers_of(document) == ["/steps/1/measures/guards/1/when"]


@pytest.mark.parametrize(
    ("guards", "pointers"),
    [
        ([{"when": "numeric", "then": "halt"}], ["/measures/guards/0/then"]),
        ([{"when": "numeric"}], ["/measures/guards/0/then"]),
        ([{"when": "numeric", "then": "stop", "else": "go"}], ["/measures/guards/0/else"]),
        ({"numeric": "stop"}, ["/measures/guards"]),
    ],
)
def test_a_guard_of_another_shape_is_refused(guards: Any, pointers: list[str]) -> None:
    assert pointers_of(a_job(measures={"guards": guards})) == pointers


def test_a_guard_in_a_flat_file_is_refused_under_its_own_name() -> None:
    assert pointers_of(a_flat_job(guards=[{"when": "joy", "then": "stop"}])) == ["/guards/0/when"]


# -- several GPUs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (a_job(resources={"gpus": 2}, do="inspect"), "no step trains"),
        (a_job(resources={"gpus": 1}, finetuning=FULL, training={"fsdp": True}), "nothing that fsdp (step sft) could share"),
        (a_job(finetuning=FULL, training={"fsdp": True}), "ask for more"),
    ],
)
def test_several_gpus_are_for_what_several_can_do(document: dict[str, Any], says: str) -> None:
    ((pointer, detail),) = refusals_of(document)
    assert pointer == "/resources/gpus"
    assert says in detail


def test_several_gpus_may_share_the_rows_or_the_model() -> None:
    assert refusals_of(a_job(resources={"gpus": 2})) == []
    assert refusals_of(a_job(resources={"gpus": 2}, finetuning=PPO)) == []
    assert refusals_of(a_job(resources={"gpus": 2}, finetuning=FULL, training={"fsdp": True})) == []
