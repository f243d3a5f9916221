"""finebits completion SHELL"""

import os
from contextlib import redirect_stdout
from enum import StrEnum
from io import StringIO

import typer

from service.cli.as_json import AsJson
from service.cli.screen import Screen


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


# A zsh whose .zshrc has not begun its completions yet knows no `compdef`.
BEFORE = {Shell.ZSH: "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }\n"}


def completion(
    context: typer.Context, shell: Shell = typer.Argument(metavar="SHELL", help="bash, zsh or fish."), as_json: AsJson = False
) -> None:
    """Print what a shell needs to complete commands and the ids of jobs.

    `eval "$(finebits completion bash)"` in ~/.bashrc, the same with zsh in ~/.zshrc; of fish,
    `finebits completion fish | source` in ~/.config/fish/config.fish.
    """
    said = f"{BEFORE.get(shell, '')}{_script(context, shell)}"
    if as_json:
        Screen().json({"shell": shell.value, "script": said})
    else:
        print(said)


def _script(context: typer.Context, shell: Shell) -> str:
    """What the command line answers a shell that asks it how to be asked."""
    os.environ["_FINEBITS_COMPLETE"] = f"source_{shell}"
    said = StringIO()
    try:
        with redirect_stdout(said):
            context.find_root().command.main([], "finebits")
    except SystemExit:
        pass
    finally:
        del os.environ["_FINEBITS_COMPLETE"]
    return said.getvalue().strip()
