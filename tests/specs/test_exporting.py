"""Steps that export: what they may refer to, and what of their job they have."""

from typing import Any

import pytest

from service.specs.read import read_job
from tests.specs.job_documents import a_job, refusals_of

JOB = f"job-{1:024x}"


def a_pipeline(*steps: dict[str, Any], **groups: Any) -> dict[str, Any]:
    return a_job(steps=[{"name": "sft"}, *steps], **groups)


def export(name: str = "export", model: str = "@sft", into: str | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "do": "export", "model": {"model_name_or_path": model, "export_dir": into}, **more}


@pytest.mark.parametrize("name", ["@sft", "@sft/40", f"{JOB}/sft/40", f"{JOB}/sft", "tiny"])
def test_a_step_exports_what_the_job_makes_a_checkpoint_by_its_name_or_a_model_of_the_folder(name: str) -> None:
    step = read_job(a_pipeline(export(model=name))).resolved.steps[1]
    assert (step.do, step.model.model_name_or_path) == ("export", name)


def test_a_model_needs_no_data_and_no_template_to_be_exported() -> None:
    assert refusals_of({"do": "export", "model": {"model_name_or_path": "tiny"}}) == []


@pytest.mark.parametrize("name", ["@nothing", "@nothing/40", "@export"])
def test_a_reference_points_to_an_earlier_step(name: str) -> None:
    ((place, why),) = refusals_of(a_pipeline(export(model=name)))
    assert place == "/steps/1/model/model_name_or_path"
    assert why.startswith("No earlier step is named")


def test_only_a_step_that_exports_names_a_checkpoint_as_its_model() -> None:
    ((place, why),) = refusals_of(a_pipeline({"name": "next", "model": {"model_name_or_path": "@sft/40"}}))
    assert (place, why) == ("/steps/1/model/model_name_or_path", "No earlier step is named 'sft/40'; there are sft.")


def test_what_is_exported_is_a_whole_model_for_later_steps() -> None:
    after = {"name": "after", "do": "measure", "model": {"model_name_or_path": "@export"}}
    assert refusals_of(a_pipeline(export(), after)) == []
    as_adapter = {"name": "after", "do": "measure", "model": {"adapter_name_or_path": "@export"}}
    ((_, why),) = refusals_of(a_pipeline(export(), as_adapter))
    assert "makes a whole model, not an adapter" in why
    alone = export(export={"adapter_only": True})
    ((_, why),) = refusals_of(a_pipeline(alone, after))
    assert why == "The step 'export' exports an adapter alone: name what it is exported from."


@pytest.mark.parametrize(
    ("steps", "n"),
    [
        ([export(model="tiny")], 0),
        ([{"name": "second", "model": {"model_name_or_path": "@sft"}}, export(model="@second")], 2),
    ],
)
def test_an_adapter_is_exported_alone_only_where_there_is_one(steps: list[dict[str, Any]], n: int) -> None:
    steps[-1] = steps[-1] | {"export": {"adapter_only": True}}
    ((place, why),) = refusals_of(a_pipeline(*steps))
    assert place == f"/steps/{len(steps)}/export/adapter_only"
    assert why.startswith("There are 2 adapters, one on another" if n else "There is no adapter")


def test_two_steps_do_not_export_into_one_folder() -> None:
    assert refusals_of(a_pipeline(export("one", into="pets"), export("two", into="dogs"), export("three"))) == []
    ((place, why),) = refusals_of(a_pipeline(export("one", into="pets"), export("two", into="pets")))
    assert place == "/steps/2/model/export_dir"
    assert "give it another name" in why


@pytest.mark.parametrize(("stage", "read_as"), [("ppo", "sft"), ("rm", "dpo"), ("sft", "sft"), ("dpo", "dpo"), ("pt", "pt")])
def test_a_step_that_exports_has_the_jobs_model_and_text_and_nothing_of_how_it_trained(stage: str, read_as: str) -> None:
    document = a_job(
        model={"quantization_bit": 4, "resize_vocab": True, "rope_scaling": "linear"},
        finetuning={"stage": stage, "lora_rank": 4, **({"reward_model": "judge"} if stage == "ppo" else {})},
        training={"seed": 7, "learning_rate": 0.5, "bf16": True},
        measures={"names": "entropy", "base": "step"},
        data={"val_size": 5, "streaming": True},
    )
    document["training"]["max_steps"] = 3
    document["steps"] = [{"name": "trained"}, export(model="@trained")]
    made, step = read_job(document).resolved.steps
    assert (made.model.quantization_bit, step.model.quantization_bit) == (4, None)
    assert (step.model.resize_vocab, step.model.rope_scaling) == (False, None)
    assert (step.finetuning.stage, step.finetuning.lora_rank) == (read_as, 8)
    assert (step.training.seed, step.training.bf16, step.training.max_steps) == (7, False, -1)
    assert (step.data.val_size, step.data.streaming) == (5, False)
    assert step.measures.base == "job"


def test_a_flat_file_for_llama_factorys_command_export_exports() -> None:
    flat = {"model_name_or_path": "tiny", "adapter_name_or_path": "a", "template": "chatml", "finetuning_type": "lora"}
    read = read_job(flat | {"export_dir": "pets", "export_size": 2, "export_device": "cpu", "export_legacy_format": False})
    (step,) = read.resolved.steps
    assert (step.do, step.model.export_dir, step.model.export_size) == ("export", "pets", 2)
    assert [notice.pointer for notice in read.notices] == ["/export_device", "/export_dir"]
    trained = refusals_of(flat | {"dataset": "letters", "export_dir": "pets"})
    assert [place for place, _ in trained] == ["/export_dir"]
