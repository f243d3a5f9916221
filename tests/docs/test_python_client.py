"""The page on the Python client: its blocks are run, one after the other, on a whole service."""

import re
import tempfile
from pathlib import Path
from typing import Any

import pytest

from service.embedded import running
from service.settings import Settings
from tests.containers import ROOT

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "how-to" / "python-client.md"


def test_the_page_on_the_python_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="fb-pc-", ignore_cleanup_errors=True) as home:
        settings = Settings(home=Path(home), models_root=ROOT / "examples" / "models", datasets_root=ROOT / "examples", port=0)
        with running(settings) as service:
            for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
                exec(compile(block.replace("http://127.0.0.1:8765", service.url), PAGE.name, "exec"), names)
            names["finebits"].close()
    said = capsys.readouterr().out
    assert names["job"]["state"] == "succeeded", names["job"]["sentence"]
    numbers = [int(number) for number in re.findall(r"^(\d+) \w+ ", said, re.MULTILINE) if int(number) < 400]
    assert numbers[: numbers.index(max(numbers)) + 1] == list(range(1, max(numbers) + 1))
    assert len(re.findall(r"^(?:base|2|4) \d+\.\d+ ± ", said, re.MULTILINE)) >= 2
    assert (tmp_path / "adapter_model.safetensors").exists()
    assert names["config"] == (tmp_path / "adapter_config.json").read_bytes()[:20]
    assert "done {" in said
    assert "/training/learning_rate" in said
    assert said.endswith("['sft', 'sft']\n")
