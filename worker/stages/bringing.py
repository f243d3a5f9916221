"""A checkpoint of an earlier attempt or step, whole on this host, whichever host made it."""

from pathlib import Path

from service.specs.reasons import Reason
from service.storage.errors import Away, Damaged, Missing
from worker import checkpoints
from worker.failures import JobFailure
from worker.run import Run
from worker.work import SavedCheckpoint


def bring(run: Run, step: str, artifacts_root: Path, saved: SavedCheckpoint) -> Path | None:
    """Its folder; None, with a notice, where nothing whole is left of it. Only what is not whole here is fetched."""
    folder = artifacts_root / saved.path
    if checkpoints.is_complete(folder) or _is_fetched(run, step, saved):
        return folder
    run.event(
        "notice",
        f"{step}: checkpoint {saved.global_step} is no longer whole and is passed over.",
        step=step,
        global_step=saved.global_step,
    )
    return None


def _is_fetched(run: Run, step: str, saved: SavedCheckpoint) -> bool:
    if run.deliveries is None:
        return False
    try:
        run.deliveries.fetch(saved.path, saved.files)
    except (Missing, Damaged) as error:
        print(error)
        return False
    except Away as error:
        run.check()
        raise JobFailure(Reason.ARTIFACT_STORE, str(error)) from error
    run.event(
        "notice",
        f"{step}: checkpoint {saved.global_step} was fetched from the artifact store.",
        step=step,
        global_step=saved.global_step,
    )
    return True
