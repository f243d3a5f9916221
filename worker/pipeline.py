"""A job's whole work: step after step, each from where earlier attempts left it."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from service.specs.companions import companions
from service.specs.job import ResolvedJob, ResolvedStep
from service.specs.lineage import lineage, lineages
from service.specs.reasons import Reason
from service.specs.reward_api import hosts_of
from worker.data.hub import Hub
from worker.data.load import Places
from worker.failures import JobFailure
from worker.measured import measured_models
from worker.places import place_of, start_of
from worker.run import Run
from worker.stages.bringing import bring
from worker.stages.inspecting import inspect
from worker.stages.measuring_later import measure_later
from worker.stages.plots import plot_loss
from worker.stages.ppo import ppo
from worker.stages.preference import preference
from worker.stages.pretraining import pretraining
from worker.stages.reward import reward
from worker.stages.step import BesideIt, StepWork
from worker.stages.supervised import supervised
from worker.stages.training import trainer_state
from worker.uploaded import bring_uploaded
from worker.work import Work

STAGES: dict[str, Callable[[StepWork, Run], Path]] = {
    "pt": pretraining,
    "sft": supervised,
    "rm": reward,
    "ppo": ppo,
    "dpo": preference,
}

# Steps that train nothing, and so make no checkpoint.
OTHERS: dict[str, Callable[[StepWork, Run], dict[str, Any]]] = {"measure": measure_later, "inspect": inspect}

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
        step_work = _step_work(work, run, job, step, outputs, use_cpu)
        if step.do != "train":
            summary = OTHERS[step.do](step_work, run)
            run.step_finished(position, step.name, step_work.folder, summary)
            continue
        last = STAGES[step.finetuning.stage](step_work, run)
        if step.finetuning.plot_loss:
            unit = "nats/token" if step.finetuning.stage in ("pt", "sft") else None
            plot_loss(run, step.name, last, work.folder / step.name, unit)
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
    place = cache(partial(place_of, work, run, step, outputs))
    first_place = place if step is first else cache(partial(place_of, work, run, first, outputs))
    return StepWork(
        step=step,
        job_id=work.job_id,
        folder=work.folder / step.name,
        model=place(step.model.model_name_or_path),
        start=start_of(known[step.name], place),
        job_step=first,
        job_model=first_place(first.model.model_name_or_path),
        job_start=start_of(known[first.name], first_place),
        artifacts_root=Path(work.artifacts_root),
        places=_places(work, run, step),
        use_cpu=use_cpu,
        saved=work.saved(step.name),
        measured=work.measurements.get(step.name, []),
        checkpoint_bytes=work.checkpoint_bytes.get(step.name, 0),
        kept_free_bytes=work.kept_free_bytes,
        companions=_companions(job, step, place),
        reward_hosts=hosts_of(work.reward_hosts),
        to_measure=measured_models(work, run, job, step, outputs, start_of(known[step.name], place)),
    )


def _companions(job: ResolvedJob, step: ResolvedStep, place: Callable[[str], Path]) -> dict[str, BesideIt]:
    steps, known = {step.name: step for step in job.steps}, lineages(job)
    found: dict[str, BesideIt] = {}
    for beside in companions(step):
        start = start_of(lineage(beside.step, steps, known), place)
        found[beside.role] = BesideIt(place(beside.step.model.model_name_or_path), start, beside.step)
    return found


def _places(work: Work, run: Run, step: ResolvedStep) -> Places:
    cache_root = Path(work.cache_root)
    hub = Hub(cache_root / "hub", work.modelscope, (work.tokens or {}).get(step.name)) if work.hub else None
    return Places(Path(work.datasets_root), cache_root, hub, bring_uploaded(work, run, step))


def _use_cpu(job: ResolvedJob) -> bool:
    wants_gpu = bool(job.resources.gpus) or any(step.training.fp16 for step in job.steps)
    has_gpu = torch.cuda.is_available() and job.resources.gpus != 0
    if wants_gpu and not has_gpu:
        why = "resources.gpus is 0" if job.resources.gpus == 0 else "this worker has none"
        raise JobFailure(Reason.NO_GPU, f"The job needs a GPU (resources.gpus or training.fp16), and {why}.")
    return not has_gpu
