"""What people read: sentences and tables on a terminal, and the same as plain lines where the output goes elsewhere.

Text from the service is printed as it is: never as markup, and without characters that a terminal would obey.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, Literal, NoReturn

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

Justify = Literal["left", "right"]


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
        """Words: aligned to the left; what is too long for the terminal is wrapped."""
        if self.is_terminal:
            self._print_table(title, [(column, "left") for column in columns], rows)
        else:
            self._print_lines(title, columns, rows, str.ljust)

    def numbers(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Numbers behind the name of each row: aligned to the right; columns that do not fit follow in a table of their own.

        A heading may have two lines, which are one where there is no terminal.
        """
        if not self.is_terminal:
            self._print_lines(title, [column.replace("\n", " ") for column in columns], rows, str.rjust)
            return
        for part in _parts([_width(index, columns, rows) for index in range(len(columns))], self.console.width):
            headings: list[tuple[str, Justify]] = [(columns[index], "right" if index else "left") for index in part]
            self._print_table(title, headings, [[row[index] for index in part] for row in rows])

    def _print_table(self, title: str, headings: Sequence[tuple[str, Justify]], rows: Sequence[Sequence[str]]) -> None:
        table = Table(box=box.SIMPLE_HEAD)
        for index, (heading, justify) in enumerate(headings):
            table.add_column(Text(heading), justify=justify, no_wrap=index == 0, overflow="fold")
        for row in rows:
            table.add_row(*(Text(plain(cell)) for cell in row))
        self.console.print(Text(plain(title), style="bold"), table, sep="\n")

    def _print_lines(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], pad: Callable[[str, int], str]
    ) -> None:
        lines = [list(columns), *([plain(cell) for cell in row] for row in rows)]
        widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
        print(plain(title))
        for first, *others in lines:
            cells = [first.ljust(widths[0]), *(pad(cell, width) for cell, width in zip(others, widths[1:], strict=True))]
            print("  ".join(cells).rstrip(), flush=True)


def _width(index: int, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Of a column with its space at both sides and the line between columns."""
    return 3 + max(*map(len, columns[index].split("\n")), *(len(row[index]) for row in rows))


def _parts(widths: Sequence[int], room: int) -> list[list[int]]:
    """The columns of each table: the first in every one, and beside it as many others as there is room for."""
    parts: list[list[int]] = [[0]]
    for index in range(1, len(widths)):
        if len(parts[-1]) > 1 and sum(widths[at] for at in [*parts[-1], index]) > room - 2:
            parts.append([0])
        parts[-1].append(index)
    return parts


def complain(text: str) -> None:
    """An error, for people."""
    typer.echo(plain(text), err=True)


def give_up(text: str, code: int = 1) -> NoReturn:
    complain(text)
    raise typer.Exit(code)


def plain(text: str) -> str:
    """Without control characters, save for the ends of lines and tabs: a job's name may hold anything."""
    return "".join(character if character.isprintable() or character in "\n\t" else "�" for character in text)
