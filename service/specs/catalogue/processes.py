"""Sequences: rates, recurrences, memory."""

from service.specs.catalogue.measure import Measure

ROWS: tuple[Measure, ...] = ()
