"""Writes docs/reference/cli.md from the commands themselves: `python -m docs.generate_cli`, at the root of the repository."""

from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any

from typer.core import TyperArgument, TyperGroup, TyperOption
from typer.main import get_command

from service.cli.exit_codes import ExitCode
from service.cli.lazy import Lazy
from service.cli.main import COMMANDS, app

PAGE = Path(__file__).parent / "reference" / "cli.md"

HEAD = """# Command line

Written from the commands in `service/cli/` by `python -m docs.generate_cli`; do not edit it here.

`finebits COMMAND --help` says the same in the terminal. Where the output is no terminal, tables are plain lines; `NO_COLOR` and
`TERM=dumb` are heeded. `--json` is everywhere: one document, or an object a line of what goes on for a while (`watch`, `--watch`,
`logs -f`, `generate`, `up`, `demo`). What the service refuses is then an object on standard error. Before a command's name stand:
"""


def page() -> str:
    """The whole page, as it is committed."""
    root: Any = get_command(app)
    lines = [HEAD, *_options(root.params), "", *_codes()]
    for panel, commands in COMMANDS.items():
        lines += [f"## {panel}", ""]
        for name in commands:
            lazy = root.commands[name]
            assert isinstance(lazy, Lazy)
            lines += _command(f"finebits {name}", lazy.real())
    return "\n".join(lines).rstrip() + "\n"


def _codes() -> Iterator[str]:
    yield from ("## Exit codes", "", "| code | |", "| --- | --- |")
    for code in ExitCode:
        yield f"| {code.value} | {code.meaning} |"
    yield from (
        "",
        "A command that follows a job (`watch`, `submit --watch`, `export -w`, `predict -w`, ...) has the job's end as its own.",
    )
    yield "Ctrl-C ends the following, and never the job.\n"


def _command(words: str, command: Any) -> Iterator[str]:
    if isinstance(command, TyperGroup):
        yield from (f"### {words}", "", cleandoc(command.help or ""), "")
        for name, one in command.commands.items():
            yield from _command(f"{words} {name}", one)
        return
    arguments = [one for one in command.params if isinstance(one, TyperArgument)]
    shown = " ".join([words, *(_placed(one) for one in arguments)])
    yield from (f"### {words}", "", f"`{shown}`", "", cleandoc(command.help or ""), "")
    yield from _options(command.params)
    yield ""


def _placed(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


def _options(params: list[Any]) -> Iterator[str]:
    yield from ("| | |", "| --- | --- |")
    for one in params:
        if one.name != "json" and not {"--install-completion", "--show-completion"} & set(one.opts):
            yield f"| {_named(one)} | {_told(one)} |"


def _named(one: Any) -> str:
    if isinstance(one, TyperArgument):
        return f"`{one.metavar or one.name.upper()}`"
    takes = "" if one.is_flag else f" {one.metavar or one.name.upper()}"
    return ", ".join(f"`{opt}{takes}`" for opt in sorted(one.opts, key=len, reverse=True))


def _told(one: Any) -> str:
    help_text = " ".join((one.help or "").split())
    default = one.default
    is_shown = isinstance(one, TyperOption) and not one.is_flag and one.show_default is not False
    if is_shown and default not in (None, [], (), ""):
        help_text += f" Default: `{default}`."
    if one.envvar:
        help_text += f" Or `{one.envvar}`."
    return help_text.strip().replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
