"""What a job's guards make of its alerts and measures, checkpoint by checkpoint."""

from collections.abc import Sequence
from typing import Any

from service.specs.guards import Guard, Then, threshold
from service.specs.measures import measure_of
from worker.probes.alerts import Test
from worker.probes.report import Row

DONE: dict[Then, str] = {
    "stop": "the step ends here, with its best checkpoint",
    "pause": "the job pauses",
    "keep_best": "the step will end with its best checkpoint, not its last",
}


class Guarding:
    """`acted` is all that the guards of the step have done by now, in whichever attempt: it follows from what was measured."""

    def __init__(self, guards: Sequence[Guard]):
        self._guards = guards
        self.acted: set[Then] = set()

    def see(self, split: str, global_step: int, tests: list[Test], rows: list[Row]) -> list[dict[str, Any]]:
        """What the guards do about one checkpoint on one text, in words and as data."""
        fired = [guard for guard in self._guards if _is_set_off(guard, split, global_step, tests, rows)]
        self.acted |= {guard.then for guard in fired}
        return [
            {
                "text": f"Guard {guard.when!r} at checkpoint {global_step}: {DONE[guard.then]}.",
                "data": {"when": guard.when, "then": guard.then, "split": split},
            }
            for guard in fired
        ]


def _is_set_off(guard: Guard, split: str, global_step: int, tests: list[Test], rows: list[Row]) -> bool:
    limit = threshold(guard.when)
    if limit is None:
        return any(test["alert"] == guard.when and test["fires"] for test in tests)
    if limit.on_anchor != (split == "anchor"):
        return False
    here = [row for row in rows if row["global_step"] == global_step]
    values = (row["value"] for row in here if measure_of(row["measure"]) == limit.measure)
    return any(value is not None and limit.is_passed(value) for value in values)
