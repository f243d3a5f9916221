"""What fits no worker is refused when it comes, from what workers have reported; what only may not fit comes with a notice."""

import copy
import json
import re

import pytest
from sqlalchemy import update

from service.library import memory
from service.specs.job import STEP_GROUPS, JobSpec
from service.store.tables import Slot
from service.store.workers import SlotReport
from tests.service.shelves import write_model
from tests.service.store.staffed import GB, enter, silence
from tests.service.store.stored import job_of
from tests.specs.job_documents import a_flat_job, a_job

ONE_GPU = {"resources": {"gpus": 1}}


def notices(door, document):
    response = door.post("/jobs", json=document)
    assert response.status_code == 201, response.text
    return [(notice["pointer"], notice["detail"]) for notice in response.json()["notices"]]


def test_with_no_worker_yet_a_job_that_asks_for_gpus_is_accepted_with_a_notice(door):
    assert notices(door, a_job()) == []
    assert [pointer for pointer, _ in notices(door, a_job(**ONE_GPU))] == ["/resources/gpus"]
    ((pointer, sentence),) = notices(door, a_flat_job(gpus=1))
    assert (pointer, sentence[:47]) == ("/gpus", "No worker of queue default has reported yet: wh")


def test_a_job_that_asks_for_gpus_that_no_worker_of_its_queue_has_is_told_what_there_is(door, database):
    enter(database, "host-a", cpus=2)
    enter(database, "host-b", cpus=1)
    enter(database, "other", gpus=4, queues=("a100",))
    sentence = "No worker of this queue has 1 GPU; there are host-a with none and host-b with none."
    assert door.refusals(a_job(**ONE_GPU)) == [("/resources/gpus", sentence)]
    assert door.refusals(a_job(**ONE_GPU), "/jobs?dry_run=true") == [("/resources/gpus", sentence)]
    assert door.refusals(a_flat_job(gpus=1)) == [("/gpus", sentence)]
    assert notices(door, a_job()) == []
    assert notices(door, a_job(resources={"gpus": 1, "queue": "a100"})) == []


def test_a_queue_that_no_worker_listens_on_is_told_beside_those_that_have_one(door, database):
    enter(database, "host-a", gpus=1, queues=("h100", "default"))
    told = [("/resources/queue", "No worker of queue h1oo has reported yet; there are workers of default, h100.")]
    assert notices(door, a_job(resources={"queue": "h1oo"})) == told
    assert notices(door, a_flat_job(queue="h1oo")) == [("/queue", told[0][1])]
    assert notices(door, a_job(resources={"queue": "h100"})) == []


def test_a_worker_that_is_gone_may_come_back(door, database):
    enter(database, "host-a", gpus=1)
    silence(database, "host-a")
    assert notices(door, a_job(**ONE_GPU)) == []


HIDDEN, INNER, WORDS = 256, 512, 100
SHAPES = {
    "model.embed_tokens.weight": [WORDS, HIDDEN],
    **{f"model.layers.0.self_attn.{name}_proj.weight": [HIDDEN, HIDDEN] for name in "qkvo"},
    **{f"model.layers.0.mlp.{name}_proj.weight": [INNER, HIDDEN] for name in ("gate", "up")},
    "model.layers.0.mlp.down_proj.weight": [HIDDEN, INNER],
    "lm_head.weight": [WORDS, HIDDEN],
}
NUMBERS = 2 * WORDS * HIDDEN + 4 * HIDDEN**2 + 3 * HIDDEN * INNER  # 706,560
CONFIG = {
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "vocab_size": WORDS,
}

WHOLE = {
    "model": {"model_name_or_path": "wide"},
    "finetuning": {"finetuning_type": "full"},
    "data": {"cutoff_len": 2},
    "training": {"per_device_train_batch_size": 1},
}


@pytest.fixture
def narrow(door, database, settings, monkeypatch):
    """A GPU of 6 MB, and a context that takes nothing of it; a model of 0.7 million numbers."""
    write_model(settings.models_root / "wide", SHAPES, **CONFIG)
    monkeypatch.setattr(memory.Memory.__init__, "__defaults__", (0,))
    enter(database, "host-a", slots=[SlotReport("GPU-0", "GPU-0", "small", 6_000_000)])
    return door


