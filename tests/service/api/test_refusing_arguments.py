"""POST /jobs: what jobs cannot ask for, as a client is told it. A folder of results that exists is in test_evaluating.py."""

from typing import Any

import pytest

from tests.specs.job_documents import a_flat_job, a_job, without

PPO = {"stage": "ppo", "reward_model": "scorer"}
PAIRS = {"dataset": "pairs"}
TWO_ADAPTERS = {"adapter_name_or_path": "one,two"}

REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "a template is missing in sft": (without(a_job(), "data", "template"), "/data/template", "The stage sft needs a template"),
    "a template is missing in rm": (
        without(a_job(finetuning={"stage": "rm"}, data=PAIRS), "data", "template"),
        "/data/template",
        "The stage rm needs a template",
    ),
    "a template is missing in dpo": (
        without(a_job(finetuning={"stage": "dpo"}, data=PAIRS), "data", "template"),
        "/data/template",
        "The stage dpo needs a template",
    ),
    "a template is missing in ppo": (
        without(a_job(finetuning=PPO), "data", "template"),
        "/data/template",
        "The stage ppo needs a template",
    ),
    # both were a 500 once: the fuzzer's
    "a reference model with an empty name": (
        a_job(finetuning={"stage": "dpo", "ref_model": ""}, data=PAIRS),
        "/finetuning/ref_model",
        "at least 1 character",
    ),
    "a reward model with an empty name": (
        a_job(finetuning={"stage": "ppo", "reward_model": "", "reward_model_type": "full"}),
        "/finetuning/reward_model",
        "at least 1 character",
    ),
    "ppo without a reward model": (
        a_job(finetuning={"stage": "ppo"}),
        "/finetuning/reward_model",
        "The stage ppo needs a reward model.",
    ),
    "an adapter that scores a policy that trains whole": (
        a_job(finetuning=PPO | {"finetuning_type": "full"}),
        "/finetuning/reward_model_type",
        "need reward_model_type full or api",
    ),
    "an adapter that scores a policy that trains in part": (
        a_job(finetuning=PPO | {"finetuning_type": "freeze"}),
        "/finetuning/reward_model_type",
        "need reward_model_type full or api",
    ),
    "bits with full": (
        a_job(finetuning={"finetuning_type": "full"}, model={"quantization_bit": 4}),
        "/model/quantization_bit",
        "only be trained with finetuning_type lora",
    ),
    "bits with freeze": (
        a_job(finetuning={"finetuning_type": "freeze"}, model={"quantization_bit": 8}),
        "/model/quantization_bit",
        "only be trained with finetuning_type lora",
    ),
    "a new adapter on bits that have one": (
        a_job(finetuning={"create_new_adapter": True}, model={"quantization_bit": 4, "adapter_name_or_path": "one"}),
        "/finetuning/create_new_adapter",
        "cannot merge the adapter given",
    ),
    "several adapters with full": (
        a_job(finetuning={"finetuning_type": "full"}, model=TWO_ADAPTERS),
        "/model/adapter_name_or_path",
        "takes one adapter only",
    ),
    "several adapters with freeze": (
        a_job(finetuning={"finetuning_type": "freeze"}, model=TWO_ADAPTERS),
        "/model/adapter_name_or_path",
        "takes one adapter only",
    ),
    "several adapters on bits": (
        a_job(model=TWO_ADAPTERS | {"quantization_bit": 4}),
        "/model/adapter_name_or_path",
        "takes one adapter only",
    ),
    "ppo with shifted attention": (
        a_job(finetuning=PPO, model={"shift_attn": True}),
        "/model/shift_attn",
        "ppo generates its own",
    ),
    "ppo with the best model loaded": (
        a_job(finetuning=PPO, training={"load_best_model_at_end": True}),
        "/training/load_best_model_at_end",
        "There is no such argument.",
    ),
    "rm with the best model loaded": (
        a_job(finetuning={"stage": "rm"}, data=PAIRS, training={"load_best_model_at_end": True}),
        "/training/load_best_model_at_end",
        "There is no such argument.",
    ),
    "predictions in rm": (
        a_flat_job(stage="rm", predict_with_generate=True),
        "/predict_with_generate",
        "redict",
    ),
    **{
        f"predictions by a step of the stage {stage}": (
            a_job(do="predict", finetuning={"stage": stage}, data=PAIRS if stage in ("rm", "dpo") else {}),
            "/finetuning/stage",
            "Predictions answer conversations, as the stage sft reads them",
        )
        for stage in ("pt", "rm", "dpo", "ppo")
    },
    "a stream without an end": (a_job(data={"streaming": True}), "/data/streaming", "set training.max_steps"),
    "a share held out of a stream": (
        a_job(data={"streaming": True, "val_size": 0.1}, training={"max_steps": 9}),
        "/data/val_size",
        "a whole number of validation rows",
    ),
    "the first rows of a stream": (
        a_job(data={"streaming": True, "max_samples": 5}, training={"max_steps": 9}),
        "/data/max_samples",
        "does not go with streaming",
    ),
    "labels that leave a prompt no room": (
        a_job(data={"cutoff_len": 16, "reserved_label_len": 16}),
        "/data/reserved_label_len",
        "must be smaller than cutoff_len",
    ),
    "other bits": (a_job(model={"quantization_bit": 3}), "/model/quantization_bit", "4 or 8"),
    "other bits of an export": (
        a_job(do="export", model={"export_quantization_bit": 5, "export_quantization_dataset": "letters"}),
        "/model/export_quantization_bit",
        "2, 3, 4 or 8",
    ),
    "an export of fewer bits with no texts to calibrate on": (
        a_job(do="export", model={"export_quantization_bit": 4}),
        "/model/export_quantization_dataset",
        "needs a data set to calibrate on",
    ),
    "an adapter that is exported unmerged in fewer bits": (
        a_job(
            steps=[
                {"name": "sft"},
                {
                    "name": "out",
                    "do": "export",
                    "model": {
                        "adapter_name_or_path": "@sft",
                        "export_quantization_bit": 4,
                        "export_quantization_dataset": "letters",
                    },
                    "export": {"adapter_only": True},
                },
            ]
        ),
        "/steps/1/model/export_quantization_bit",
        "works only where the step exports a whole model",
    ),
    "probabilities of another number of data sets": (
        a_job(data={"dataset": "letters,pairs", "mix_strategy": "interleave_under", "interleave_probs": "0.5,0.25,0.25"}),
        "/data/interleave_probs",
        "There are 3 probabilities for 2 data sets.",
    ),
    "probabilities that are not all there is": (
        a_job(data={"dataset": "letters,pairs", "mix_strategy": "interleave_under", "interleave_probs": "0.5,0.25"}),
        "/data/interleave_probs",
        "add up to 0.75, not to 1",
    ),
    "an unknown key of the job": (a_job(modle={}), "/modle", "There is no such argument."),
    "an unknown key of a group": (a_job(evaluation={"taks": "mmlu"}), "/evaluation/taks", "There is no such argument."),
    "an unknown key of a step": (a_job(steps=[{"name": "a", "stage": "sft"}]), "/steps/0/stage", "There is no such argument."),
    "other bits of a reference": (
        a_job(finetuning={"stage": "dpo", "ref_model": "tiny", "ref_model_quantization_bit": 3}, data=PAIRS),
        "/finetuning/ref_model_quantization_bit",
        "4 or 8",
    ),
    "other bits of a reward model": (
        a_job(finetuning=PPO | {"reward_model_type": "full", "reward_model_quantization_bit": 5}),
        "/finetuning/reward_model_quantization_bit",
        "4 or 8",
    ),
    "a reference where none is asked": (
        a_job(finetuning={"stage": "rm", "ref_model": "tiny"}, data=PAIRS),
        "/finetuning/ref_model",
        "works only where stage is ppo or dpo",
    ),
    "an argument of dpo in sft": (
        a_job(finetuning={"dpo_beta": 0.2}),
        "/finetuning/dpo_beta",
        "works only where stage is dpo",
    ),
    "an argument of ppo in dpo": (
        a_job(finetuning={"stage": "dpo", "ppo_epochs": 2}, data=PAIRS),
        "/finetuning/ppo_epochs",
        "works only where stage is ppo",
    ),
    "a loss that dpo has not": (
        a_job(finetuning={"stage": "dpo", "dpo_loss": "orpo"}, data=PAIRS),
        "/finetuning/dpo_loss",
        "'sigmoid', 'hinge', 'ipo'",
    ),
    "a stage that there is not": (a_job(finetuning={"stage": "grpo"}), "/finetuning/stage", "'rm', 'ppo'"),
    "pairs in sft": (a_job(data=PAIRS), "/data/dataset", "for the stages rm and dpo, not sft"),
    "answers in rm": (a_job(finetuning={"stage": "rm"}), "/data/dataset", "letters"),
    "answers in dpo": (a_job(finetuning={"stage": "dpo"}), "/data/dataset", "letters"),
    "a reward API on a host that is not listed": (
        a_job(finetuning={"stage": "ppo", "reward_model": "http://192.0.2.1/score", "reward_model_type": "api"}),
        "/finetuning/reward_model",
        "FINEBITS_REWARD_HOSTS",
    ),
    "a reward model of another stage": (
        a_job(steps=[{"name": "sft"}, {"name": "ppo", "finetuning": {"stage": "ppo", "reward_model": "@sft"}}]),
        "/steps/1/finetuning/reward_model",
        "a reward model is made by the stage rm.",
    ),
    "a step that names a later one": (
        a_job(steps=[{"name": "one", "model": {"model_name_or_path": "@two"}}, {"name": "two"}]),
        "/steps/0/model/model_name_or_path",
        "No earlier step is named 'two'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_asked_for_is_refused_in_its_place(plain_door: Any, case: str) -> None:
    document, pointer, part = REFUSED[case]
    found = plain_door.refusals(document)
    assert pointer in [at for at, sentence in found if part in sentence], found
