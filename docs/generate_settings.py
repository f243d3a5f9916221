"""Writes docs/reference/settings.md from the settings: `python -m docs.generate_settings`, at the root of the repository."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from service.places import Places
from service.settings import Settings
from worker.settings import WorkerSettings

PAGE = Path(__file__).parent / "reference" / "settings.md"

HEAD = """# Settings

Written from `service/places.py`, `service/settings.py` and `worker/settings.py` by `python -m docs.generate_settings`; do not
edit it here.

All are environment variables. One that is empty counts as not given. With docker compose they stand in `.env`, and reach the
containers that need them; the last table has those that are made there, and cannot be given.
"""

# By name: why a container has it from docker-compose.yml, and not from .env.
FIXED = {
    "FINEBITS_HOME": "nothing is kept in it",
    "FINEBITS_DATABASE_URL": "made of `FINEBITS_POSTGRES_PASSWORD` and `FINEBITS_POSTGRES_ADDRESS`",
    "FINEBITS_BROKER_URL": "made of `FINEBITS_BROKER_PASSWORD` and `FINEBITS_BROKER_ADDRESS`",
    "FINEBITS_ARTIFACTS_ROOT": "where the host's folder `FINEBITS_ARTIFACTS` is mounted",
    "FINEBITS_MODELS_ROOT": "where the host's folder `FINEBITS_MODELS` is mounted",
    "FINEBITS_DATASETS_ROOT": "where the host's folder `FINEBITS_DATASETS` is mounted",
    "FINEBITS_EXPORTS_ROOT": "the folder `exports` of the artifacts, on the host `FINEBITS_ARTIFACTS`/exports",
    "FINEBITS_CACHE_ROOT": "a folder of the artifacts: the one place that is written to and kept",
    "FINEBITS_HOST": "all addresses of the container; `FINEBITS_BIND` says which of the host's",
    "FINEBITS_PORT": "8765 in the container; `FINEBITS_PORT` in `.env` is the host's",
    "FINEBITS_HEALTH_FILE": "what the container's health check looks at",
}


def names(field_name: str, field: FieldInfo) -> list[str]:
    """The variables that a setting is read from."""
    if isinstance(field.validation_alias, AliasChoices):
        return [str(choice) for choice in field.validation_alias.choices]
    return [f"FINEBITS_{field_name.upper()}"]


def own(settings: type[BaseSettings]) -> dict[str, FieldInfo]:
    """The settings that are not among those of the places."""
    shared = Places.model_fields if settings is not Places else {}
    return {name: field for name, field in settings.model_fields.items() if name not in shared}


def page() -> str:
    """The whole page, as it is committed."""
    return "\n".join([HEAD, *_tables(), *_fixed()])


def _tables() -> Iterator[str]:
    for title, settings in {"Service and workers": Places, "Service": Settings, "Workers": WorkerSettings}.items():
        yield from (f"## {title}", "", "| variable | when not given | |", "| --- | --- | --- |")
        for name, field in own(settings).items():
            variables = "<br>".join(f"`{variable}`" for variable in names(name, field))
            yield f"| {variables} | {_default(field.default)} | {field.description} |"
        yield ""


def _fixed() -> Iterator[str]:
    yield from ("## Made in a container", "", "| variable | |", "| --- | --- |")
    for name, why in FIXED.items():
        yield f"| `{name}` | {why} |"
    yield ""


def _default(default: Any) -> str:
    if default is None or default == "" or default == Path():
        return ""
    if isinstance(default, bool):
        return f"`{int(default)}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
