"""Closer than a measure: what each token of a few texts costs, and how far checkpoints of two jobs are apart by document."""

import math
from itertools import groupby
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from service.api.access import Whose
from service.api.collaborators import TheDatabase
from service.api.errors import BadParameter, NoSuchThing
from service.api.problems import declared
from service.specs.paired import RATIOS, difference
from service.store import jobs, shown
from service.store.metrics import BASE

router = APIRouter(tags=["metrics"])

Checkpoint = int | Literal["base"]


class ShownText(BaseModel):
    tokens: list[str] = Field(description="Each token by itself; a part of a letter is shown as a replacement character.")
    scored: list[int] = Field(description="The places in tokens of those that are predicted and scored, from 0.")


class ShownBits(BaseModel):
    checkpoint: Checkpoint
    bits: list[list[float | None]] = Field(description="Of each text, −lg p of each scored token; null where it is no number.")


class ShownStep(BaseModel):
    step: str
    split: str
    texts: list[ShownText]
    checkpoints: list[ShownBits] = Field(description="The base first.")


class Surprisal(BaseModel):
    job_id: str
    data: list[ShownStep]


class PairedDifference(BaseModel):
    """This job's checkpoint less the other's; below 0 this one has less of it."""

    measure: str
    unit: str
    value: float | None
    standard_error: float | None
    interval: list[float] | None = Field(description="95 %, clustered by document.")
    n_documents: int
    n_tokens: int


class Side(BaseModel):
    job_id: str
    step: str
    checkpoint: Checkpoint
    split: str


class Versus(BaseModel):
    one: Side
    other: Side
    paired: bool = Field(description="Whether both were measured on the very same tokens.")
    why_not: str | None
    data: list[PairedDifference]


@router.get("/jobs/{job_id}/surprisal", responses=declared(404, 422))
def get_surprisal(
    job_id: str,
    owner: Whose,
    database: TheDatabase,
    step: Annotated[str | None, Query(description="A step of the job.")] = None,
) -> Surprisal:
    """What each token of the first few measured texts costs, in bits: by the base, and by every checkpoint."""
    with database.reading() as session:
        jobs.version(session, owner, job_id)
        _refuse_unknown(session, job_id, step, "step")
        found = shown.of_job(session, job_id, step)
    data = [_step(*place, list(rows)) for place, rows in groupby(found, lambda row: (row.step, row.split))]
    return Surprisal(job_id=job_id, data=[one for one in data if one is not None])


@router.get("/jobs/{job_id}/versus/{other_id}", responses=declared(404, 422))
def compare_jobs(
    job_id: str,
    other_id: str,
    owner: Whose,
    database: TheDatabase,
    step: Annotated[str | None, Query(description="Of this job; its last measured one when not given.")] = None,
    other_step: Annotated[str | None, Query(description="Of the other job.")] = None,
    checkpoint: Annotated[int | None, Query(ge=1, lt=2**31, description="The last when not given.")] = None,
    other_checkpoint: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
) -> Versus:
    """How far a checkpoint of one job is from one of another, document by document, where both were measured on the same text."""
    with database.reading() as session:
        for one in (job_id, other_id):
            jobs.version(session, owner, one)
        this = _measured(session, job_id, step, checkpoint, "")
        that = _measured(session, other_id, other_step, other_checkpoint, "other_")
    why_not = _why_not(this.sums, that.sums)
    data = [] if why_not else _differences(this.sums, that.sums)
    return Versus(one=this.side, other=that.side, paired=why_not is None, why_not=why_not, data=data)


# -- tokens ---------------------------------------------------------------------------------------------------------------


def _step(step: str, split: str, rows: list[shown.Shown]) -> ShownStep | None:
    texts = next((row.shown["texts"] for row in rows if "texts" in row.shown), None)
    if texts is None:
        return None  # the base is not measured
    checkpoints = [ShownBits(checkpoint=_named(row.global_step), bits=row.shown["bits"]) for row in rows]
    return ShownStep(step=step, split=split, texts=texts, checkpoints=checkpoints)


def _named(global_step: int) -> Checkpoint:
    return "base" if global_step == BASE else global_step


# -- two jobs -------------------------------------------------------------------------------------------------------------


class _Measured(NamedTuple):
    side: Side
    sums: dict[str, Any]


def _measured(session: Session, job_id: str, step: str | None, checkpoint: int | None, of: str) -> _Measured:
    """The sums on the text of the task; of the last checkpoint of the last step that has any."""
    _refuse_unknown(session, job_id, step, f"{of}step")
    for name in [step] if step else reversed(jobs.step_names(session, job_id)):
        places = [(at, split) for at, split in shown.measured_on(session, job_id, name) if at != BASE and split != "anchor"]
        wanted = [place for place in places if checkpoint in (None, place[0])]
        if wanted:
            at, split = wanted[-1]
            sums = shown.sums(session, job_id, name, at, split)
            assert sums is not None
            return _Measured(Side(job_id=job_id, step=name, checkpoint=at, split=split), sums)
    raise NoSuchThing(f"No such checkpoint of {job_id} has been measured.")


def _refuse_unknown(session: Session, job_id: str, step: str | None, parameter: str) -> None:
    steps = jobs.step_names(session, job_id)
    if step is not None and step not in steps:
        raise BadParameter(f"/query/{parameter}", f"The job has no step {step!r}; it has {', '.join(steps)}.")


def _why_not(sums: dict[str, Any], others: dict[str, Any]) -> str | None:
    if "text" not in sums or "text" not in others:
        return "One of them was measured by an earlier version, which did not keep on what."
    if sums["text"] != others["text"]:
        return "They were measured on different texts, or by different tokenizers; a step that measures takes both on the same."
    return None


def _differences(sums: dict[str, Any], others: dict[str, Any]) -> list[PairedDifference]:
    both = [name for name, (total, _, _) in RATIOS.items() if sums.get(total) and others.get(total)]
    return [_difference(name, sums, others) for name in both]


def _difference(measure: str, sums: dict[str, Any], others: dict[str, Any]) -> PairedDifference:
    """A sum of a model that diverged is null, and what is made of it too."""
    total, counted, unit = RATIOS[measure]
    n_tokens = sum(sums["n_tokens"])
    of, than = ([math.nan if value is None else value for value in found[total]] for found in (sums, others))
    if not all(map(math.isfinite, (*of, *than))):
        same = {"value": None, "standard_error": None, "interval": None, "n_documents": len(of)}
        return PairedDifference(measure=measure, unit=unit, n_tokens=n_tokens, **same)
    made = difference(of, than, sums[counted])
    return PairedDifference(
        measure=measure,
        unit=unit,
        value=made.value,
        standard_error=made.standard_error,
        interval=None if made.interval is None else list(made.interval),
        n_documents=made.n_documents,
        n_tokens=n_tokens,
    )
