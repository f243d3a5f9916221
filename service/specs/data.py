"""Which rows, how they become text, and how text becomes tokens."""

from typing import Literal

from pydantic import Field

from service.specs.base import CommaList, Group


class DataArguments(Group):
    """Arguments pertaining to what data we are going to input our model for training and evaluation."""

    template: str | None = Field(
        default=None,
        description="Which template to use for constructing prompts in training and inference.",
    )
    dataset: CommaList | None = Field(
        default=None,
        description="The name of provided dataset(s) to use. Use commas to separate multiple datasets.",
    )
    dataset_dir: str = Field(default="data", description="Path to the folder containing the datasets.")
    split: str = Field(default="train", description="Which dataset split to use for training and evaluation.")
    cutoff_len: int = Field(default=1024, ge=2, description="The maximum length of the model inputs after tokenization.")
    reserved_label_len: int = Field(default=1, ge=1, description="The maximum length reserved for label after tokenization.")
    train_on_prompt: bool = Field(default=False, description="Whether to disable the mask on the prompt or not.")
    streaming: bool = Field(default=False, description="Enable dataset streaming.")
    buffer_size: int = Field(
        default=16384,
        ge=1,
        description="Size of the buffer to randomly sample examples from in dataset streaming.",
    )
    mix_strategy: Literal["concat", "interleave_under", "interleave_over"] = Field(
        default="concat",
        description="Strategy to use in dataset mixing (concat/interleave) (undersampling/oversampling).",
    )
    interleave_probs: CommaList | None = Field(
        default=None,
        description="Probabilities to sample data from datasets. Use commas to separate multiple datasets.",
    )
    overwrite_cache: bool = Field(default=False, description="Overwrite the cached training and evaluation sets.")
    preprocessing_num_workers: int | None = Field(
        default=None,
        ge=1,
        le=128,
        description="The number of processes to use for the preprocessing.",
    )
    max_samples: int | None = Field(
        default=None,
        ge=1,
        description="For debugging purposes, truncate the number of examples for each dataset.",
    )
    eval_num_beams: int | None = Field(
        default=None,
        ge=1,
        description="Number of beams to use for evaluation. This argument will be passed to `model.generate`",
    )
    ignore_pad_token_for_loss: bool = Field(
        default=True,
        description="Whether to ignore the tokens corresponding to padded labels in the loss computation or not.",
    )
    val_size: float = Field(
        default=0,
        ge=0,
        description="Size of the development set, should be an integer or a float in range `[0,1)`.",
    )
    sft_packing: bool = Field(
        default=False,
        description="Packing the questions and answers in the supervised fine-tuning stage.",
    )
    cache_path: str | None = Field(default=None, description="Path to save or load the preprocessed datasets.")
    overlength: Literal["truncate", "drop"] = Field(
        default="truncate",
        description="What becomes of a row that is longer than cutoff_len: cut by the rule, or left out. Both are counted.",
    )
