import io
import json
from typing import Any

import pytest
from rich.console import Console

from service.cli.measured import number, show_measured
from service.cli.screen import Screen
from tests.service.cli.conftest import Finebits
from tests.service.fake_service import FakeService


def a_value(value: float | None, error: float | None = None, unit: str = "bits/token", versus: Any = None) -> dict[str, Any]:
    return {"value": value, "unit": unit, "standard_error": error, "n_documents": 80, "n_tokens": 9600, "versus_base": versus}


def rows() -> list[dict[str, Any]]:
    drop = {"value": -7.5, "standard_error": 0.0213, "interval": [-7.55, -7.45]}
    return [
        {
            "step": "pretrain",
            "checkpoint": "base",
            "split": "validation",
            "measures": {"perplexity": a_value(1010, 36, "1"), "cross_entropy": a_value(9.98, 0.0512)},
        },
        {
            "step": "pretrain",
            "checkpoint": 43,
            "split": "validation",
            "measures": {
                "cross_entropy": a_value(2.4804, 0.0102, versus=drop),
                "perplexity": a_value(None, None, "1"),
                "kl_to_base": a_value(7.1),
            },
        },
        {"step": "sft", "checkpoint": "base", "split": "train", "measures": {"cross_entropy": a_value(3.0)}},
    ]


def test_each_step_has_a_table_and_its_differences(service: FakeService, finebits: Finebits) -> None:
    service.answers("GET", "/jobs/job-1/metrics", {"job_id": "job-1", "data": rows()})
    assert finebits("metrics", "job-1").stdout.splitlines() == [
        "pretrain, validation: measured, ± standard error",
        "checkpoint  cross_entropy [bits/token]  perplexity  kl_to_base [bits/token]",
        "base                     9.980 ± 0.051   1010 ± 36",
        "43                       2.480 ± 0.010           –                      7.1",
        "pretrain, validation: difference to the base",
        "checkpoint  cross_entropy [bits/token]",
        "43                      -7.500 ± 0.021",
        "sft, train: measured, ± standard error",
        "checkpoint  cross_entropy [bits/token]",
        "base                                 3",
    ]


def test_beside_the_headlines_it_is_said_how_many_there_are(service: FakeService, finebits: Finebits) -> None:
    measures = {"entropy": a_value(1.5), "brier_score": a_value(0.5, unit="1"), "varentropy": a_value(2.5)}
    row = {"step": "sft", "checkpoint": "base", "split": "validation", "measures": measures}
    service.answers("GET", "/jobs/job-1/metrics", {"job_id": "job-1", "data": [row]})
    assert finebits("metrics", "job-1").stdout.splitlines() == [
        "sft, validation: measured, ± standard error",
        "checkpoint  entropy [bits/token]",
        "base                         1.5",
        "2 more: --measure NAME shows one, --json all.",
    ]
    row["measures"] = {"brier_score": a_value(0.5, unit="1")}
    service.answers("GET", "/jobs/job-1/metrics", {"job_id": "job-1", "data": [row]})
    assert "brier_score" in finebits("metrics", "job-1", "--measure", "brier_score").stdout


def test_json_has_everything(service: FakeService, finebits: Finebits) -> None:
    service.answers("GET", "/jobs/job-1/metrics", {"job_id": "job-1", "data": rows()})
    assert json.loads(finebits("metrics", "job-1", "--json", "--measure", "cross_entropy").stdout) == rows()
    assert service.asked[0].query == "measure=cross_entropy"


def test_before_the_first_checkpoint_there_is_a_sentence(service: FakeService, finebits: Finebits) -> None:
    service.answers("GET", "/jobs/job-1/metrics", {"job_id": "job-1", "data": []})
    assert finebits("metrics", "job-1").stdout == "Nothing has been measured yet.\n"


@pytest.mark.parametrize("width", [50, 80, 160])
def test_on_a_terminal_nothing_is_cut_however_narrow_it_is(width: int) -> None:
    screen = Screen()
    screen.console, screen.is_terminal = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None), True
    show_measured(screen, rows())  # type: ignore[arg-type]
    assert isinstance(screen.console.file, io.StringIO)
    shown = screen.console.file.getvalue()
    assert "…" not in shown
    for text in ("cross_entropy", "kl_to_base", "[bits/token]", "2.480 ± 0.010", "-7.500 ± 0.021", "1010 ± 36"):
        assert text in shown
    assert shown.count("pretrain, validation: measured") == (2 if width == 50 else 1)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (2.48042, 0.0123, "2.480 ± 0.012"),
        (1010.4, 36.2, "1010 ± 36"),
        (0.5, 1.2e-9, "0.5 ± 1e-09"),
        (4.39e-08, 5.1e-09, "4.4e-08 ± 5e-09"),
        (12345.678, 1234.5, "12346 ± 1234"),
        (7.1, None, "7.1"),
        (0.0, 0.0, "0"),
        (None, None, "–"),
        (None, 0.1, "–"),
        (-0.25, 0.5, "-0.25 ± 0.50"),
    ],
)
def test_a_number_has_two_digits_of_its_error(value: float | None, error: float | None, text: str) -> None:
    assert number(value, error) == text


def test_a_difference_has_its_sign() -> None:
    assert number(0.25, 0.5, "+") == "+0.25 ± 0.50"
    assert number(0.25, None, "+") == "+0.25"


def test_of_an_evaluation_the_subjects_are_not_all_columns(service: FakeService, finebits: Finebits) -> None:
    measures = {
        name: a_value(0.5, 0.1, "1") for name in ("accuracy:anatomy", "accuracy", "equivocation", "expected_calibration_error")
    }
    row = {"step": "evaluate", "checkpoint": "base", "split": "test", "measures": measures}
    service.answers("GET", "/jobs/job-1/metrics", {"job_id": "job-1", "data": [row]})
    lines = finebits("metrics", "job-1").stdout.splitlines()
    assert lines[1].split() == ["checkpoint", "accuracy", "expected_calibration_error"]
    assert lines[-1] == "2 more: --measure NAME shows one, --json all."
