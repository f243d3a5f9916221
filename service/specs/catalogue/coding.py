"""Code lengths and compression."""

from service.specs.catalogue.measure import Measure

ROWS: tuple[Measure, ...] = ()