def test_a_step_that_no_gpu_could_hold_is_refused_with_the_change_that_would_make_it_fit(narrow):
    ((pointer, sentence),) = narrow.refusals(a_job(**WHOLE))
    assert pointer == "/resources/gpus"
    assert sentence == (
        "Step sft needs at least 11.3 MB of a GPU (weights 2.8 MB, gradients 2.8 MB, optimiser 5.7 MB), and the largest has "
        "6.0 MB. It would fit with finetuning_type lora."
    )
    assert narrow.refusals(a_job(**WHOLE), "/jobs?dry_run=true") == [(pointer, sentence)]
    ((_, sentence),) = narrow.refusals(a_job(**WHOLE | {"resources": {"gpu_memory_fraction": 0.1}}))
    assert sentence.endswith(
        "and 0.1 of the largest is 0.6 MB. It would fit with gpu_memory_fraction 1.0 and finetuning_type lora."
    )


def test_where_no_change_is_enough_it_says_so(narrow, database):
    with database.transaction() as session:
        session.execute(update(Slot).values(memory_bytes=100_000))
    ((_, sentence),) = narrow.refusals(a_job(**WHOLE))
    assert sentence.endswith("No change of its arguments would make it fit: it needs a larger GPU, or a smaller model.")


WIDE = WHOLE["model"]
LONG = {"cutoff_len": 4096}
STEPS = [
    {"name": "one", "data": {"cutoff_len": 2}},
    {"name": "two", "data": LONG, "finetuning": {"finetuning_type": "full"}, "training": {"per_device_train_batch_size": 8}},
]
TOO_LARGE = {
    "whole": a_job(**WHOLE),
    "a part of the gpu": a_job(model=WIDE, data=LONG, resources={"gpu_memory_fraction": 0.05}),
    "frozen": a_job(model=WIDE, data=LONG, finetuning={"finetuning_type": "freeze", "num_layer_trainable": 1}),
    "without checkpoints": a_job(model=WIDE | {"disable_gradient_checkpointing": True}, data={"cutoff_len": 1024}),
    "long": a_job(model=WIDE, data=LONG),
    "bits that do not go along": a_job(model=WIDE | {"resize_vocab": False, "shift_attn": True}, data=LONG),
    "packed": a_job(model=WIDE, data=LONG | {"sft_packing": True}, training={"per_device_train_batch_size": 4}),
    "pairs": a_job(model=WIDE, data=LONG | {"dataset": "pairs"}, finetuning={"stage": "dpo", "finetuning_type": "full"}),
    "the second step": a_job(model=WIDE, steps=STEPS),
    "measuring": a_job(model=WIDE, do="measure", data={"cutoff_len": 128}, training={"per_device_eval_batch_size": 64}),
    "writing": a_job(model=WIDE, do="predict", data={"cutoff_len": 32}, training={"per_device_eval_batch_size": 64}),
}


@pytest.fixture
def roomier(narrow, database, monkeypatch):
    """What a pass over the vocabulary takes of a real GPU is more than this one has."""
    monkeypatch.setattr(memory, "MEASURED_LOGITS_BYTES", 0)
    return narrow


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("case", TOO_LARGE)
def test_the_change_that_is_named_is_accepted_and_the_job_fits_then(roomier, case):
    document = TOO_LARGE[case]
    told = told_of_memory(roomier, document)
    assert "It would fit with " in told, told
    changed = with_changes(document, told)
    assert changed != document
    response = roomier.post("/jobs?dry_run=true", json=changed)
    assert response.status_code == 200, response.text
    assert "It would fit" not in response.text
    assert "No change" not in response.text


def told_of_memory(door, document):
    response = door.post("/jobs?dry_run=true", json=document)
    said = response.json()
    told = [one["detail"] for one in (said["notices"] if response.status_code == 200 else said["errors"])]
    (sentence,) = [sentence for sentence in told if "of a GPU" in sentence]
    return sentence


