"""What people read: sentences and tables on a terminal, and the same as plain lines where the output goes elsewhere.

Text from the service is printed as it is: never as markup, and without characters that a terminal would obey.
"""

import json
from collections.abc import Sequence
from typing import Any, NoReturn

import typer
from rich import box
from rich.console import Console
from rich.table import Table


class Screen:
    """Standard output, with errors on standard error."""

    def __init__(self) -> None:
        self.console = Console(markup=False, highlight=False, emoji=False)
        self.is_terminal = self.console.is_terminal

    def say(self, text: str = "", style: str | None = None) -> None:
        if self.is_terminal:
            self.console.print(plain(text), style=style)
        else:
            print(plain(text), flush=True)

    def json(self, document: Any) -> None:
        print(json.dumps(document, indent=2, ensure_ascii=False))

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """The first column is the name of a row, the others are aligned to the right."""
        cells = [[plain(cell) for cell in row] for row in rows]
        if not self.is_terminal:
            self._plain_table(title, columns, cells)
            return
        table = Table(title=plain(title), title_justify="left", box=box.SIMPLE_HEAD)
        for index, column in enumerate(columns):
            table.add_column(column, justify="right" if index else "left", no_wrap=index == 0)
        for row in cells:
            table.add_row(*row)
        self.console.print(table)

    def _plain_table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        lines = [list(columns), *map(list, rows)]
        widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
        print(plain(title))
        for first, *others in lines:
            cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
            print("  ".join(cells).rstrip(), flush=True)


def complain(text: str) -> None:
    """An error, for people."""
    typer.echo(plain(text), err=True)


def give_up(text: str, code: int = 1) -> NoReturn:
    complain(text)
    raise typer.Exit(code)


def plain(text: str) -> str:
    """Without control characters, save for the ends of lines and tabs: a job's name may hold anything."""
    return "".join(character if character.isprintable() or character in "\n\t" else "�" for character in text)
