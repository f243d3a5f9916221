"""Every command there is, by its words: `keys create` is one."""

from typing import Any

from typer.core import TyperGroup
from typer.main import get_command

from service.cli.lazy import Lazy
from service.cli.main import app


def commands() -> dict[str, Any]:
    return dict(_within(get_command(app), ""))


def _within(group: Any, words: str) -> list[tuple[str, Any]]:
    found = []
    for name, command in group.commands.items():
        real = command.real() if isinstance(command, Lazy) else command
        path = f"{words} {name}".strip()
        found += _within(real, path) if isinstance(real, TyperGroup) else [(path, real)]
    return found
