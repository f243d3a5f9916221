"""Which arguments a step that does not train looks at: any other has no effect in it, and is refused where no step trains."""

from service.specs.evaluation import EvaluationArguments
from service.specs.export import ExportArguments
from service.specs.job import Deed
from service.specs.model import ModelArguments

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
        "ms_hub_token",
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
_BEAMS = frozenset(("generating.num_beams", "generating.length_penalty", "data.eval_num_beams"))
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
        "ms_hub_token",
    )
)

# A model is asked with a batch at a time, and what is drawn is seeded.
_OF_A_MODEL = frozenset(
    ("finetuning.stage", "finetuning.finetuning_type", "training.per_device_eval_batch_size", "training.seed")
)
_OF_ROWS = frozenset(("finetuning.stage", "training.seed", "measures.dataset"))
_EVALUATION = frozenset(f"evaluation.{field}" for field in EvaluationArguments.model_fields)
# The models that it asks, how long a text may be, and how conversations become text where there is a template.
_OF_QUESTIONS = frozenset(
    (
        "finetuning.finetuning_type",
        "data.template",
        "data.cutoff_len",
        "training.seed",
        "measures.checkpoints",
        "measures.base",
    )
)
_CACHE = frozenset(("data.cache_path", "data.overwrite_cache"))
_ASKED = _GENERATING | {"generating.max_length", "measures.checkpoints"}

_EXPORT = frozenset(f"export.{field}" for field in ExportArguments.model_fields) | frozenset(
    f"model.{field}" for field in ModelArguments.model_fields if field == "adapter_name_or_path" or field.startswith("export_")
)

LOOKS_AT: dict[Deed, frozenset[str]] = {
    "measure": _MODEL | _ROWS | _GENERATING | _MEASURES | _OF_A_MODEL,
    "inspect": _TOKENIZER | (_ROWS - _CACHE) | _OF_ROWS,
    "export": _TOKENIZER | _ROWS | _OF_A_MODEL | _EXPORT,
    "predict": _MODEL | (_ROWS - _CACHE - {"data.train_on_prompt"}) | _ASKED | _BEAMS | _OF_A_MODEL,
    "generate": _MODEL | {"data.template", "finetuning.stage", "finetuning.finetuning_type", "training.seed"} | _ASKED,
    "evaluate": _MODEL | _EVALUATION | _OF_QUESTIONS,
}


def looks_at(deed: Deed, argument: str) -> bool:
    """Whether a step can make anything of the argument. One that trains looks at all but the names of checkpoints."""
    if deed == "train":
        return argument != "measures.checkpoints"
    return argument in LOOKS_AT[deed]
