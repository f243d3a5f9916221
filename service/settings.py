"""What the service reads from its environment (prefix FINEBITS_)."""

from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from service.places import Places
from service.webhooks.addresses import networks_of


class Settings(Places):
    """The service's settings, beside the places it shares with the workers."""

    host: str = Field(
        default="127.0.0.1", description="The address the API listens on; others than loopback only where a key is needed."
    )
    port: int = Field(default=8765, ge=0, le=65535, description="The port; 0 takes a free one.")
    api_key: SecretStr | None = Field(
        default=None, min_length=16, description="The operator's bearer key, which opens everything; others are made, not set."
    )
    require_key: bool = Field(
        default=False, description="Whether every request needs a key, also as long as `finebits keys create` has made none."
    )
    session_hours: float = Field(
        default=12.0,
        gt=0,
        le=24 * 90,
        description="How long a browser that signed in with a key stays so; no longer than the key.",
    )
    trusted_proxies: str = Field(
        default="",
        description="The proxies that may say for whom they ask (X-Forwarded-For): addresses or networks, with commas between.",
    )
    api_threads: int = Field(
        default=8,
        ge=1,
        le=1000,
        description="How many requests are worked on at once: threads share one core, and too many slow each other.",
    )
    artifacts_ttl_seconds: float | None = Field(
        default=None, gt=0, description="How long after a job's end its files are kept, where the job does not say; None: always."
    )
    generate_wait_seconds: float = Field(
        default=20.0, ge=0, description="How long a text that is asked of a checkpoint waits for a free worker before a 503."
    )
    generate_max_tokens: int = Field(default=1024, ge=1, description="The longest text that may be asked of a checkpoint so.")
    max_body_bytes: int = Field(default=10_000_000, ge=1024, description="A larger request body is refused with 413.")
    webhook_networks: str = Field(
        default="",
        description="Networks that webhooks may lead to although they are not public, as 10.0.0.0/8 with commas between; none.",
    )
    max_file_bytes: int = Field(
        default=8_000_000_000, ge=1024, description="A larger uploaded file, or part of one, is refused with 413."
    )
    rate_limit: float = Field(
        default=500.0, ge=0, description="How many requests a second a key may send, or an address without one; 0: any number."
    )
    rate_burst: int = Field(default=5000, ge=1, description="How many of them at once, after a while without any.")
    failed_sign_ins_per_minute: float = Field(
        default=30.0,
        ge=0,
        description="How many keys that open nothing are looked at for an address, and at once as many; 0: any number.",
    )
    rate_limit_shared: bool = Field(
        default=False, description="Whether the processes of the API count requests together, in the broker; else each its own."
    )
    stop_seconds: int = Field(
        default=10, ge=1, le=3600, description="How long the API finishes the requests that it has when it is told to stop."
    )

    @field_validator("webhook_networks")
    @classmethod
    def _are_networks(cls, networks: str) -> str:
        networks_of(networks)
        return networks

    @model_validator(mode="after")
    def _open_only_on_loopback(self) -> Self:
        if self.api_key is None and not self.require_key and self.host not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError(
                f"FINEBITS_HOST is {self.host}, which others can reach, and there is no FINEBITS_API_KEY. Set a key of at least "
                "16 characters, or FINEBITS_REQUIRE_KEY=1 for those of `finebits keys create`, or listen on 127.0.0.1."
            )
        return self
