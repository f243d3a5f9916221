"""A job's whole work: step after step, each from where earlier attempts left it."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import torch

from service.specs.job import ResolvedJob, ResolvedStep
from service.specs.lineage import Lineage, lineages
from service.specs.reasons import Reason
from service.specs.roots import OutsideRoot, inside, is_repository
from worker.data.hub import Hub
from worker.data.load import Places
from worker.failures import JobFailure
from worker.models import hub
from worker.models.start import SavedAdapter, Start
from worker.run import Run
from worker.stages.bringing import bring
from worker.stages.plots import plot_loss
from worker.stages.pretraining import pretraining
from worker.stages.step import StepWork
from worker.stages.supervised import supervised
from worker.stages.training import trainer_state
from worker.work import Work

STAGES: dict[str, Callable[[StepWork, Run], Path]] = {
    "pt": pretraining,
    "sft": supervised,
}

# What a new step's progress must not keep of the step before.
NOTHING_YET = dict.fromkeys(("global_step", "max_steps", "epoch", "loss", "tokens_per_second", "eta_seconds"))


def run(work: Work, run: Run) -> None:
    """Does every step that is not done. Raises JobFailure, or Stopped when the run was asked to stop."""
    job = work.resolved
    if work.tokens is None:
        sentence = "The job's token was kept with another FINEBITS_SECRET_KEY than this worker has."
        raise JobFailure(Reason.UNREADABLE_TOKEN, sentence)
    use_cpu = _use_cpu(job)
    outputs = {name: Path(work.artifacts_root, path) for name, path in work.outputs.items()}
    for position, step in enumerate(job.steps):
        if step.name in outputs:
            continue
        run.check()
        run.progress(step=step.name, position=position + 1, steps=len(job.steps), phase="loading", **NOTHING_YET)
        run.event("step_started", f"Step {step.name} ({position + 1} of {len(job.steps)}) begins.", step=step.name)
        last = STAGES[step.finetuning.stage](_step_work(work, run, job, step, outputs, use_cpu), run)
        if step.finetuning.plot_loss:
            plot_loss(run, step.name, last, work.folder / step.name)
        state = trainer_state(last)
        output = _kept(work, run, step, last)
        run.step_finished(position, step.name, output, {"updates": state["global_step"], "epochs": state["epoch"]})
        outputs[step.name] = output


def _kept(work: Work, run: Run, step: ResolvedStep, last: Path) -> Path:
    """What the step ends with: its last checkpoint, or the one that its guards kept, if that is still whole."""
    kept = run.kept.get(step.name)
    if kept is None:
        return last
    earlier = {saved.global_step: saved for saved in work.saved(step.name)}
    saved = run.told.get((step.name, kept)) or earlier.get(kept)
    if saved is None:
        run.event("notice", f"{step.name}: checkpoint {kept}, its best, is kept no longer; the step ends with its last.")
        return last
    return bring(run, step.name, Path(work.artifacts_root), saved) or last


def _step_work(work: Work, run: Run, job: ResolvedJob, step: ResolvedStep, outputs: dict[str, Path], use_cpu: bool) -> StepWork:
    known = lineages(job)
    first = job.steps[0]
    # a place on a hub is looked up once, and not twice at two commits
    place = cache(partial(_place, work, run, step, outputs))
    first_place = place if step is first else cache(partial(_place, work, run, first, outputs))
    return StepWork(
        step=step,
        job_id=work.job_id,
        folder=work.folder / step.name,
        model=place(step.model.model_name_or_path),
        start=_start(known[step.name], place),
        job_step=first,
        job_model=first_place(first.model.model_name_or_path),
        job_start=_start(known[first.name], first_place),
        artifacts_root=Path(work.artifacts_root),
        places=_places(work, step),
        use_cpu=use_cpu,
        saved=work.saved(step.name),
        measured=work.measurements.get(step.name, []),
        checkpoint_bytes=work.checkpoint_bytes.get(step.name, 0),
        kept_free_bytes=work.kept_free_bytes,
    )


def _places(work: Work, step: ResolvedStep) -> Places:
    cache_root = Path(work.cache_root)
    hub = Hub(cache_root / "hub", work.modelscope, (work.tokens or {}).get(step.name)) if work.hub else None
    return Places(Path(work.datasets_root), cache_root, hub)


def _start(lineage: Lineage, place: Callable[[str], Path]) -> Start:
    def adapter(name: str) -> SavedAdapter:
        return SavedAdapter(name, place(name))

    return Start(
        whole=place(lineage.whole),
        merged=tuple(map(adapter, lineage.merged)),
        continued=None if lineage.continued is None else adapter(lineage.continued),
    )


def _place(work: Work, run: Run, step: ResolvedStep, outputs: dict[str, Path], name: str) -> Path:
    """A folder among the operator's models, or what an earlier step of this job made, or what is fetched from a hub."""
    if name.startswith("@"):
        _bring_output(work, run, name[1:])
        return outputs[name[1:]]
    try:
        folder = inside(Path(work.models_root), name)
        if folder.is_dir() or not work.hub or not is_repository(name):
            return folder
        cache_dir = inside(Path(work.cache_root), step.model.cache_dir or "hub")
    except OutsideRoot as error:
        raise JobFailure(Reason.MISSING_MODEL, str(error)) from None
    token = (work.tokens or {}).get(step.name)
    return hub.fetched(name, step.model.model_revision, cache_dir, token, pinned=work.attempt > 1 or bool(outputs))


def _bring_output(work: Work, run: Run, step: str) -> None:
    """What an earlier step made may have been made on another host. What this attempt made is here."""
    made_at = work.outputs.get(step)
    made = next((saved for saved in work.saved(step) if saved.path == made_at), None)
    if run.deliveries is None or made is None:
        return
    if bring(run, step, Path(work.artifacts_root), made) is None:
        raise JobFailure(Reason.ARTIFACT_STORE, f"What step {step} made is no longer whole in the artifact store.")


def _use_cpu(job: ResolvedJob) -> bool:
    wants_gpu = bool(job.resources.gpus) or any(step.training.fp16 for step in job.steps)
    has_gpu = torch.cuda.is_available() and job.resources.gpus != 0
    if wants_gpu and not has_gpu:
        why = "resources.gpus is 0" if job.resources.gpus == 0 else "this worker has none"
        raise JobFailure(Reason.NO_GPU, f"The job needs a GPU (resources.gpus or training.fp16), and {why}.")
    return not has_gpu
