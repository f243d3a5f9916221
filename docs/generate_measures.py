"""Writes docs/reference/measures.md from the registry: `python -m docs.generate_measures`, at the root of the repository."""

from collections.abc import Sequence
from pathlib import Path

from service.specs import measures
from service.specs.alerts import ALERTS, ALPHA
from service.specs.catalogue.measure import Measure

PAGE = Path(__file__).parent / "reference" / "measures.md"

HEAD = """# Measures

Written from the registry, `service/specs/catalogue/`, by `python -m docs.generate_measures`; do not edit it here.
`GET /measures` serves the same rows. A function is called as `worker.information.<function>`, and takes arrays.

Conventions: lg is the logarithm to base 2, and values are in bits where the unit says so; 0 lg 0 = 0; where a definition says
infinite, the value is infinite. Probabilities that do not sum to 1 are refused, and never renormalised.

This project began with a notebook that lists 43 measures. The second table says what each of them became, and what its formula
there is worth; where one was wrong, what is computed is the definition of the literature.
"""


_ON = """What each is taken on is said in one word; what those mean and cost stands
[with the explanations](../explanation/measures.md#what-a-job-can-measure). `row` is the notebook's."""


def page() -> str:
    """The whole page, as it is committed."""
    return "\n".join([HEAD, *_checkpoints(), *_alerts(), *_notebook(), *_families()])


def _checkpoints() -> list[str]:
    rows = [(_link(m), str(m.row or ""), m.unit, m.on or "", "yes" if m.default else "when named") for m in measures.CATALOGUE]
    head = ("measure", "row", "unit", "on", "in a job")
    return ["## At checkpoints", "", _ON, "", *_table(head, rows), ""]


def _alerts() -> list[str]:
    """What is tested of each checkpoint; `docs/explanation/alerts.md` says how."""
    head = ("alert", "statistic", "null", "test", "limit", "looks at", "suggests", "source")
    rows = [
        (
            f"`{it.name}`",
            it.statistic,
            it.null,
            it.test,
            f"{it.threshold:.3g} {it.unit}",
            ", ".join(f"`{name}`" for name in it.needs) or "what is measured",
            it.suggests,
            it.source,
        )
        for it in ALERTS
    ]
    return [
        "## Alerts",
        "",
        f"At α = {ALPHA:g} of all checkpoints of a step together, for each alert.",
        "",
        *_table(head, rows),
        "",
    ]


def _notebook() -> list[str]:
    meant = sorted((m for m in measures.REGISTRY if m.notebook), key=lambda m: m.row or 0)
    rows = [(str(m.row), _link(m), m.notebook.formula, _verdict(m)) for m in meant if m.notebook]
    return ["## The notebook's 43", "", *_table(("", "measure", "its formula there", "verdict"), rows), ""]


def _link(measure: Measure) -> str:
    return f'<a href="#{measure.name}">`{measure.name}`</a>'


def _verdict(measure: Measure) -> str:
    assert measure.notebook is not None
    why = measure.notebook.why
    return f"**{measure.notebook.verdict}**" + (f": {why}" if why else "")


def _families() -> list[str]:
    lines: list[str] = []
    for family in measures.FAMILIES:
        title = family.__name__.rpartition(".")[2].capitalize()
        head = ("measure", "unit", "definition", "computed on", "source", "function")
        lines += [f"## {title}", "", family.__doc__ or "", "", *_table(head, [_row(measure) for measure in family.ROWS]), ""]
    return lines


def _row(measure: Measure) -> tuple[str, ...]:
    aliases = ", ".join(f"`{alias}`" for alias in measure.aliases)
    name = f'<a id="{measure.name}"></a>`{measure.name}`' + (f"<br>also {aliases}" if aliases else "")
    object_of = measure.computed_on + (f"<br>From a sample: {measure.estimator}" if measure.estimator else "")
    function = f"`{measure.function}`" if measure.function else "at checkpoints only"
    return name, measure.unit, _typeset(measure) + measure.definition, object_of, measure.source, function


def _typeset(measure: Measure) -> str:
    """The formula, in LaTeX without bars, which would end a cell."""
    if measure.formula is None:
        return ""
    return "$" + measure.formula.replace("\\|", "\\Vert ").replace("|", "\\vert ") + "$<br>"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    return [_line(head), _line(("---",) * len(head)), *(_line(row) for row in rows)]


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
