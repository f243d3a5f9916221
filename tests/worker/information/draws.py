"""Random distributions for properties: with zeros, with probabilities down to 1e-300, and with ordinary ones."""

import numpy as np
from hypothesis import HealthCheck, settings, strategies

EACH = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

ORDINARY = strategies.floats(0.01, 1)
TINY = strategies.floats(0, 300).map(lambda exponent: 10.0**-exponent)
ORDINARY_OR_ZERO = strategies.one_of(ORDINARY, ORDINARY, strategies.just(0.0))
WEIGHTS = strategies.one_of(ORDINARY, ORDINARY, TINY, strategies.just(0.0))
ORDERS = strategies.one_of(strategies.sampled_from([0.0, 0.5, 1.0, 2.0, np.inf]), strategies.floats(0.01, 20))


@strategies.composite
def distributions(draw, shape, weights=WEIGHTS):
    """An array of this shape that sums to 1."""
    drawn = draw(strategies.lists(weights, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    drawn[draw(strategies.integers(0, len(drawn) - 1))] += 0.1
    return np.reshape(drawn, shape) / np.sum(drawn)


@strategies.composite
def several(draw, number, weights=WEIGHTS):
    """So many distributions over the same 2 to 6 symbols."""
    n = draw(strategies.integers(2, 6))
    return [draw(distributions((n,), weights)) for _ in range(number)]


@strategies.composite
def joints(draw, n_variables, weights=WEIGHTS):
    """A joint distribution of so many variables, of 1 to 3 values each."""
    shape = [draw(strategies.integers(1, 3)) for _ in range(n_variables)]
    return draw(distributions(tuple(shape), weights))


@strategies.composite
def channels(draw, n_inputs, weights=ORDINARY_OR_ZERO):
    """So many rows, none with a probability so small that its product with one of 1e-300 would underflow."""
    n_outputs = draw(strategies.integers(1, 4))
    return np.array([draw(distributions((n_outputs,), weights)) for _ in range(n_inputs)])
