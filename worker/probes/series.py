"""Whether one of the run's own series leads another."""

import math
from typing import Any

from worker.information.fisher import granger_causality
from worker.probes.finding import Finding, exact

LAGS = 2
CAUSE, EFFECT = "grad_norm", "loss"


def granger(history: list[dict[str, Any]]) -> Finding:
    """Does the gradient's norm lead the loss, up to a checkpoint? `history` is the trainer's log. Both are differenced first."""
    estimator = f"{CAUSE} to {EFFECT}, differenced, {LAGS} lags"
    points = [entry for entry in history if CAUSE in entry and EFFECT in entry]
    cause_T, effect_T = ([float(entry[name]) for entry in points] for name in (CAUSE, EFFECT))
    try:
        test = granger_causality(cause_T, effect_T, LAGS, difference=True)
    except ValueError as error:
        return exact(math.nan, f"There is no test of {len(points)} points of the series: {error}.", estimator)
    F, p = test.statistic, test.p_value
    why = f"It is a test of one series, not a mean: F{test.degrees_of_freedom} = {F:.3g}, p = {p:.3g}"
    return exact(test.geweke_bits, f"{why}.", f"{estimator}, {len(points)} points")
