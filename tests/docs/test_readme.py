"""What the README shows in Python is what Python answers."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


def test_the_readmes_measures_are_what_it_says() -> None:
    [code] = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    head, _, calls = code.partition("\n\n")
    exec(head, names)
    answers = [eval(line.partition("#")[0], names) for line in calls.strip().splitlines()]
    said = [float(found[0]) for line in calls.splitlines() if (found := re.findall(r"# (\d\.\d+)", line))]
    assert [answers[0], answers[2]] == pytest.approx(said, abs=5e-4)
    assert answers[1] > 1.8  # the plug-in estimate, which is too low
