"""Files that clients uploaded, brought to this host for the step that reads them."""

from pathlib import Path

from service.specs.dataset_info import DatasetEntry
from service.specs.job import ResolvedStep
from service.specs.reasons import Reason
from service.storage.errors import Away, Damaged, Missing
from worker.data.load import UploadedFile
from worker.failures import JobFailure
from worker.run import Run
from worker.work import Work


def bring_uploaded(work: Work, run: Run, step: ResolvedStep) -> dict[str, UploadedFile]:
    """Those that the step names, by their ids. One that is kept no longer is not among them."""
    measures = step.measures
    names = (step.data.dataset, measures.dataset, measures.anchor, None if measures.task is None else (measures.task,))
    wanted = {name for group in names for name in group or () if name in work.files}
    return {name: UploadedFile(_folder(work, run, name), _entry(work, name)) for name in sorted(wanted)}


def _folder(work: Work, run: Run, name: str) -> Path:
    file = work.files[name]
    if run.deliveries is None:
        return Path(work.artifacts_root, file["path"]).parent
    try:
        return run.deliveries.fetch_file(file["path"], file["size"], file["sha256"]).parent
    except (Missing, Damaged) as error:
        raise JobFailure(Reason.MISSING_DATA, f"The uploaded file {name} is not whole in the artifact store: {error}") from None
    except Away as error:
        run.check()
        raise JobFailure(Reason.ARTIFACT_STORE, str(error)) from error


def _entry(work: Work, name: str) -> DatasetEntry:
    return DatasetEntry.model_validate(work.files[name]["entry"])
