"""The fate of every argument: it works, works under a stated condition, is refused, or is moot. None is accepted and ignored.

A refused argument may only keep the values in `allowed` (its default, unless said otherwise), which mean "off". A moot one is
accepted with any value, and the resolved job and an event say what happens. A test holds this table against the groups' fields,
and `tests/specs/effects.py` names for each working argument the test that observes its effect.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from service.specs.base import Group
from service.specs.data import DataArguments
from service.specs.evaluation import EvaluationArguments
from service.specs.export import ExportArguments
from service.specs.finetuning import FinetuningArguments
from service.specs.generating import GeneratingArguments
from service.specs.job import STEP_GROUPS, JobSpec
from service.specs.measures import MeasureArguments
from service.specs.model import ModelArguments
from service.specs.refusals import Place, Refusal
from service.specs.resources import Resources
from service.specs.training import TrainingArguments


@dataclass(frozen=True)
class Fate:
    """What becomes of an argument, why, and which values a refused one may still have."""

    kind: Literal["works", "conditional", "refused", "moot"]
    why: str = ""
    allowed: tuple[Any, ...] | None = None


WORKS = Fate("works")


def works_if(condition: str) -> Fate:
    return Fate("conditional", condition)


def refused(why: str, *allowed: Any) -> Fate:
    return Fate("refused", why, allowed or None)


def moot(what_happens: str) -> Fate:
    return Fate("moot", what_happens)


_NEW_ADAPTER = works_if("training makes a new LoRA adapter")
_IN_FOUR_BITS = works_if("quantization_bit is 4")
_OF_CONVERSATIONS = works_if("stage is not pt")
_QUANTIZED_EXPORT = works_if("the step exports in export_quantization_bit")
_EXPORTS = works_if("the step exports")
_EXPORTS_A_MODEL = works_if("the step exports a whole model")
_PPO = works_if("stage is ppo")
_OF_ROWS = works_if("stage is not ppo")
_OF_WHOLE_REWARDS = works_if("stage is ppo and reward_model_type is full")
_OF_REWARD_APIS = works_if("stage is ppo and reward_model_type is api")
_SAMPLED = works_if("a measure taken on generations is named")
_WRITTEN = works_if("the step writes: predict, generate, the stage ppo, or a measure taken on generations")
_DRAWN = works_if("do_sample is on, and the step writes: predict, generate, the stage ppo, or a measure taken on generations")
_PREDICTED = works_if("the step predicts")
_OF_LABELS = works_if("stage is pt or sft")
_DPO = works_if("stage is dpo")
_OF_REFERENCE = works_if("ref_model is given")
_TRACKED = works_if("report_to or ppo_logger names wandb or mlflow")
_EVALUATED = works_if("the step evaluates")
_OF_TASK_FOLDERS = works_if("the step evaluates, and the task is a folder's")

GROUPS: dict[str, type[Group]] = {
    "model": ModelArguments,
    "data": DataArguments,
    "finetuning": FinetuningArguments,
    "generating": GeneratingArguments,
    "evaluation": EvaluationArguments,
    "training": TrainingArguments,
    "measures": MeasureArguments,
    "export": ExportArguments,
    "resources": Resources,
}

LEDGER: dict[str, Fate] = {
    "model.model_name_or_path": WORKS,
    "model.adapter_name_or_path": WORKS,
    "model.cache_dir": WORKS,
    "model.use_fast_tokenizer": moot("Today's tokenizers are always the fast ones."),
    "model.resize_vocab": WORKS,
    "model.split_special_tokens": WORKS,
    "model.model_revision": WORKS,
    "model.quantization_bit": WORKS,
    "model.quantization_type": _IN_FOUR_BITS,
    "model.double_quantization": _IN_FOUR_BITS,
    "model.rope_scaling": WORKS,
    "model.flash_attn": WORKS,
    "model.shift_attn": WORKS,
    "model.use_unsloth": WORKS,
    "model.disable_gradient_checkpointing": WORKS,
    "model.upcast_layernorm": WORKS,
    "model.upcast_lmhead_output": WORKS,
    "model.hf_hub_token": WORKS,
    "model.ms_hub_token": WORKS,
    "model.export_dir": _EXPORTS,
    "model.export_size": _EXPORTS_A_MODEL,
    "model.export_quantization_bit": _EXPORTS_A_MODEL,
    "model.export_quantization_dataset": _QUANTIZED_EXPORT,
    "model.export_quantization_nsamples": _QUANTIZED_EXPORT,
    "model.export_quantization_maxlen": _QUANTIZED_EXPORT,
    "model.export_legacy_format": _EXPORTS_A_MODEL,
    "model.export_hub_model_id": _EXPORTS,
    "data.template": _OF_CONVERSATIONS,
    "data.dataset": WORKS,
    "data.dataset_dir": WORKS,
    "data.split": WORKS,
    "data.cutoff_len": WORKS,
    "data.reserved_label_len": _OF_CONVERSATIONS,
    "data.train_on_prompt": works_if("stage is sft"),
    "data.streaming": WORKS,
    "data.buffer_size": works_if("streaming is on"),
    "data.mix_strategy": WORKS,
    "data.interleave_probs": works_if("mix_strategy interleaves"),
    "data.overwrite_cache": WORKS,
    "data.preprocessing_num_workers": WORKS,
    "data.max_samples": WORKS,
    "data.eval_num_beams": _PREDICTED,
    "data.ignore_pad_token_for_loss": _OF_LABELS,
    "data.val_size": WORKS,
    "data.sft_packing": works_if("stage is sft"),
    "data.cache_path": WORKS,
    "data.overlength": _OF_CONVERSATIONS,
    "finetuning.stage": WORKS,
    "finetuning.finetuning_type": WORKS,
    "finetuning.plot_loss": WORKS,
    "finetuning.name_module_trainable": works_if("finetuning_type is freeze"),
    "finetuning.num_layer_trainable": works_if("finetuning_type is freeze"),
    "finetuning.additional_target": _NEW_ADAPTER,
    "finetuning.lora_alpha": _NEW_ADAPTER,
    "finetuning.lora_dropout": _NEW_ADAPTER,
    "finetuning.lora_rank": _NEW_ADAPTER,
    "finetuning.lora_target": _NEW_ADAPTER,
    "finetuning.lora_bf16_mode": works_if("finetuning_type is lora"),
    "finetuning.create_new_adapter": works_if("finetuning_type is lora and adapter_name_or_path is given"),
    "finetuning.dpo_beta": _DPO,
    "finetuning.dpo_loss": _DPO,
    "finetuning.dpo_ftx": _DPO,
    "finetuning.ppo_buffer_size": _PPO,
    "finetuning.ppo_epochs": _PPO,
    "finetuning.ppo_logger": _PPO,
    "finetuning.ppo_score_norm": _PPO,
    "finetuning.ppo_target": _PPO,
    "finetuning.ppo_whiten_rewards": _PPO,
    "finetuning.ref_model": works_if("stage is ppo or dpo"),
    "finetuning.ref_model_adapters": _OF_REFERENCE,
    "finetuning.ref_model_quantization_bit": _OF_REFERENCE,
    "finetuning.reward_model": _PPO,
    "finetuning.reward_model_adapters": _OF_WHOLE_REWARDS,
    "finetuning.reward_model_quantization_bit": _OF_WHOLE_REWARDS,
    "finetuning.reward_model_type": _PPO,
    "finetuning.reward_api_key": _OF_REWARD_APIS,
    "generating.do_sample": _WRITTEN,
    "generating.temperature": _DRAWN,
    "generating.top_p": _DRAWN,
    "generating.top_k": _DRAWN,
    "generating.num_beams": _PREDICTED,
    "generating.max_length": works_if("max_new_tokens is 0, and the step predicts, generates or is of the stage ppo"),
    "generating.max_new_tokens": _WRITTEN,
    "generating.repetition_penalty": _WRITTEN,
    "generating.length_penalty": works_if("the step predicts with several beams"),
    "evaluation.task": _EVALUATED,
    "evaluation.task_dir": _EVALUATED,
    "evaluation.batch_size": _EVALUATED,
    "evaluation.seed": _EVALUATED,
    "evaluation.lang": _OF_TASK_FOLDERS,
    "evaluation.n_shot": _EVALUATED,
    "evaluation.save_dir": _EVALUATED,
    "evaluation.download_mode": refused(
        "Nothing is downloaded: a task's files are the operator's own, and are read anew by each attempt.",
        "reuse_dataset_if_exists",
        "reuse_cache_if_exists",
    ),
    "evaluation.split": _OF_TASK_FOLDERS,
    "training.per_device_train_batch_size": WORKS,
    "training.per_device_eval_batch_size": WORKS,
    "training.gradient_accumulation_steps": WORKS,
    "training.learning_rate": WORKS,
    "training.lr_scheduler_type": WORKS,
    "training.warmup_steps": WORKS,
    "training.warmup_ratio": WORKS,
    "training.num_train_epochs": WORKS,
    "training.max_steps": WORKS,
    "training.optim": WORKS,
    "training.weight_decay": WORKS,
    "training.adam_beta1": works_if("optim is adamw_torch"),
    "training.adam_beta2": works_if("optim is adamw_torch"),
    "training.adam_epsilon": works_if("optim is adamw_torch"),
    "training.max_grad_norm": WORKS,
    "training.label_smoothing_factor": _OF_LABELS,
    "training.neftune_noise_alpha": _OF_ROWS,
    "training.group_by_length": _OF_ROWS,
    "training.dataloader_num_workers": _OF_ROWS,
    "training.logging_steps": WORKS,
    "training.report_to": WORKS,
    "training.run_name": _TRACKED,
    "training.project": _TRACKED,
    "training.run_tags": _TRACKED,
    "training.wandb_entity": works_if("report_to or ppo_logger names wandb"),
    "training.save_strategy": WORKS,
    "training.save_steps": works_if("save_strategy is steps"),
    "training.save_total_limit": WORKS,
    "training.keep_best": works_if("measures.names has cross_entropy"),
    "training.seed": WORKS,
    "training.data_seed": WORKS,
    "training.fsdp": works_if("stage is pt or sft and finetuning_type is full"),
    "training.bf16": WORKS,
    "training.fp16": works_if("the worker has a GPU"),
    "measures.names": WORKS,
    "measures.dataset": WORKS,
    "measures.anchor": WORKS,
    "measures.checkpoints": works_if("the step measures, evaluates, predicts or generates"),
    "measures.base": WORKS,
    "measures.every": WORKS,
    "measures.max_documents": WORKS,
    "measures.train_documents": WORKS,
    "measures.plots": WORKS,
    "measures.guards": WORKS,
    "measures.task": works_if("a measure taken on a task is named"),
    "measures.prompts": _SAMPLED,
    "measures.samples": _SAMPLED,
    "export.adapter_only": _EXPORTS,
    "export.dtype": _EXPORTS_A_MODEL,
    "export.overwrite": works_if("the step exports into an export_dir"),
    "export.certificate_documents": works_if("the step exports and has data"),
    "export.certificate_mean_kl": _EXPORTS,
    "export.certificate_max_kl": _EXPORTS,
    "export.quantized_mean_kl": _QUANTIZED_EXPORT,
    "export.hub_private": works_if("the step exports to a hub"),
    "resources.queue": WORKS,
    "resources.gpus": WORKS,
    "resources.gpu_memory_fraction": WORKS,
    "resources.priority": WORKS,
    "resources.max_lost": WORKS,
    "resources.max_retries": WORKS,
    "resources.on_out_of_memory": WORKS,
    "resources.max_seconds": WORKS,
    "resources.deadline": WORKS,
    "resources.artifacts_ttl_seconds": WORKS,
}


@dataclass(frozen=True)
class Notice:
    """Something accepted that the client should know the effect of."""

    place: Place
    detail: str

    @property
    def pointer(self) -> str:
        return Refusal(self.place, self.detail).pointer


def refusals(spec: JobSpec) -> Iterator[Refusal]:
    """Every argument that is set to something the ledger refuses."""
    for place, group_name, field, value, default in _set_arguments(spec):
        fate = LEDGER[f"{group_name}.{field}"]
        if fate.kind == "refused" and value not in (fate.allowed or (default,)):
            yield Refusal(place, fate.why)


def notices(spec: JobSpec) -> Iterator[Notice]:
    """Every moot argument that is set, with what happens instead."""
    for place, group_name, field, _, _ in _set_arguments(spec):
        fate = LEDGER[f"{group_name}.{field}"]
        if fate.kind == "moot":
            yield Notice(place, fate.why)


def _set_arguments(spec: JobSpec) -> Iterator[tuple[Place, str, str, Any, Any]]:
    """(place, group, field, value, default) of everything that the document itself sets."""
    for group_name in (*STEP_GROUPS, "resources"):
        yield from _set_in_group((group_name,), group_name, getattr(spec, group_name))
    for index, step in enumerate(spec.steps):
        for group_name in STEP_GROUPS:
            yield from _set_in_group(("steps", index, group_name), group_name, getattr(step, group_name))


def _set_in_group(place: Place, group_name: str, group: Group | None) -> Iterator[tuple[Place, str, str, Any, Any]]:
    if group is None:
        return
    for field in sorted(group.model_fields_set):
        default = GROUPS[group_name].model_fields[field].get_default()
        yield (*place, field), group_name, field, getattr(group, field), default
