"""What the registry says of an information measure. The mathematics stands in `worker/information/`."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, computed_field

from service.specs.catalogue.formulas import FORMULAS

# What a measure at checkpoints is taken on. tokens: the scored ones of the evaluation text; prompts, systems: its answers with
# and without them; hidden, attention: of three layers on that text; adapter, weights: of the checkpoint itself; gradient: of what
# trains, on that text; membership: training rows against held-out ones; generations: sampled text; task: labelled rows; data: the
# text that is trained on; series: the run's own, up to the checkpoint. rows: a data set's, before anything is trained.
# predictions: what a model wrote to a data set's rows. questions: a benchmark's, in a step that evaluates.
Object = Literal[
    "tokens",
    "prompts",
    "systems",
    "hidden",
    "attention",
    "adapter",
    "weights",
    "gradient",
    "membership",
    "generations",
    "task",
    "data",
    "series",
    "rows",
    "predictions",
    "questions",
]


class Notebook(BaseModel):
    """What the notebook that this project began with wrote, and whether it was right."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    formula: str
    verdict: Literal["correct", "incomplete", "wrong", "named only", "duplicate"]
    why: str = ""


class Measure(BaseModel):
    """One row: `GET /measures` serves it as it stands, and the reference page is made of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    unit: str
    definition: str
    source: str
    computed_on: str
    row: int | None = None  # 1 to 43: the notebook's measure that this is, or that it is a relative of
    aliases: tuple[str, ...] = ()  # the notebook's and the literature's other names for the very same quantity
    notebook: Notebook | None = None  # on exactly one measure of each row: the one that the notebook meant
    estimator: str = ""  # how it is had from a sample, where that is a question
    function: str | None = None  # below worker.information, "shannon.entropy"; None: computed by a probe alone
    on: Object | None = None  # what it is taken on at checkpoints
    in_jobs: bool = False  # whether a job may name it in measures.names
    default: bool = False  # whether a job that names none gets it
    better: Literal["lower", "higher"] | None = None  # by which checkpoints are ranked; None: neither is

    @computed_field(description="In LaTeX; null of a measure that words say better.")  # type: ignore[prop-decorator]
    @property
    def formula(self) -> str | None:
        return FORMULAS.get(self.name)
