"""Commands that are imported when they are run: `finebits --help` needs none of what they need."""

import errno
from importlib import import_module
from itertools import groupby
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from service.cli.screen import give_up


class Commands(TyperGroup):
    """A group whose help has each command with its whole sentence, under the headings that they have."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for panel, commands in groupby(self.commands.values(), lambda command: getattr(command, "rich_help_panel", None)):
            with formatter.section(panel if isinstance(panel, str) else "Commands"):
                formatter.write_dl([(command.name, first_sentence(command.help or "")) for command in commands])


class Lazy(TyperCommand):
    """Stands for the command of service/cli/<name>.py, of which only the name and a sentence are known yet."""

    def __init__(self, name: str, sentence: str, panel: str):
        super().__init__(name, help=sentence, rich_help_panel=panel, rich_markup_mode=None)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return self.real().make_context(info_name, args, parent=parent, **extra)

    def real(self) -> Any:
        """The module's `app`, where it has commands of its own, or the function that is called as it is."""
        assert self.name is not None
        module = import_module(f"service.cli.{self.name}")
        own = getattr(module, "app", None)
        if own is None:
            own = typer.Typer(add_completion=False, rich_markup_mode=None)
            own.command(self.name)(getattr(module, self.name))
        command = get_command(own)
        command.name = self.name
        return command


def group_of(panels: dict[str, dict[str, str]]) -> type[TyperGroup]:
    """A group of such commands: heading of the help -> name -> sentence."""

    class Lazily(Commands):
        def __init__(self, **attributes: Any):
            super().__init__(**attributes)
            for panel, commands in panels.items():
                for name, sentence in commands.items():
                    self.add_command(Lazy(name, sentence, panel))

        def invoke(self, ctx: Any) -> Any:
            try:
                return super().invoke(ctx)
            except OSError as error:
                if error.errno in (None, errno.EPIPE):  # no file's; and who reads no further is told nothing
                    raise
                give_up(f"{error.filename or 'What is printed'} cannot be read or written: {error.strerror}.")

    return Lazily


def app_of(sentence: str) -> typer.Typer:
    """What a module with commands of its own has as `app`."""
    return typer.Typer(cls=Commands, add_completion=False, no_args_is_help=True, rich_markup_mode=None, help=sentence)


def first_sentence(text: str) -> str:
    """A docstring's first paragraph, on one line."""
    return " ".join(text.partition("\n\n")[0].split())
