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
    quantized_mean_kl: float | None = Field(
        default=None,
        gt=0,
        description="Bits a token that either divergence of a quantized export may come to in the mean; null: it is told, and "
        "fails nothing. The model that is quantized must keep to the other two bounds.",
    )
    hub_private: bool = Field(
        default=True, description="Whether a repository that is made for model.export_hub_model_id is shown to its owner alone."
    )
