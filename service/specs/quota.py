"""How much an owner may have at once, and in a month."""

from pydantic import BaseModel, ConfigDict, Field


class Quota(BaseModel):
    """None: as much as there is."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    queued: int | None = Field(default=None, ge=0, lt=2**31, description="Jobs that wait, paused ones among them.")
    running: int | None = Field(default=None, ge=0, lt=2**31, description="Jobs that run.")
    gpu_hours: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="Hours of whole GPUs in a calendar month, UTC."
    )

    def over(self, default: "Quota") -> "Quota":
        """This, and the default where it says nothing."""
        return Quota(**{name: value if value is not None else getattr(default, name) for name, value in self})


UNLIMITED = Quota()
