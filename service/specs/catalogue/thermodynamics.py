"""A softmax as a canonical ensemble."""

from service.specs.catalogue.measure import Measure

ROWS: tuple[Measure, ...] = ()
