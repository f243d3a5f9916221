"""Every example is a job that the service would take as it is, and says what it would do."""

from typing import Any

import pytest

from service.app import create_app
from service.library.memory import Memory
from tests.examples.test_jobs import EXAMPLES, FILES
from tests.service.api.door import Door

YAML = {"Content-Type": "application/yaml"}
PARTS = {"peak", "least", *Memory.__dataclass_fields__}


@pytest.fixture
def opened(settings: Any, plain_door: Any, bell: Any) -> Any:
    """As the examples' own comments say that it is to be begun."""
    own = {"models_root": EXAMPLES / "models", "datasets_root": EXAMPLES, "reward_hosts": "127.0.0.1:8900"}
    with Door(create_app(settings.model_copy(update=own), plain_door.app.state.database, bell)) as door:
        yield door


def test_an_example_passes_a_dry_run(opened: Any) -> None:
    for file in FILES:
        headers = YAML if file.suffix == ".yaml" else {"Content-Type": "application/json"}
        answer = opened.post("/jobs?dry_run=true", content=file.read_bytes(), headers=headers)
        assert answer.status_code == 200, (file.name, answer.text)
        for step in answer.json()["steps"]:
            assert step["do"] != "train" or step["memory"].keys() == PARTS, (file.name, step["why_unknown"])
            assert step["do"] != "evaluate" or step["measured_rows"] > 0
    assert len(FILES) > 10
    assert opened.get("/jobs").json()["data"] == [], "a dry run stores nothing"
