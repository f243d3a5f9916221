"""Which model, how it is loaded, and how it is exported."""

from typing import Literal

from pydantic import Field, SecretStr

from service.specs.base import CommaList, Group


class ModelArguments(Group):
    """Arguments pertaining to which model/config/tokenizer we are going to fine-tune."""

    model_name_or_path: str = Field(
        min_length=1,
        description="Path to the model weight or identifier from huggingface.co/models or modelscope.cn/models.",
    )
    adapter_name_or_path: CommaList | None = Field(
        default=None,
        description="Path to the adapter weight or identifier from huggingface.co/models.",
    )
    cache_dir: str | None = Field(
        default=None,
        description="Where to store the pre-trained models downloaded from huggingface.co or modelscope.cn.",
    )
    use_fast_tokenizer: bool = Field(
        default=False,
        description="Whether or not to use one of the fast tokenizer (backed by the tokenizers library).",
    )
    resize_vocab: bool = Field(
        default=False,
        description="Whether or not to resize the tokenizer vocab and the embedding layers.",
    )
    split_special_tokens: bool = Field(
        default=False,
        description="Whether or not the special tokens should be split during the tokenization process.",
    )
    model_revision: str = Field(
        default="main",
        description="The specific model version to use (can be a branch name, tag name or commit id).",
    )
    quantization_bit: Literal[4, 8] | None = Field(default=None, description="The number of bits to quantize the model.")
    quantization_type: Literal["fp4", "nf4"] = Field(
        default="nf4",
        description="Quantization data type to use in int4 training.",
    )
    double_quantization: bool = Field(default=True, description="Whether or not to use double quantization in int4 training.")
    rope_scaling: Literal["linear", "dynamic"] | None = Field(
        default=None,
        description="Which scaling strategy should be adopted for the RoPE embeddings.",
    )
    flash_attn: bool = Field(default=False, description="Enable FlashAttention-2 for faster training.")
    shift_attn: bool = Field(default=False, description="Enable shift short attention (S^2-Attn) proposed by LongLoRA.")
    use_unsloth: bool = Field(default=False, description="Whether or not to use unsloth's optimization for the LoRA training.")
    disable_gradient_checkpointing: bool = Field(default=False, description="Whether or not to disable gradient checkpointing.")
    upcast_layernorm: bool = Field(default=False, description="Whether or not to upcast the layernorm weights in fp32.")
    upcast_lmhead_output: bool = Field(default=False, description="Whether or not to upcast the output of lm_head in fp32.")
    hf_hub_token: SecretStr | None = Field(default=None, description="Auth token to log in with Hugging Face Hub.")
    ms_hub_token: SecretStr | None = Field(default=None, description="Auth token to log in with ModelScope Hub.")
    export_dir: str | None = Field(default=None, description="Path to the directory to save the exported model.")
    export_size: int = Field(default=1, ge=1, description="The file shard size (in GB) of the exported model.")
    export_quantization_bit: Literal[2, 3, 4, 8] | None = Field(
        default=None,
        description="The number of bits to quantize the exported model.",
    )
    export_quantization_dataset: str | None = Field(
        default=None,
        description="Path to the dataset or dataset name to use in quantizing the exported model.",
    )
    export_quantization_nsamples: int = Field(default=128, ge=1, description="The number of samples used for quantization.")
    export_quantization_maxlen: int = Field(
        default=1024,
        ge=1,
        description="The maximum length of the model inputs used for quantization.",
    )
    export_legacy_format: bool = Field(
        default=False,
        description="Whether or not to save the `.bin` files instead of `.safetensors`.",
    )
    export_hub_model_id: str | None = Field(
        default=None,
        description="The name of the repository if push the model to the Hugging Face hub.",
    )
