import pytest

from service.library.space import StepSpace
from service.specs.reasons import Reason
from worker import disk
from worker.failures import JobFailure

GB = 10**9
FOUR_OF_TEN = {"sft": StepSpace(10 * GB, 4)}


@pytest.fixture
def free(monkeypatch):
    """A disk with 50 GB free; `free[0]` is another number."""
    here = [50 * GB]
    monkeypatch.setattr(disk, "free_bytes", lambda folder: here[0])
    return here


def test_what_is_free_is_what_the_system_says(tmp_path):
    import os

    found = os.statvfs(tmp_path)
    assert abs(disk.free_bytes(tmp_path) - found.f_bavail * found.f_frsize) < GB


@pytest.mark.parametrize(("free_gb", "fits"), [(41, True), (40.9, False), (0, False)])
def test_a_job_fits_when_all_its_checkpoints_do_beside_what_is_kept_free(tmp_path, free, free_gb, fits):
    free[0] = int(free_gb * GB)
    lack = disk.Disk(tmp_path, GB).lack(FOUR_OF_TEN)
    assert (lack is None) == fits


def test_what_is_kept_free_is_kept_from_jobs_of_unknown_size_too(tmp_path, free):
    free[0] = GB - 1
    assert disk.Disk(tmp_path, GB).lack({}) is not None
    free[0] = GB
    assert disk.Disk(tmp_path, GB).lack({}) is None


def test_the_sentence_has_what_is_needed_and_what_is_there(tmp_path, free):
    free[0] = 30 * GB
    assert disk.Disk(tmp_path, GB).lack(FOUR_OF_TEN) == (
        "Held: its 4 checkpoints would take 40.0 GB. 30.0 GB are free on the disk of the artifacts, and 1.0 GB are kept free. "
        "It begins when there is room."
    )


def test_room_that_is_promised_to_a_job_that_runs_is_not_another_s(tmp_path, free):
    shared = disk.Disk(tmp_path, GB)
    free[0] = 45 * GB
    assert shared.lack(FOUR_OF_TEN) is None
    shared.promise("job-1", tmp_path / "job-1", FOUR_OF_TEN)
    assert "40.0 GB are for jobs that run" in shared.lack({"sft": StepSpace(10 * GB, 1)})
    shared.done("job-1")
    assert shared.lack({"sft": StepSpace(10 * GB, 1)}) is None


def test_a_promise_shrinks_as_it_is_written(tmp_path, free):
    shared = disk.Disk(tmp_path, 0)
    shared.promise("job-1", tmp_path / "job-1", {"sft": StepSpace(3000, 1)})
    free[0] = 3500
    assert shared.lack({"sft": StepSpace(1000, 1)}) is not None
    (tmp_path / "job-1" / "sft").mkdir(parents=True)
    (tmp_path / "job-1" / "sft" / "weights").write_bytes(b"0" * 2000)
    assert shared.lack({"sft": StepSpace(1000, 1)}) is None


def test_a_checkpoint_that_would_not_fit_is_refused_with_the_numbers(tmp_path, free):
    disk.require(tmp_path, 49 * GB, GB)
    with pytest.raises(JobFailure) as refused:
        disk.require(tmp_path, 49 * GB + 1, GB)
    assert refused.value.reason == Reason.OUT_OF_DISK
    assert "would take 49.0 GB, and 50.0 GB are free, of which 1.0 GB are kept so" in refused.value.sentence
    assert refused.value.where == {"free_bytes": 50 * GB, "checkpoint_bytes": 49 * GB + 1}
