"""How a step that exports writes its model, beside what the model's own arguments say (export_dir, export_size, ...)."""

from typing import Literal

from pydantic import Field

from service.specs.base import Group


class ExportArguments(Group):
    """What an export is, what it may replace, and what it must prove."""

    adapter_only: bool = Field(
        default=False, description="Write the one adapter that lies on the model, and not the model with it merged."
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        default="auto", description="The type of the numbers that are written: with auto that of the model's own files."
    )
    overwrite: bool = Field(
        default=False, description="Replace what lies under model.export_dir already, in one move once the new one is whole."
    )
    certificate_documents: int = Field(
        default=64, ge=1, description="How many documents of the text the model is compared on, as it was trained and as written."
    )
    certificate_mean_kl: float = Field(
        default=0.01, gt=0, description="Bits a token that either divergence may come to in the mean; beyond it the step fails."
    )
    certificate_max_kl: float = Field(
        default=1.0, gt=0, description="Bits that either divergence may come to at any one token; beyond it the step fails."
    )
