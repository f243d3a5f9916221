"""Which loop, which parameters, and with what loss."""

from typing import Literal

from pydantic import Field, SecretStr

from service.specs.base import CommaList, Group


class FreezeArguments(Group):
    """Arguments pertaining to the freeze (partial-parameter) training."""

    name_module_trainable: CommaList = Field(
        default=("mlp",),
        description=(
            "Name of trainable modules for partial-parameter (freeze) fine-tuning. Use commas to separate multiple modules. "
            'LLaMA choices: ["mlp", "self_attn"], BLOOM & Falcon & ChatGLM choices: ["mlp", "self_attention"], Qwen choices: '
            '["mlp", "attn"], Phi choices: ["mlp", "mixer"], Others choices: the same as LLaMA.'
        ),
    )
    num_layer_trainable: int = Field(
        default=3,
        description="The number of trainable layers for partial-parameter (freeze) fine-tuning.",
    )


class LoraArguments(Group):
    """Arguments pertaining to the LoRA training."""

    additional_target: CommaList | None = Field(
        default=None,
        description="Name(s) of modules apart from LoRA layers to be set as trainable and saved in the final checkpoint.",
    )
    lora_alpha: int | None = Field(
        default=None,
        ge=1,
        description="The scale factor for LoRA fine-tuning (default: lora_rank * 2).",
    )
    lora_dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout rate for the LoRA fine-tuning.")
    lora_rank: int = Field(default=8, ge=1, description="The intrinsic dimension for LoRA fine-tuning.")
    lora_target: CommaList | None = Field(
        default=None,
        description=(
            'Name(s) of target modules to apply LoRA. Use commas to separate multiple modules. LLaMA choices: ["q_proj", '
            '"k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], BLOOM & Falcon & ChatGLM choices: '
            '["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"], Baichuan choices: ["W_pack", "o_proj", '
            '"gate_proj", "up_proj", "down_proj"], Qwen choices: ["c_attn", "attn.c_proj", "w1", "w2", "mlp.c_proj"], Phi '
            'choices: ["Wqkv", "out_proj", "fc1", "fc2"], Others choices: the same as LLaMA.'
        ),
    )
    lora_bf16_mode: bool = Field(default=False, description="Whether or not to train lora adapters in bf16 precision.")
    create_new_adapter: bool = Field(
        default=False,
        description="Whether or not to create a new adapter with randomly initialized weight.",
    )


class RLHFArguments(Group):
    """Arguments pertaining to the PPO and DPO training."""

    dpo_beta: float = Field(default=0.1, gt=0, description="The beta parameter for the DPO loss.")
    dpo_loss: Literal["sigmoid", "hinge", "ipo", "kto", "kto_pair"] = Field(
        default="sigmoid",
        description="The type of DPO loss to use.",
    )
    dpo_ftx: float = Field(default=0, ge=0, description="The supervised fine-tuning loss coefficient in DPO training.")
    ppo_buffer_size: int = Field(
        default=1,
        ge=1,
        description="The number of mini-batches to make experience buffer in a PPO optimization step.",
    )
    ppo_epochs: int = Field(default=4, ge=1, description="The number of epochs to perform in a PPO optimization step.")
    ppo_logger: Literal["wandb", "tensorboard"] | None = Field(
        default=None,
        description='Log with either "wandb" or "tensorboard" in PPO training.',
    )
    ppo_score_norm: bool = Field(default=False, description="Use score normalization in PPO training.")
    ppo_target: float = Field(default=6.0, gt=0, description="Target KL value for adaptive KL control in PPO training.")
    ppo_whiten_rewards: bool = Field(default=False, description="Whiten the rewards before compute advantages in PPO training.")
    ref_model: str | None = Field(
        default=None, min_length=1, description="Path to the reference model used for the PPO or DPO training."
    )
    ref_model_adapters: CommaList | None = Field(default=None, description="Path to the adapters of the reference model.")
    ref_model_quantization_bit: Literal[4, 8] | None = Field(
        default=None,
        description="The number of bits to quantize the reference model.",
    )
    reward_model: str | None = Field(
        default=None, min_length=1, description="Path to the reward model used for the PPO training."
    )
    reward_model_adapters: CommaList | None = Field(default=None, description="Path to the adapters of the reward model.")
    reward_model_quantization_bit: Literal[4, 8] | None = Field(
        default=None,
        description="The number of bits to quantize the reward model.",
    )
    reward_model_type: Literal["lora", "full", "api"] = Field(
        default="lora",
        description="The type of the reward model in PPO training. Lora model only supports lora training.",
    )
    reward_api_key: SecretStr | None = Field(
        default=None,
        min_length=1,
        description="What the reward API is asked with, as `Authorization: Bearer <key>`; kept encrypted, and never shown again.",
    )


class FinetuningArguments(FreezeArguments, LoraArguments, RLHFArguments):
    """Arguments pertaining to which techniques we are going to fine-tuning with."""

    stage: Literal["pt", "sft", "rm", "ppo", "dpo"] = Field(
        default="sft",
        description="Which stage will be performed in training.",
    )
    finetuning_type: Literal["lora", "freeze", "full"] = Field(default="lora", description="Which fine-tuning method to use.")
    plot_loss: bool = Field(default=False, description="Whether or not to save the training loss curves.")
