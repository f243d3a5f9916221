"""Which arguments a step that does not train looks at: any other has no effect in it, and is refused where no step trains."""

from service.specs.job import Deed

_MODEL = frozenset(
    f"model.{field}"
    for field in (
        "model_name_or_path",
        "adapter_name_or_path",
        "cache_dir",
        "use_fast_tokenizer",
        "resize_vocab",
        "split_special_tokens",
        "model_revision",
        "quantization_bit",
        "quantization_type",
        "double_quantization",
        "rope_scaling",
        "flash_attn",
        "upcast_layernorm",
        "upcast_lmhead_output",
        "hf_hub_token",
    )
)
_ROWS = frozenset(
    f"data.{field}"
    for field in (
        "template",
        "dataset",
        "dataset_dir",
        "split",
        "cutoff_len",
        "reserved_label_len",
        "train_on_prompt",
        "overwrite_cache",
        "preprocessing_num_workers",
        "max_samples",
        "val_size",
        "cache_path",
        "overlength",
    )
)
_GENERATING = frozenset(
    f"generating.{field}" for field in ("do_sample", "temperature", "top_p", "top_k", "max_new_tokens", "repetition_penalty")
)
_MEASURES = frozenset(
    f"measures.{field}"
    for field in (
        "names",
        "dataset",
        "anchor",
        "checkpoints",
        "base",
        "max_documents",
        "train_documents",
        "task",
        "prompts",
        "samples",
    )
)
_TOKENIZER = frozenset(
    f"model.{field}"
    for field in (
        "model_name_or_path",
        "cache_dir",
        "use_fast_tokenizer",
        "split_special_tokens",
        "model_revision",
        "hf_hub_token",
    )
)

LOOKS_AT: dict[Deed, frozenset[str]] = {
    "measure": _MODEL
    | _ROWS
    | _GENERATING
    | _MEASURES
    | {"finetuning.stage", "finetuning.finetuning_type", "training.per_device_eval_batch_size", "training.seed"},
    "inspect": _TOKENIZER | _ROWS | {"finetuning.stage", "training.seed", "measures.dataset"},
}


def looks_at(deed: Deed, argument: str) -> bool:
    """Whether a step can make anything of the argument. One that trains looks at all but the names of checkpoints."""
    if deed == "train":
        return argument != "measures.checkpoints"
    return argument in LOOKS_AT[deed]