def with_changes(document, sentence):
    """As whoever reads the sentence would make it: each argument in its group, of the step that is named."""
    named = re.match(r"Step (\S+)", sentence)[1]
    changes = re.findall(r"(\w+) ([a-z_]+|\d[\d.]*\d|\d)(?=,| and|\.$)", sentence.partition("It would fit with ")[2])
    assert changes
    document = copy.deepcopy(document)
    step = next((step for step in document.get("steps", ()) if step["name"] == named), document)
    for argument, value in changes:
        if argument == "without":
            del step[group_of(value)][value]
            continue
        within = document if group_of(argument) == "resources" else step
        changed = {argument: value if value == "lora" else json.loads(value)}
        within[group_of(argument)] = within.get(group_of(argument), {}) | changed
    return document


def group_of(argument):
    fields = {group: JobSpec.model_fields[group].annotation.model_fields for group in (*STEP_GROUPS, "resources")}
    (group,) = [group for group, known in fields.items() if argument in known and (group, argument) != ("evaluation", "seed")]
    return group


def test_a_step_that_may_not_fit_comes_with_a_notice_that_says_how_it_would(narrow):
    large = {"data": {"cutoff_len": 100}, "training": {"per_device_train_batch_size": 64}}
    ((pointer, sentence),) = notices(narrow, a_job(model=WHOLE["model"], **large))
    assert pointer == "/resources/gpus"
    assert "with texts of cutoff_len tokens, and the largest has 6.0 MB" in sentence
    assert sentence.endswith("It would fit with per_device_train_batch_size 1 and gradient_accumulation_steps 64.")


def test_a_job_is_not_refused_for_a_gpu_that_it_need_not_have(narrow, database):
    assert notices(narrow, a_job(**WHOLE, resources={"gpus": 0})) == []
    enter(database, "host-b", cpus=1)
    assert [pointer for pointer, _ in notices(narrow, a_job(**WHOLE))] == ["/resources/gpus"]


def test_a_dry_run_answers_the_memory_part_by_part(door, settings):
    write_model(settings.models_root / "wide", SHAPES, **CONFIG)
    whole = a_job(**WHOLE | {"data": {"cutoff_len": 10}, "training": {"per_device_train_batch_size": 2}})
    (step,) = door.post("/jobs?dry_run=true", json=whole).json()["steps"]
    parts = step["memory"]
    assert (parts["weights"], parts["gradients"], parts["optimiser"]) == (4 * NUMBERS, 4 * NUMBERS, 8 * NUMBERS)
    assert parts["logits"] == 2 * 10 * WORDS * 12
    assert parts["peak"] == sum(parts[part] for part in PARTS)
    assert parts["least"] == parts["peak"] - parts["activations"] - parts["logits"]


PARTS = ("weights", "beside", "gradients", "optimiser", "activations", "logits", "context")


def test_where_the_memory_is_not_known_a_dry_run_says_why(door):
    (step,) = door.post("/jobs?dry_run=true", json=a_job()).json()["steps"]
    assert step["memory"] is None
    assert step["why_unknown"]["memory"] == "The model's config does not say what its layers are made of."


def test_a_job_is_given_to_no_gpu_with_less_than_it_takes_at_least(door, database, settings, monkeypatch):
    write_model(settings.models_root / "wide", SHAPES, **CONFIG)
    monkeypatch.setattr(memory.Memory.__init__, "__defaults__", (9 * GB,))
    enter(database, "host-a", gpus=1, gb=80)
    assert job_of(database, door.submit(a_job(**WHOLE))).gpu_gb == 9


def test_a_deadline_that_has_passed_is_refused_when_it_comes(door):
    ((pointer, sentence),) = door.refusals(a_job(resources={"deadline": "2020-01-31T18:00:00Z"}))
    assert pointer == "/resources/deadline"
    assert sentence.startswith("It has passed: 2020-01-31T18:00:00Z is before now, 20")
    assert [pointer for pointer, _ in door.refusals(a_flat_job(deadline="2020-01-31T18:00:00Z"))] == ["/deadline"]
    late = a_job(resources={"deadline": "2020-01-31T18:00:00Z"})
    assert [pointer for pointer, _ in door.refusals(late, "/jobs?dry_run=true")] == ["/resources/deadline"]
    assert notices(door, a_job(resources={"deadline": "2999-01-31T18:00:00Z"})) == []
