import json
from pathlib import Path

import pytest

from service.cli.submit import changed
from tests.service.cli.conftest import Finebits
from tests.service.fake_service import Answer, FakeService, a_job, an_event, problem

YAML = b"# kept as it is\nmodel_name_or_path: tiny\nlearning_rate: 0.001\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "job.yaml"
    file.write_bytes(YAML)
    return file


def test_the_file_is_sent_as_it_is(service: FakeService, finebits: Finebits, file: Path) -> None:
    service.answers("POST", "/jobs", Answer(201, a_job()))
    done = finebits("submit", file)
    assert (done.exit_code, done.stdout) == (0, "job-1 is queued.\n")
    assert service.asked[0].body == YAML
    assert service.asked[0].headers["content-type"] == "application/yaml"


def test_a_change_is_put_in_its_place(service: FakeService, finebits: Finebits, file: Path) -> None:
    service.answers("POST", "/jobs", a_job())
    done = finebits("submit", file, "--set", "learning_rate=2e-3", "--set", "training.lr_scheduler_type=cosine")
    assert done.exit_code == 0
    sent = {"model_name_or_path": "tiny", "learning_rate": 0.002, "training": {"lr_scheduler_type": "cosine"}}
    assert json.loads(service.asked[0].body) == sent
    assert service.asked[0].headers["content-type"] == "application/json"


def test_changes_reach_into_lists_and_keep_json_s_types() -> None:
    document = {"steps": [{"name": "a"}, {"name": "b"}]}
    changed(document, ["steps.1.training.max_steps=5", "steps.0.name=c", 'name="7"', "labels.a=true", "labels.b=x=y"])
    assert document == {
        "steps": [{"name": "c"}, {"name": "b", "training": {"max_steps": 5}}],
        "name": "7",
        "labels": {"a": True, "b": "x=y"},
    }


@pytest.mark.parametrize("change", ["learning_rate", "=3", "model_name_or_path.x=1", "model_name_or_path.x.y=1"])
def test_a_change_that_fits_nowhere_is_said_and_nothing_is_sent(
    service: FakeService, finebits: Finebits, file: Path, change: str
) -> None:
    done = finebits("submit", file, "--set", change)
    assert done.exit_code == 2
    assert f"--set {change}: " in done.stderr
    assert service.asked == []


def test_a_file_that_is_no_yaml_cannot_be_changed(finebits: Finebits, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("a: [")
    done = finebits("submit", tmp_path / "job.yaml", "--set", "a=1")
    assert done.exit_code == 2
    assert "job.yaml cannot be read" in done.stderr


def test_a_dry_run_prints_what_would_run_and_watches_nothing(service: FakeService, finebits: Finebits, file: Path) -> None:
    service.answers("POST", "/jobs", {"steps": [{"name": "sft"}]})
    done = finebits("submit", file, "--dry-run", "--watch", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"steps": [{"name": "sft"}]}
    assert service.asked[0].query == "dry_run=true"


def test_a_dry_run_is_told_with_its_memory_and_what_is_not_known(service: FakeService, finebits: Finebits, file: Path) -> None:
    numbers = {"rows": 600, "training_rows": 540, "validation_rows": 60, "updates": None, "parameters": 378_720}
    step = {"name": "sft", "do": "train", "stage": "sft", "finetuning_type": "lora", "trainable_parameters": 58_368, **numbers}
    step |= {"memory": {"weights": 1_500_000_000, "beside": 0, "peak": 2_000_000_000}, "why_unknown": {"updates": "It streams."}}
    notice = {"pointer": "/model/use_fast_tokenizer", "detail": "They are always fast."}
    service.answers("POST", "/jobs", {"steps": [step], "notices": [notice], "resolved": {}})
    lines = [" ".join(line.split()) for line in finebits("submit", file, "--dry-run").stdout.splitlines()]
    assert lines[2] == "sft sft lora 600 540 60 ? 378,720 58,368 2 GB"
    assert lines[4:] == [
        "weights 1.5 GB",
        "peak 2 GB",
        "sft: updates is not known. It streams.",
        "/model/use_fast_tokenizer: They are always fast.",
    ]


def test_json_is_the_job(service: FakeService, finebits: Finebits, file: Path) -> None:
    service.answers("POST", "/jobs", a_job(name="größe"))
    assert json.loads(finebits("submit", file, "--json").stdout) == a_job(name="größe")


def test_a_refusal_shows_each_place(service: FakeService, finebits: Finebits, file: Path) -> None:
    errors = [
        {"pointer": "/training/lr", "detail": "There is no such argument."},
        {"pointer": "", "detail": "A job is an object."},
    ]
    service.answers(
        "POST",
        "/jobs",
        problem(
            422, title="Invalid job", detail="/training/lr: There is no such argument. And 1 more; see errors.", errors=errors
        ),
    )
    done = finebits("submit", file)
    assert done.exit_code == 3
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "Invalid job",
        "  /training/lr: There is no such argument.",
        "  /: A job is an object.",
    ]


def test_without_a_key_the_refusal_says_where_it_goes(service: FakeService, finebits: Finebits, file: Path) -> None:
    service.answers("POST", "/jobs", problem(401, title="A key is needed"))
    assert "FINEBITS_API_KEY" in finebits("submit", file).stderr
    service.answers("POST", "/jobs", a_job())
    finebits("--api-key", "sixteen-characters", "submit", file)
    assert service.asked[-1].headers["authorization"] == "Bearer sixteen-characters"


def test_with_watch_the_job_s_end_is_the_command_s(service: FakeService, finebits: Finebits, file: Path) -> None:
    service.answers("POST", "/jobs", a_job())
    service.answers("GET", "/jobs/job-1", a_job(state="failed", reason="bad_row", sentence="Row 7 is empty."))
    service.answers("GET", "/jobs/job-1/events", {"data": [an_event(1)], "has_more": False, "next_after": 1})
    done = finebits("submit", file, "--watch")
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "job-1 is queued.",
        "10:00:01  event 1",
        "job-1 failed (bad_row: Row 7 is empty.)",
    ]


def test_where_nothing_listens_the_sentence_says_how_to_start_it(finebits: Finebits, file: Path) -> None:
    done = finebits("--url", "http://127.0.0.1:9", "submit", file)
    assert done.exit_code == 4
    assert done.stderr == "No Finebits answers at http://127.0.0.1:9; start one with `make up`.\n"
