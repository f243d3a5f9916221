"""Which benchmark, and how it is asked."""

from typing import Literal

from pydantic import Field

from service.specs.base import Group


class EvaluationArguments(Group):
    """Arguments pertaining to specify the evaluation parameters."""

    task: str = Field(min_length=1, description="Name of the evaluation task.")
    task_dir: str = Field(default="evaluation", description="Path to the folder containing the evaluation datasets.")
    batch_size: int = Field(default=4, ge=1, description="The batch size per GPU for evaluation.")
    seed: int = Field(default=42, ge=0, lt=2**32, description="Random seed to be used with data loaders.")
    lang: Literal["en", "zh"] = Field(default="en", description="Language used at evaluation.")
    n_shot: int = Field(default=5, ge=0, description="Number of examplars for few-shot learning.")
    save_dir: str | None = Field(default=None, description="Path to save the evaluation results.")
    download_mode: Literal["reuse_dataset_if_exists", "reuse_cache_if_exists", "force_redownload"] = Field(
        default="reuse_dataset_if_exists",
        description="Download mode used for the evaluation datasets.",
    )
