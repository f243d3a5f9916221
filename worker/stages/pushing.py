"""How an export is pushed to a hub, once all that is known of it lies beside it."""

from dataclasses import asdict
from pathlib import Path

from service.specs.reasons import Reason
from worker.export.push import push
from worker.failures import JobFailure
from worker.run import Run
from worker.stages.step import StepWork


def pushed(work: StepWork, run: Run, folder: Path) -> dict[str, str] | None:
    """The repository and its commit; None where the step pushes nothing. Raises JobFailure."""
    repository = work.step.model.export_hub_model_id
    if repository is None:
        return None
    if not work.hub_push:
        sentence = "This worker pushes nothing to hubs: its operator has not set FINEBITS_HUB and FINEBITS_HUB_PUSH."
        raise JobFailure(Reason.PUSH_REFUSED, sentence)
    if work.hub_token is None:
        raise JobFailure(Reason.PUSH_REFUSED, "The job brings no hf_hub_token to push with.")

    def progress(sent: int, of: int) -> None:
        run.check()
        run.progress(phase="pushing", pushed_bytes=sent, bytes_to_push=of)

    message = f"Export of the step {work.name} of {work.job_id}"
    done = push(folder, repository, work.hub_token, work.step.export.hub_private, message, progress)
    run.event("pushed", f"{work.name} is pushed to {done.repository}, as commit {done.commit[:8]}.", **asdict(done))
    return asdict(done)
