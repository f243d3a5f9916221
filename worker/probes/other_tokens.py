"""What is left of a report where the base reads other tokens: nothing that compares token by token."""

from typing import Any

from service.specs.measures import measure_of
from worker.probes.alerts import Test
from worker.probes.report import DIVERGENCES, FROM_THE_BASE, OF_WHOLE_TEXTS, Row

# The alerts that hold a checkpoint against its base.
AGAINST_THE_BASE = ("entropy_collapse", "forgetting", "memorization", "loops", "representation_collapse")
NOTHING: dict[str, Any] = {"value": None, "standard_error": None, "interval": None}
OF_THE_BASE = (*DIVERGENCES, *FROM_THE_BASE)


def without_base(rows: list[Row], why: str, whole_texts: bool) -> list[Row]:
    """Of the base what is told of whole texts, where its own tokens were counted; of the checkpoints no difference to any other,
    and a divergence that is null, with the reason.
    """
    return [_alone(row, why, whole_texts) for row in rows if row["global_step"] is not None or _is_told(row, whole_texts)]


def tests_without_base(tests: list[Test], why: str) -> list[Test]:
    nothing = {"fires": None, "statistic": None, "bound": None, "reason": why}
    return [test | nothing if test["alert"] in AGAINST_THE_BASE else test for test in tests]


def _is_told(row: Row, whole_texts: bool) -> bool:
    return whole_texts and row["measure"] in OF_WHOLE_TEXTS


def _alone(row: Row, why: str, whole_texts: bool) -> Row:
    if measure_of(row["measure"]) in OF_THE_BASE:
        compared = dict.fromkeys(("versus_base", "versus_best", "versus_leader"))
        return row | NOTHING | compared | {"interval_reason": why}
    return row if _is_told(row, whole_texts) else row | {"versus_base": None}
