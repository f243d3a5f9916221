"""Where everything is: the database, the broker and the folders; and whatever else the service and the workers share."""

import base64
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.specs.quota import Quota
from service.storage import opening
from service.storage.errors import Unusable


class Places(BaseSettings):
    """Read from the environment (prefix FINEBITS_). `home` holds the embedded default's data; the rest follows from it."""

    model_config = SettingsConfigDict(
        env_prefix="FINEBITS_", extra="ignore", frozen=True, populate_by_name=True, env_ignore_empty=True
    )

    home: Path = Field(default=Path("finebits-data"), description="The folder of the embedded default's data.")
    database_url: str = Field(default="", description="SQLAlchemy's URL; SQLite in `home` when not given.")
    broker_url: str = Field(default="", description="Redis's URL; a private server in `home` when not given.")
    artifacts_root: Path = Field(default=Path(), description="Where jobs write; `home`/artifacts when not given.")
    artifacts_url: str = Field(
        default="", description="Where jobs' files are kept, as s3://bucket/folder; `artifacts_root` itself when not given."
    )
    s3_endpoint: str = Field(default="", description="The URL of an S3 that is not Amazon's; AWS_ENDPOINT_URL when not given.")
    models_root: Path = Field(default=Path(), description="The models that jobs may name; `home`/models when not given.")
    datasets_root: Path = Field(default=Path(), description="The data sets; `home`/datasets when not given.")

    exports_root: Path = Field(
        default=Path(), description="Where models that jobs export are published by name; `home`/exports when not given."
    )
    cache_root: Path = Field(default=Path(), description="Tokenised data sets and hubs' files; `home`/cache when not given.")
    hub: bool = Field(default=False, description="Whether jobs may name models and data sets that lie on a hub.")
    hub_push: bool = Field(
        default=False,
        description="Whether jobs may push what they export to a hub, with a token of theirs; FINEBITS_HUB must be set, too.",
    )
    modelscope: bool = Field(
        default=False,
        validation_alias=AliasChoices("FINEBITS_MODELSCOPE", "USE_MODELSCOPE_HUB"),
        description="Whether what lies on ModelScope is taken from there; USE_MODELSCOPE_HUB says so too.",
    )
    reward_hosts: str = Field(
        default="", description="The hosts of reward APIs that jobs may name, as host or host:port with commas between; none."
    )
    mlflow_url: str = Field(default="", description="The MLflow server that jobs may report to; none.")
    wandb_url: str = Field(
        default="",
        description="The Weights & Biases server that jobs report to, as https://api.wandb.ai; none: its files are artifacts.",
    )
    log_format: Literal["text", "json"] = Field(default="text", description="Lines of the log for people, or JSON for programs.")
    traces_url: str = Field(
        default="", description="Where traces are sent, as OTLP over HTTP: http://collector:4318/v1/traces; none."
    )
    quota_queued: int | None = Field(
        default=None, ge=0, description="How many jobs an owner may have waiting, where nothing else is set for it; None: any."
    )
    quota_running: int | None = Field(default=None, ge=0, description="How many jobs an owner may have running; None: any.")
    quota_gpu_hours: float | None = Field(
        default=None, ge=0, description="How many GPU hours an owner may use in a calendar month, UTC; None: any."
    )
    grace_seconds: float = Field(
        default=120.0, gt=0, description="How long a job may take to stop at a checkpoint; a worker is killed some time after it."
    )
    secret_key: SecretStr | None = Field(
        default=None,
        description="Encrypts the secrets that are kept, as jobs' tokens: 32 bytes in URL-safe base64. None: none are taken. "
        "Several, with commas between them: the first encrypts, all decrypt.",
    )

    @property
    def quota(self) -> Quota:
        """Of an owner for whom nothing else is set."""
        return Quota(queued=self.quota_queued, running=self.quota_running, gpu_hours=self.quota_gpu_hours)

    @field_validator("secret_key")
    @classmethod
    def _is_a_key(cls, key: SecretStr | None) -> SecretStr | None:
        try:
            if key is not None and any(len(base64.urlsafe_b64decode(one)) != 32 for one in key.get_secret_value().split(",")):
                raise ValueError
        except ValueError:
            raise ValueError(
                "FINEBITS_SECRET_KEY must be 32 bytes in URL-safe base64. `openssl rand -base64 32 | tr '+/' '-_'` makes one."
            ) from None
        return key

    @model_validator(mode="before")
    @classmethod
    def _follow_home(cls, values: dict[str, object]) -> dict[str, object]:
        home = Path(str(values.get("home") or "finebits-data")).absolute()
        defaults: dict[str, object] = {
            "database_url": f"sqlite:///{home}/finebits.db",
            "broker_url": f"redis+socket://{home}/broker/broker.sock",
            "artifacts_root": home / "artifacts",
            "models_root": home / "models",
            "datasets_root": home / "datasets",
            "exports_root": home / "exports",
            "cache_root": home / "cache",
        }
        given = {name: value for name, value in values.items() if value != ""}
        for root in ("artifacts_root", "models_root", "datasets_root", "exports_root", "cache_root"):
            if root in given:
                given[root] = Path(str(given[root])).absolute()
        return {**defaults, **given, "home": home}

    @field_validator("artifacts_url")
    @classmethod
    def _is_usable(cls, url: str) -> str:
        try:
            if url:
                opening.check(url)
        except Unusable as error:
            raise ValueError(str(error)) from None
        return url
