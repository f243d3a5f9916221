import os

import pytest
from transformers import SchedulerType
from transformers.trainer_utils import SaveStrategy
from transformers.training_args import OptimizerNames

from service.specs.training import TrainingArguments
from worker.stages.arguments import SAME, training_arguments


def translated(folder, **values):
    return training_arguments(TrainingArguments(**values), folder, use_cpu=True)


# argument -> (a value that is not its default, the present name, what stands there)
TRANSLATED = {
    "per_device_train_batch_size": (3, "per_device_train_batch_size", 3),
    "per_device_eval_batch_size": (3, "per_device_eval_batch_size", 3),
    "gradient_accumulation_steps": (5, "gradient_accumulation_steps", 5),
    "learning_rate": (3e-4, "learning_rate", 3e-4),
    "lr_scheduler_type": ("cosine", "lr_scheduler_type", SchedulerType.COSINE),
    "warmup_steps": (7, "warmup_steps", 7),
    "warmup_ratio": (0.25, "warmup_steps", 0.25),
    "num_train_epochs": (1.5, "num_train_epochs", 1.5),
    "max_steps": (11, "max_steps", 11),
    "optim": ("adafactor", "optim", OptimizerNames.ADAFACTOR),
    "weight_decay": (0.1, "weight_decay", 0.1),
    "adam_beta1": (0.8, "adam_beta1", 0.8),
    "adam_beta2": (0.95, "adam_beta2", 0.95),
    "adam_epsilon": (1e-6, "adam_epsilon", 1e-6),
    "max_grad_norm": (0.5, "max_grad_norm", 0.5),
    "label_smoothing_factor": (0.1, "label_smoothing_factor", 0.1),
    "neftune_noise_alpha": (5.0, "neftune_noise_alpha", 5.0),
    "group_by_length": (True, "train_sampling_strategy", "group_by_length"),
    "dataloader_num_workers": (2, "dataloader_num_workers", 2),
    "save_strategy": ("epoch", "save_strategy", SaveStrategy.EPOCH),
    "save_steps": (9, "save_steps", 9),
    "seed": (7, "seed", 7),
    "data_seed": (8, "data_seed", 8),
    "fsdp": (True, "fsdp", True),
    "bf16": (True, "bf16", True),
    "fp16": (True, "fp16", True),
}
# `callbacks.Reporting` makes means of updates and tells the trackers; what is kept of a job's checkpoints is swept by its worker.
OURS = {"logging_steps", "save_total_limit", "keep_best", "report_to", "project", "run_name", "wandb_entity", "run_tags"}


def test_every_training_argument_is_translated_or_ours():
    assert set(TRANSLATED) | OURS == set(TrainingArguments.model_fields)
    renamed = {argument for argument, (_, name, _) in TRANSLATED.items() if argument != name}
    assert set(SAME) == set(TRANSLATED) - renamed - {"warmup_steps"}


@pytest.mark.parametrize("argument", [argument for argument in TRANSLATED if argument != "fp16"])
def test_an_argument_reaches_the_trainer_under_its_present_name(tmp_path, argument):
    value, name, expected = TRANSLATED[argument]
    assert getattr(translated(tmp_path), name) != expected, "the default would pass unseen"
    assert getattr(translated(tmp_path, **{argument: value}), name) == expected


def test_adam_is_the_fused_one(tmp_path):
    assert translated(tmp_path).optim == OptimizerNames.ADAMW_TORCH_FUSED


def test_fp16_reaches_the_trainer(monkeypatch, tmp_path):
    """Here there is no GPU, without which transformers does not take it."""
    seen = {}
    monkeypatch.setattr("worker.stages.arguments.TransformersArguments", lambda **values: seen.update(values))
    training_arguments(TrainingArguments(fp16=True), tmp_path, use_cpu=False)
    assert (seen["fp16"], seen["bf16"], seen["use_cpu"]) == (True, False, False)


@pytest.mark.parametrize("scheduler", TrainingArguments.model_fields["lr_scheduler_type"].annotation.__args__)
def test_every_scheduler_of_the_spec_is_one_of_the_trainers(tmp_path, scheduler):
    assert translated(tmp_path, lr_scheduler_type=scheduler).lr_scheduler_type == scheduler


@pytest.mark.parametrize("optimiser", TrainingArguments.model_fields["optim"].annotation.__args__)
def test_every_optimiser_of_the_spec_is_one_of_the_trainers(tmp_path, optimiser):
    assert translated(tmp_path, optim=optimiser).optim in (optimiser, f"{optimiser}_fused")


@pytest.mark.parametrize(("ratio", "updates"), [(0.0, 0), (0.1, 2), (0.25, 5)])
def test_a_share_of_warm_up_is_that_share_of_all_updates(tmp_path, ratio, updates):
    assert translated(tmp_path, warmup_ratio=ratio).get_warmup_steps(20) == updates


def test_the_trainer_tells_every_update_whatever_logging_steps_are(tmp_path):
    arguments = translated(tmp_path, logging_steps=10)
    assert (arguments.logging_strategy, arguments.logging_steps, arguments.logging_first_step) == ("steps", 1, False)
    assert not arguments.logging_nan_inf_filter, "a loss that is not finite must be seen"


def test_nothing_is_sent_to_trackers_or_hubs(tmp_path):
    arguments = translated(tmp_path)
    assert (arguments.report_to, arguments.push_to_hub, arguments.disable_tqdm) == ([], False, True)


def test_checkpoints_are_never_rotated_away_and_carry_the_optimiser(tmp_path):
    """A recorded checkpoint that is deleted could be neither downloaded nor gone on from."""
    arguments = translated(tmp_path)
    assert (arguments.save_total_limit, arguments.save_only_model, arguments.load_best_model_at_end) == (None, False, False)


def test_a_step_behind_one_whose_model_was_shared_out_shares_nothing(tmp_path, monkeypatch):
    """accelerate would go by a mark that it leaves in the environment."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    translated(tmp_path)
    assert "ACCELERATE_USE_FSDP" not in os.environ


def test_files_go_where_they_are_told(tmp_path):
    assert translated(tmp_path / "step").output_dir == str(tmp_path / "step")
