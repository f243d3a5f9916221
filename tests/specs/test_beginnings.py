from service.specs.beginnings import chain, earlier_named, with_chains
from service.specs.checkpoint_names import CheckpointName, of_earlier
from service.specs.read import read_job
from tests.specs.job_documents import a_job

JOB = "job-" + "a" * 24
STEPS = [
    {"name": "pt", "data": {"template": None}, "finetuning": {"stage": "pt"}},
    {"name": "sft", "model": {"model_name_or_path": "@pt"}},
    {"name": "whole", "finetuning": {"finetuning_type": "full"}},
]


def resolved(**groups):
    return read_job(a_job(**groups)).resolved


def chain_of(step: str) -> tuple[str, ...]:
    return chain(resolved(steps=STEPS), CheckpointName(JOB, step, 4))


def test_only_one_checkpoint_of_a_job_is_something_to_begin_with():
    assert of_earlier(f"{JOB}/sft/4") == CheckpointName(JOB, "sft", 4)
    assert of_earlier(f"{JOB}/sft") == CheckpointName(JOB, "sft")
    assert [of_earlier(text) for text in (f"{JOB}/sft/*", "@sft", "tiny", "job-x/sft")] == [None] * 4


def test_a_checkpoint_is_its_whole_model_with_the_adapters_on_it_as_another_job_calls_them():
    assert chain_of("pt") == ("tiny", f"{JOB}/pt/4")
    assert chain_of("sft") == ("tiny", f"{JOB}/pt", f"{JOB}/sft/4")
    assert chain_of("whole") == (f"{JOB}/whole/4",)


def test_the_places_of_all_that_is_begun_with_are_found():
    model = {"model_name_or_path": f"{JOB}/sft/1", "adapter_name_or_path": ["mine", f"{JOB}/sft/2"]}
    [step] = resolved(model=model, finetuning={"create_new_adapter": True}).steps
    assert [(place, name.at) for place, name in earlier_named(step)] == [
        ("model.model_name_or_path", 1),
        ("model.adapter_name_or_path.1", 2),
    ]


def written(model, finetuning=None, **chains):
    [step] = resolved(model=model, finetuning=finetuning or {}).steps
    return with_chains(step, {f"{JOB}/{name}": made for name, made in chains.items()})


def test_a_model_with_adapters_is_written_out_and_a_new_one_is_trained_on_it():
    step = written({"model_name_or_path": f"{JOB}/sft"}, sft=("tiny", "first", f"{JOB}/sft/9"))
    assert (step.model.model_name_or_path, step.model.adapter_name_or_path) == ("tiny", ("first", f"{JOB}/sft/9"))
    assert step.finetuning.create_new_adapter


def test_an_adapter_that_is_named_beside_it_is_gone_on_with():
    model = {"model_name_or_path": f"{JOB}/sft", "adapter_name_or_path": ["mine"]}
    step = written(model, sft=("tiny", f"{JOB}/sft/9"))
    assert step.model.adapter_name_or_path == (f"{JOB}/sft/9", "mine")
    assert not step.finetuning.create_new_adapter


def test_an_adapter_alone_is_named_by_its_number():
    step = written({"adapter_name_or_path": [f"{JOB}/sft"]}, sft=("tiny", f"{JOB}/sft/9"))
    assert (step.model.model_name_or_path, step.model.adapter_name_or_path) == ("tiny", (f"{JOB}/sft/9",))
    assert not step.finetuning.create_new_adapter


def test_a_reward_model_is_an_adapter_or_a_whole_one_as_the_job_says():
    fine = {"stage": "ppo", "reward_model": f"{JOB}/rm"}
    as_adapter = written({}, fine, rm=("tiny", f"{JOB}/rm/9")).finetuning
    assert (as_adapter.reward_model, as_adapter.reward_model_adapters) == (f"{JOB}/rm/9", None)
    as_whole = written({}, fine | {"reward_model_type": "full"}, rm=("tiny", f"{JOB}/rm/9")).finetuning
    assert (as_whole.reward_model, as_whole.reward_model_adapters) == ("tiny", (f"{JOB}/rm/9",))
