from typing import Any

import pytest

from service.library.check import Roots, check
from service.specs.read import read_job
from service.specs.refusals import SpecRefused
from tests.service import shelves
from tests.specs.job_documents import a_flat_job, a_job

SAID = {
    "a name": ("wandb", ("wandb",)),
    "names with commas": ("tensorboard, mlflow", ("tensorboard", "mlflow")),
    "a list": (["mlflow", "mlflow", "wandb"], ("mlflow", "wandb")),
    "none": ("none", ()),
    "none in a list": (["none"], ()),
    "nothing in a list": ([], ()),
    "null": (None, ()),
}


@pytest.mark.parametrize("case", SAID)
def test_report_to_is_read_as_transformers_reads_it(case: str) -> None:
    given, read = SAID[case]
    for document in (a_job(training={"report_to": given}), a_flat_job(report_to=given)):
        assert read_job(document).resolved.steps[0].training.report_to == read


@pytest.mark.parametrize("given", ["all", "comet_ml", ["wandb", "none"], 1, {"to": "wandb"}])
def test_a_tracker_that_there_is_not_is_refused(given: Any) -> None:
    with pytest.raises(SpecRefused) as refused:
        read_job(a_job(training={"report_to": given}))
    assert refused.value.refusals[0].place[:2] == ("training", "report_to")


def test_ppo_s_logger_has_no_effect_elsewhere() -> None:
    with pytest.raises(SpecRefused) as refused:
        read_job(a_job(finetuning={"ppo_logger": "wandb"}))
    [refusal] = refused.value.refusals
    assert (refusal.pointer, "only where stage is ppo" in refusal.detail) == ("/finetuning/ppo_logger", True)


def test_mlflow_needs_the_operator_s_server(tmp_path: Any) -> None:
    here = shelves.stocked(tmp_path)
    document = a_job(training={"report_to": ["wandb", "mlflow"]})
    with pytest.raises(SpecRefused) as refused:
        read_job(document, lambda spec, resolved: check(here, spec, resolved))
    [refusal] = refused.value.refusals
    assert (refusal.pointer, "FINEBITS_MLFLOW_URL" in refusal.detail) == ("/training/report_to", True)
    there = Roots(here.models, here.datasets, mlflow=True)
    read_job(document, lambda spec, resolved: check(there, spec, resolved))
