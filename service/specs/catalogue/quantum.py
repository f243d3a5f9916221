"""Density matrices."""

from service.specs.catalogue.measure import Measure

ROWS: tuple[Measure, ...] = ()
