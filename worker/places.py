"""Where on this host a model lies that a job names: among the operator's, made by an earlier step, or fetched from a hub."""

from collections.abc import Callable
from pathlib import Path

from service.specs.checkpoint_names import CheckpointName, of_earlier
from service.specs.job import ResolvedStep
from service.specs.lineage import Lineage
from service.specs.reasons import Reason
from service.specs.roots import OutsideRoot, inside, is_repository
from worker.failures import JobFailure
from worker.models import hub, modelscope
from worker.models.start import SavedAdapter, Start
from worker.run import Run
from worker.stages.bringing import bring
from worker.work import SavedCheckpoint, Work


def start_of(lineage: Lineage, place: Callable[[str], Path]) -> Start:
    def adapter(name: str) -> SavedAdapter:
        return SavedAdapter(name, place(name))

    return Start(
        whole=place(lineage.whole),
        merged=tuple(map(adapter, lineage.merged)),
        continued=None if lineage.continued is None else adapter(lineage.continued),
    )


def place_of(work: Work, run: Run, step: ResolvedStep, outputs: dict[str, Path], name: str) -> Path:
    """A folder among the operator's models, or what an earlier step or job made, or what is fetched from a hub."""
    if name.startswith("@"):
        _bring_output(work, run, name[1:])
        return outputs[name[1:]]
    if earlier := of_earlier(name):
        return _bring_earlier(work, run, earlier)
    try:
        folder = inside(Path(work.models_root), name)
        if folder.is_dir() or not work.hub or not is_repository(name):
            return folder
        cache_dir = inside(Path(work.cache_root), step.model.cache_dir or "hub")
    except OutsideRoot as error:
        raise JobFailure(Reason.MISSING_MODEL, str(error)) from None
    if work.modelscope:
        return modelscope.fetched(name, step.model.model_revision, cache_dir, work.token(step.name, "ms_hub_token"))
    token = work.token(step.name, "hf_hub_token")
    return hub.fetched(name, step.model.model_revision, cache_dir, token, pinned=work.attempt > 1 or bool(outputs))


def _bring_earlier(work: Work, run: Run, name: CheckpointName) -> Path:
    """A checkpoint of an earlier job, which may have been made on another host."""
    kept = work.earlier.get(str(name.job_id), {}).get("checkpoints", {}).get(name.step, [])
    made = next((SavedCheckpoint(**one) for one in kept if one["global_step"] == name.at), None)
    folder = None if made is None else bring(run, name.step, Path(work.artifacts_root), made)
    if folder is None:
        raise JobFailure(Reason.MISSING_MODEL, f"The checkpoint {str(name)!r} is not there, or is kept no longer.")
    return folder


def _bring_output(work: Work, run: Run, step: str) -> None:
    """What an earlier step made may have been made on another host. What this attempt made is here."""
    made_at = work.outputs.get(step)
    made = next((saved for saved in work.saved(step) if saved.path == made_at), None)
    if run.deliveries is None or made is None:
        return
    if bring(run, step, Path(work.artifacts_root), made) is None:
        raise JobFailure(Reason.ARTIFACT_STORE, f"What step {step} made is no longer whole in the artifact store.")
