"""What people read: sentences and tables on a terminal, and the same as plain lines where the output goes elsewhere.

Text from the service is printed as it is: never as markup, and without characters that a terminal would obey.
"""

import json
import os
import shutil
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from service.cli.exit_codes import ExitCode

Justify = Literal["left", "right"]

# Words that are the same in every table, and their colours where there are any.
STYLES = {
    **dict.fromkeys(("succeeded", "up", "well"), "green"),
    **dict.fromkeys(("failed", "lost", "fault"), "red"),
    **dict.fromkeys(("cancelled", "paused", "draining", "stopped", "warning"), "yellow"),
    **dict.fromkeys(("running", "note"), "cyan"),
}

# A column narrower than this, or than its longest word, is not read any more: the rows are then written one below the other.
NARROWEST = 12


class Screen:
    """Standard output, with errors on standard error."""

    def __init__(self) -> None:
        is_dumb = os.environ.get("TERM") in ("dumb", "unknown")
        width, height = shutil.get_terminal_size() if is_dumb else (None, None)  # rich takes each of these for 80 by 25
        self.console = Console(markup=False, highlight=False, emoji=False, width=width, height=height)
        self.is_terminal = self.console.is_terminal
        self.can_move = self.is_terminal and not is_dumb  # and what it shows can be written over

    @property
    def width(self) -> int:
        """Of a terminal; of a file or a pipe as wide as it takes."""
        return self.console.width if self.is_terminal else 100

    def say(self, text: str = "", style: str | None = None) -> None:
        if self.is_terminal:
            self.console.print(plain(text), style=style)
        else:
            print(plain(text), flush=True)

    def hanging(self, text: str, margin: int, style: str | None = None) -> None:
        """A paragraph whose later lines, where a terminal needs any, begin below its first one's margin."""
        below = " " * margin
        wrapped = textwrap.wrap(text, self.width, subsequent_indent=below, break_long_words=False, break_on_hyphens=False)
        self.say("\n".join(wrapped) if self.is_terminal else text, style)

    def json(self, document: Any) -> None:
        print(json.dumps(document, indent=2, ensure_ascii=False))

    def json_line(self, document: Any) -> None:
        """One of several documents, each on a line of its own as it comes."""
        print(json.dumps(document, ensure_ascii=False), flush=True)

    def pairs(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """Names, each with what it is; without those that are nothing."""
        self.say(title, style="bold")
        for line in paired(rows, self.width if self.is_terminal else None):
            self.console.print(line) if self.is_terminal else self.say(line.plain)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Words: aligned to the left; what is too long for the terminal is wrapped, or written row by row."""
        if self.is_terminal:
            self.console.print(Text(plain(title), style="bold"), words_of(columns, rows, self.width), sep="\n")
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
            table = _table(headings, [[row[index] for index in part] for row in rows], self.width)
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


def words_of(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Any:
    """What a terminal shows of a table of words; where it is too narrow for one, row after row. A renderable of rich."""
    from rich.console import Group

    if _least(columns, rows) <= width:
        return _table([(column, "left") for column in columns], rows, width)
    names = [column or "·" for column in columns]
    return Group(*(line for row in rows for line in (*paired(list(zip(names, row, strict=True)), width), Text())))


def paired(rows: Sequence[tuple[str, str]], width: int | None) -> Iterator[Text]:
    """A line for each that is something; what is too long goes on below where it began."""
    there = [(name, plain(value)) for name, value in rows if value]
    margin = max((len(name) for name, _ in there), default=0) + 4
    for name, value in there:
        lines = value.split("\n") if width is None else _wrapped(value, max(width - margin, NARROWEST))
        for index, line in enumerate(lines):
            yield Text(f"  {name if index == 0 else '':{margin - 2}}").append(line, STYLES.get(value))


def _wrapped(text: str, width: int) -> list[str]:
    return [part for line in text.split("\n") for part in textwrap.wrap(line, width) or [""]]


def _table(headings: Sequence[tuple[str, Justify]], rows: Sequence[Sequence[str]], width: int) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    is_short = max((len(row[0]) for row in rows), default=0) < width - NARROWEST
    for index, (heading, justify) in enumerate(headings):
        table.add_column(Text(heading), justify=justify, no_wrap=index == 0 and is_short, overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(cell), style=STYLES.get(cell, "")) for cell in row))
    return table


def _least(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """The narrowest that the table can be read at: the first column as it is, the others by their longest word."""

    def of(index: int) -> int:
        cells = [columns[index], *(row[index] for row in rows)]
        if index == 0:
            return max(map(len, cells))
        words = max((len(word) for cell in cells for word in cell.split()), default=0)
        return max(min(max(map(len, cells)), NARROWEST), words)

    return sum(of(index) + 3 for index in range(len(columns))) + 2


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


def give_up(text: str, code: int = ExitCode.FAILED) -> NoReturn:
    complain(text)
    raise typer.Exit(int(code))


def plain(text: str) -> str:
    """Without control characters, save for the ends of lines and tabs: a job's name may hold anything."""
    return "".join(character if character.isprintable() or character in "\n\t" else "�" for character in text)
