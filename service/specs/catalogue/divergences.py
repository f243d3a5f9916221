"""Distances between two distributions."""

from service.specs.catalogue.measure import Measure

ROWS: tuple[Measure, ...] = ()
