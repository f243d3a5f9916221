"""Densities and samples of real vectors."""

from service.specs.catalogue.measure import Measure

ROWS: tuple[Measure, ...] = ()
