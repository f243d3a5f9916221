"""Which models a step measures beside its base: checkpoints by their names, or its own model where none is named."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from service.specs.checkpoint_names import CheckpointName, exported_by
from service.specs.job import ResolvedJob, ResolvedStep
from service.specs.lineage import lineages, origin
from service.specs.reasons import Reason
from service.specs.tokens import FIELDS, key
from worker.failures import JobFailure
from worker.models.start import SavedAdapter, Start
from worker.places import place_of, start_of
from worker.run import Run
from worker.stages.bringing import bring
from worker.stages.step import ToMeasure
from worker.work import SavedCheckpoint, Work


@dataclass(frozen=True)
class _Maker:
    """The job that made a checkpoint, as this attempt knows it."""

    id: str
    work: Work
    job: ResolvedJob
    outputs: dict[str, Path]


def measured_models(
    work: Work, run: Run, job: ResolvedJob, step: ResolvedStep, outputs: dict[str, Path], own: Start
) -> tuple[ToMeasure, ...]:
    """In the order in which they are named; nothing is fetched before it is its turn."""
    if step.do not in ("measure", "evaluate"):
        return ()
    names = [name for name in map(CheckpointName.read, step.measures.checkpoints or ()) if name is not None]
    if names:
        return tuple(_checkpoint(run, _maker(work, job, outputs, name, step), name) for name in names)
    return tuple(_own_model(work, run, job, step, outputs, own))


def exported_checkpoint(work: Work, run: Run, job: ResolvedJob, step: ResolvedStep, outputs: dict[str, Path]) -> ToMeasure | None:
    """The checkpoint that a step exports by its name; None where its model is one like any step's."""
    name = exported_by(step)
    return None if name is None else _checkpoint(run, _maker(work, job, outputs, name, step), name)


def base_name(work: Work, job: ResolvedJob, step: ResolvedStep, outputs: dict[str, Path]) -> str:
    """What the model that a step exports goes back to, in the models folder or on a hub."""
    name = exported_by(step)
    if name is None:
        known = lineages(job)
        return origin(known[step.name].whole, known)
    of = _maker(work, job, outputs, name, step).job
    known = lineages(of)
    return origin(known[name.step].whole, known)


def makers(work: Work, job: ResolvedJob, step: ResolvedStep, outputs: dict[str, Path]) -> tuple[tuple[str, ResolvedStep], ...]:
    """The steps that trained what a step exports, in order, by what people call them."""
    name = exported_by(step)
    if name is None:
        known = lineages(job)
        own = known[step.name]
        made = [one.removeprefix("@") for one in (own.whole, *own.adapters) if one.startswith("@")]
        return tuple((one, _step_of(job, one)) for made_by in made for one in _line(job, made_by))
    maker = _maker(work, job, outputs, name, step)
    owner = "" if name.job_id is None else f"{name.job_id}/"
    return tuple((f"{owner}{one}", _step_of(maker.job, one)) for one in _line(maker.job, name.step))


def _line(job: ResolvedJob, name: str) -> list[str]:
    """A step, behind those whose whole model it began with or whose adapters it has merged."""
    step = _step_of(job, name)
    below = lineages(job)[name]
    before = [one.removeprefix("@") for one in (below.whole, *below.adapters) if one.startswith("@")]
    line = [earlier for one in before if one != name for earlier in _line(job, one)]
    return list(dict.fromkeys([*line, step.name]))


def _step_of(job: ResolvedJob, name: str) -> ResolvedStep:
    return next(step for step in job.steps if step.name == name.partition("/")[0])


def asked_model(
    work: Work, run: Run, job: ResolvedJob, step: ResolvedStep, outputs: dict[str, Path], own: Start
) -> ToMeasure | None:
    """The checkpoint that the step names, or else its own model."""
    if step.do not in ("predict", "generate"):
        return None
    for name in filter(None, map(CheckpointName.read, step.measures.checkpoints or ())):
        return _checkpoint(run, _maker(work, job, outputs, name, step), name)
    model = step.model.model_name_or_path
    return ToMeasure(model, {"model": model}, step, lambda: (own, place_of(work, run, step, outputs, model)))


