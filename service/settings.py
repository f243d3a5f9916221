"""What the service reads from its environment (prefix FINEBITS_)."""

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """The service's settings. `home` holds the data of the embedded default; every other default follows from it."""

    model_config = SettingsConfigDict(env_prefix="FINEBITS_", extra="ignore", frozen=True)

    home: Path = Field(default=Path("finebits-data"), description="The folder of the embedded default's data.")
    database_url: str = Field(default="", description="SQLAlchemy's URL; SQLite in `home` when not given.")
    broker_url: str = Field(default="", description="Redis's URL; a private server in `home` when not given.")
    artifacts_root: Path = Field(default=Path(), description="Where jobs' files are; `home`/artifacts when not given.")
    models_root: Path = Field(default=Path(), description="The models that jobs may name; `home`/models when not given.")
    datasets_root: Path = Field(default=Path(), description="The data sets; `home`/datasets when not given.")
    host: str = Field(default="127.0.0.1", description="The address the API listens on; not loopback only with a key.")
    port: int = Field(default=8765, ge=0, le=65535, description="The port; 0 takes a free one.")
    api_key: SecretStr | None = Field(default=None, min_length=16, description="The one bearer key; none opens loopback.")
    max_body_bytes: int = Field(default=10_000_000, ge=1024, description="A larger request body is refused with 413.")

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
        }
        return {**defaults, **{name: value for name, value in values.items() if value != ""}, "home": home}

    @model_validator(mode="after")
    def _open_only_on_loopback(self) -> Self:
        if self.api_key is None and self.host not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError(
                f"FINEBITS_HOST is {self.host}, which others can reach, and there is no FINEBITS_API_KEY. Set a key of at "
                "least 16 characters, or listen on 127.0.0.1."
            )
        return self
