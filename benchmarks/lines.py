"""How many lines each of the doors for people has, and its tests: the dashboard, the command line, the documentation.

python benchmarks/lines.py

Of files that git has, in this checkout; empty lines count, what others wrote (service/web/vendor) and pictures do not. Of the
documentation those that code writes stand apart.
"""

import subprocess
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

DOORS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "dashboard": (("service/web", "service/api/dashboard.py"), ("tests/web", "tests/service/api/test_dashboard.py")),
    "command line": (("service/cli", "service/checkup"), ("tests/service/cli", "tests/service/checkup")),
    "documentation": (("README.md", "CONTRIBUTING.md", "docs"), ("tests/docs",)),
}
WRITTEN = ("docs/reference/cli.md", "docs/reference/measures.md", "docs/reference/settings.md")
TEXT = (".py", ".js", ".css", ".html", ".md")


def main() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    print("| door | lines | of its tests |\n|---|---|---|")
    for name, (its, tests) in DOORS.items():
        print(f"| {name} | {lines(within(files, its)):,} | {lines(within(files, tests)):,} |")
    print(f"| written by code, of the documentation | {lines(within(files, WRITTEN, also=True)):,} | |")


def within(files: Iterable[str], places: tuple[str, ...], also: bool = False) -> list[str]:
    """Those in the places, without what code writes unless that is meant."""
    here = [file for file in files if any(file == place or file.startswith(f"{place}/") for place in places)]
    return [file for file in here if file.endswith(TEXT) and "/vendor/" not in file and (also or file not in WRITTEN)]


def lines(files: Iterable[str]) -> int:
    return sum((ROOT / file).read_text(encoding="utf-8").count("\n") for file in files)


if __name__ == "__main__":
    main()
