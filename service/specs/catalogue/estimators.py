"""Entropies and informations from counts, and what a sample leaves unseen."""

from service.specs.catalogue.measure import Measure

ROWS: tuple[Measure, ...] = ()
