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
from service.specs.tokens import in_group
from worker import ranks
from worker.data.hub import Hub
from worker.data.load import Places
from worker.failures import JobFailure
from worker.measured import asked_model, base_name, exported_checkpoint, makers, measured_models
from worker.models.start import Start
from worker.places import place_of, start_of
from worker.run import Run
from worker.stages.bringing import bring
from worker.stages.evaluating import evaluate
from worker.stages.exporting import export
from worker.stages.generating import generate
from worker.stages.inspecting import inspect
from worker.stages.measuring_later import measure_later
from worker.stages.plots import plot_loss
from worker.stages.ppo import ppo
from worker.stages.predicting import predict
from worker.stages.preference import preference
from worker.stages.pretraining import pretraining
from worker.stages.reward import reward
from worker.stages.step import BesideIt, StepWork
from worker.stages.supervised import supervised
from worker.stages.training import trainer_state
from worker.trackers import Followed, following, named_by
from worker.uploaded import bring_uploaded
from worker.work import Work

STAGES: dict[str, Callable[[StepWork, Run], Path]] = {
    "pt": pretraining,
    "sft": supervised,
    "rm": reward,
    "ppo": ppo,
    "dpo": preference,
}

# Steps that train nothing: (their folder, or what they made, and what a summary says of it).
OTHERS: dict[str, Callable[[StepWork, Run], tuple[Path, dict[str, Any]]]] = {
    "measure": measure_later,
    "inspect": inspect,
    "predict": predict,
    "generate": generate,
    "export": export,
    "evaluate": evaluate,
}

# What a new step's progress must not keep of the step before.
NOTHING_YET = dict.fromkeys(("global_step", "max_steps", "epoch", "loss", "tokens_per_second", "eta_seconds"))


def run(work: Work, run: Run) -> None:
    """Does every step that is not done. Raises JobFailure, or Stopped when the run was asked to stop."""
    job = work.resolved
    if work.tokens is None:
        sentence = "The job's token was kept with another FINEBITS_SECRET_KEY than this worker has."
        raise JobFailure(Reason.UNREADABLE_TOKEN, sentence)
    use_cpu = _use_cpu(job, work.stand_ins)
    outputs = {name: Path(work.artifacts_root, path) for name, path in work.outputs.items()}
    for position, step in enumerate(job.steps):
        if step.name in outputs:
            continue
        run.check()
        run.progress(step=step.name, position=position + 1, steps=len(job.steps), phase="loading", **NOTHING_YET)
        run.event("step_started", f"Step {step.name} ({position + 1} of {len(job.steps)}) begins.", step=step.name)
        step_work = _step_work(work, run, job, step, outputs, use_cpu)
        if step.do != "train":
            with run.traces.span("step", step=step.name, does=step.do):
                # by one rank, whose findings are everyone's
                made, summary = ranks.agreed(partial(OTHERS[step.do], step_work, run))
            run.step_finished(position, step.name, made, summary)
            outputs[step.name] = made
            continue
        about = {"step": step.name, "stage": step.finetuning.stage}
        trackers = named_by(step) if ranks.is_first() else []
        with run.traces.span("step", **about), following(run, _followed(work, step), trackers):
            last = STAGES[step.finetuning.stage](step_work, run)
        if step.finetuning.plot_loss and ranks.is_first():
            unit = "nats/token" if step.finetuning.stage in ("pt", "sft") else None
            plot_loss(run, step.name, last, work.folder / step.name, unit)
        state = trainer_state(last)
        output = ranks.agreed(partial(_kept, work, run, step, last))
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
    first = job.steps[0]
    # a place on a hub is looked up once, and not twice at two commits
    place = cache(partial(place_of, work, run, step, outputs))
    model, start = _begins_with(work, run, job, step, outputs, place)
    job_model, job_start = model, start
    if step is not first:
        first_place = cache(partial(place_of, work, run, first, outputs))
        job_model, job_start = _begins_with(work, run, job, first, outputs, first_place)
    return StepWork(
        step=step,
        job_id=work.job_id,
        folder=work.folder / step.name,
        model=model,
        start=start,
        job_step=first,
        job_model=job_model,
        job_start=job_start,
        artifacts_root=Path(work.artifacts_root),
        places=_places(work, run, step),
        use_cpu=use_cpu,
        saved=work.saved(step.name),
        measured=work.measurements.get(step.name, []),
        checkpoint_bytes=work.checkpoint_bytes.get(step.name, 0),
        kept_free_bytes=work.kept_free_bytes,
        companions=_companions(job, step, place),
        reward_hosts=hosts_of(work.reward_hosts),
        to_measure=measured_models(work, run, job, step, outputs, start),
        to_ask=asked_model(work, run, job, step, outputs, start),
        messages=job.messages or (),
        exports_root=Path(work.exports_root),
        hub_push=work.hub and work.hub_push,
        hub_token=work.token(step.name, "hf_hub_token"),
        reward_api_key=work.token(step.name, "reward_api_key"),
        base_name=base_name(work, job, step, outputs) if step.do == "export" else "",
        made_by=makers(work, job, step, outputs) if step.do == "export" else (),
    )


def _followed(work: Work, step: ResolvedStep) -> Followed:
    arguments = step.model_dump(mode="json", exclude={group: in_group(group) for group in ("model", "finetuning")})
    return Followed(
        work.job_id,
        work.attempt,
        step.name,
        arguments,
        work.folder / step.name / "trackers",
        work.mlflow_url,
        work.wandb_url,
        step.training.project,
        step.training.run_name,
        step.training.run_tags,
        step.training.wandb_entity,
    )


def _begins_with(
    work: Work, run: Run, job: ResolvedJob, step: ResolvedStep, outputs: dict[str, Path], place: Callable[[str], Path]
) -> tuple[Path, Start]:
    """Where the step's tokenizer lies, and its model in its parts."""
    checkpoint = exported_checkpoint(work, run, job, step, outputs)
    if checkpoint is not None:
        start, tokenizer_at = checkpoint.start()
        return tokenizer_at, start
    return place(step.model.model_name_or_path), start_of(lineages(job)[step.name], place)


def _companions(job: ResolvedJob, step: ResolvedStep, place: Callable[[str], Path]) -> dict[str, BesideIt]:
    steps, known = {step.name: step for step in job.steps}, lineages(job)
    found: dict[str, BesideIt] = {}
    for beside in companions(step):
        start = start_of(lineage(beside.step, steps, known), place)
        found[beside.role] = BesideIt(place(beside.step.model.model_name_or_path), start, beside.step)
    return found


def _places(work: Work, run: Run, step: ResolvedStep) -> Places:
    cache_root = Path(work.cache_root)
    tokens = work.token(step.name, "hf_hub_token"), work.token(step.name, "ms_hub_token")
    hub = Hub(cache_root / "hub", work.modelscope, *tokens) if work.hub else None
    return Places(Path(work.datasets_root), cache_root, hub, bring_uploaded(work, run, step))


def _use_cpu(job: ResolvedJob, stand_ins: bool) -> bool:
    wants_gpu = (bool(job.resources.gpus) and not stand_ins) or any(step.training.fp16 for step in job.steps)
    has_gpu = torch.cuda.is_available() and job.resources.gpus != 0
    if wants_gpu and not has_gpu:
        why = "resources.gpus is 0" if job.resources.gpus == 0 else "this worker has none"
        raise JobFailure(Reason.NO_GPU, f"The job needs a GPU (resources.gpus or training.fp16), and {why}.")
    return not has_gpu
