"""What the README shows in Python is what Python answers, and its commands run, as CONTRIBUTING's do."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from service.embedded import running
from service.settings import Settings
from tests.containers import ROOT
from tests.docs.blocks import blocks
from tests.docs.test_pages import run
from tests.test_makefile import asked, folder, make

README = Path(__file__).parents[2] / "README.md"
__all__ = ["folder"]  # a fixture


def test_the_readmes_measures_are_what_it_says() -> None:
    [code] = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    head, _, calls = code.partition("\n\n")
    exec(head, names)
    answers = [eval(line.partition("#")[0], names) for line in calls.strip().splitlines()]
    said = [float(found[0]) for line in calls.splitlines() if (found := re.findall(r"# (\d\.\d+)", line))]
    assert [answers[0], answers[2]] == pytest.approx(said, abs=5e-4)
    assert answers[1] > 1.8  # the plug-in estimate, which is too low


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_what_make_is_asked_on_a_page_is_done(folder: Path, page: str) -> None:
    """By programs that note what they are asked: each line does something, and nothing fails."""
    lines = [line.split() for block in blocks(page, "sh") for line in block.text.splitlines() if line.startswith("make ")]
    assert len(lines) >= 5
    (folder / "benchmarks").mkdir()
    (folder / "benchmarks" / "one.py").touch()
    for line in lines:
        done = make(folder, line[1])
        assert done.returncode == 0, done.stderr
        assert asked(folder), line[1]


@pytest.mark.long
def test_the_readmes_commands(tmp_path: Path) -> None:
    """Those beside make: the job of the example is made shorter, since the whole of it is trained by tests/examples."""
    post, look = (block.text for block in blocks("README.md", "sh") if "make " not in block.text)
    shorter: dict[str, Any] = json.loads((ROOT / "examples" / "sft-lora.json").read_text())
    shorter["training"] |= {"max_steps": 4}
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "sft-lora.json").write_text(json.dumps(shorter))
    settings = Settings(home=tmp_path / "h", models_root=ROOT / "examples" / "models", datasets_root=ROOT / "examples", port=0)
    with running(settings) as service, service.client() as client:
        first = json.loads(run(service, tmp_path, [post]))["id"]
        (tmp_path / "again").mkdir()
        (tmp_path / "again" / "examples").symlink_to(tmp_path / "examples")
        look = re.sub(r"finebits doctor.*", "finebits doctor || test $? -eq 6", look).replace("metrics JOB", f"metrics {first}")
        said = run(service, tmp_path / "again", [look])
        assert [job["state"] for job in client.jobs()] == ["succeeded", "succeeded"]
    for words in (first, "succeeded", "cross_entropy", "version: Finebits"):
        assert words in said