def _own_model(
    work: Work, run: Run, job: ResolvedJob, step: ResolvedStep, outputs: dict[str, Path], own: Start
) -> Iterator[ToMeasure]:
    """The step's, unless it is its base already."""
    first = job.steps[0]
    known = lineages(job)
    if step.measures.base == "step" or (known[step.name], step.model) == (known[first.name], first.model):
        return
    name = step.model.model_name_or_path
    made = CheckpointName.read(name) if name.startswith("@") and not step.model.adapter_name_or_path else None
    tokenizer_at = partial(place_of, work, run, step, outputs, name)
    of = {"model": name} if made is None else _of(work.job_id, made.step, _number_of(work, run, outputs[made.step], made.step))
    yield ToMeasure(name, of, step, lambda: (own, tokenizer_at()))


def _checkpoint(run: Run, maker: _Maker, name: CheckpointName) -> ToMeasure:
    made_by = next((step for step in maker.job.steps if step.name == name.step), None)
    saved = None if made_by is None else _saved(maker, run, name)
    if made_by is None or saved is None:
        raise JobFailure(Reason.MISSING_MODEL, f"The checkpoint {str(name)!r} is not there, or is kept no longer.")

    def start() -> tuple[Start, Path]:
        folder = bring(run, name.step, Path(maker.work.artifacts_root), saved)
        if folder is None:
            raise JobFailure(Reason.MISSING_MODEL, f"The checkpoint {str(name)!r} is no longer whole.")
        return _start(maker, run, made_by, str(name), folder), folder

    return ToMeasure(str(name), _of(maker.id, name.step, saved.global_step), made_by, start)


def _start(maker: _Maker, run: Run, made_by: ResolvedStep, name: str, folder: Path) -> Start:
    """As `lineage` has it of what a step made; its own adapter lies on the model and is not merged, as when it was trained."""
    if made_by.finetuning.finetuning_type != "lora" or made_by.do == "export":
        return Start(folder)
    below = lineages(maker.job)[made_by.name]
    place = partial(place_of, maker.work, run, made_by, maker.outputs)
    return replace(start_of(replace(below, continued=None), place), continued=SavedAdapter(name, folder))


def _saved(maker: _Maker, run: Run, name: CheckpointName) -> SavedCheckpoint | None:
    """A number that stands in a name, or what the step ended with."""
    told = [saved for (step, _), saved in run.told.items() if step == name.step and maker.id == maker.work.job_id]
    known = {saved.global_step: saved for saved in (*maker.work.saved(name.step), *told)}
    if isinstance(name.at, int):
        return known.get(name.at)
    ended = maker.outputs.get(name.step)
    root = Path(maker.work.artifacts_root)
    return next((saved for saved in known.values() if ended is not None and root / saved.path == ended), None)


def _maker(work: Work, job: ResolvedJob, outputs: dict[str, Path], name: CheckpointName, step: ResolvedStep) -> _Maker:
    if name.job_id is None:
        return _Maker(work.job_id, work, job, outputs)
    kept = work.earlier.get(name.job_id)
    if kept is None:
        raise JobFailure(Reason.MISSING_MODEL, f"The job {name.job_id} is not there any more.")
    given = {field: token for field in FIELDS if (token := work.token(step.name, field)) is not None}
    theirs = replace(
        work,
        job_id=name.job_id,
        job=kept["job"],
        outputs=kept["outputs"],
        checkpoints=kept["checkpoints"],
        tokens={key(one["name"], field): token for one in kept["job"]["steps"] for field, token in given.items()},
    )
    made = {made: Path(work.artifacts_root, path) for made, path in theirs.outputs.items()}
    return _Maker(name.job_id, theirs, theirs.resolved, made)


def _number_of(work: Work, run: Run, folder: Path, step: str) -> int | None:
    told = [saved for (name, _), saved in run.told.items() if name == step]
    root = Path(work.artifacts_root)
    return next((saved.global_step for saved in (*work.saved(step), *told) if root / saved.path == folder), None)


def _of(job_id: str, step: str, global_step: int | None) -> dict[str, object]:
    return {"job_id": job_id, "step": step, "checkpoint": global_step}
