"""What stands on the pages that people read: README, CONTRIBUTING and docs/, but for what is written when docs are built."""

import re
from dataclasses import dataclass

from tests.containers import ROOT

# Written when the documentation is built; where it was, they lie beside the others.
BUILT = frozenset({"arguments", "http", "reasons", "templates"})


@dataclass(frozen=True)
class Block:
    """A fenced block: what its first line calls it, and what stands in it."""

    page: str
    language: str
    text: str


def pages() -> dict[str, str]:
    """The text of each, by its place in the repository."""
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    files += sorted((ROOT / "examples").rglob("README.md"))
    return {
        str(file.relative_to(ROOT)): file.read_text(encoding="utf-8")
        for file in files
        if "_build" not in file.parts and not (file.parent.name == "reference" and file.stem in BUILT)
    }


def blocks(page: str, language: str | None = None) -> list[Block]:
    """Those of a page in their order, of one language where that is said."""
    found = re.findall(r"^( *)```([^\n]*)\n(.*?)^\1```$", pages()[page], re.DOTALL | re.MULTILINE)
    return [Block(page, word.strip(), text) for _, word, text in found if language in (None, word.strip())]


def spans(page: str) -> list[str]:
    """What stands between single backticks outside of the blocks."""
    prose = re.sub(r"^( *)```.*?^\1```$", "", pages()[page], flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose)]
