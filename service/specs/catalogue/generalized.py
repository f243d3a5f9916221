"""Entropies, divergences and informations with an order."""

from service.specs.catalogue.measure import Measure

ROWS: tuple[Measure, ...] = ()
