"""Which benchmark, and how it is asked."""

import re
from typing import Literal

from pydantic import Field

from service.specs.base import Group

# A task of lm-evaluation-harness, by the name that it has there: "lm_eval:arc_easy".
_OF_THE_HARNESS = re.compile(r"lm_eval:([A-Za-z0-9][\w.-]{0,99})")


class EvaluationArguments(Group):
    """Arguments pertaining to specify the evaluation parameters."""

    task: str | None = Field(default=None, min_length=1, description="Name of the evaluation task.")
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
    split: Literal["validation", "test"] | None = Field(
        default=None, description="Whose questions are asked: those of test, or of validation where test has no answers."
    )

    @property
    def harness_task(self) -> str | None:
        """The task's name in lm-evaluation-harness, where it is one of those."""
        found = _OF_THE_HARNESS.fullmatch(self.task or "")
        return found[1] if found else None
