"""Dimensions and spectra: how many directions are in use."""

from service.specs.catalogue.measure import Measure

ROWS: tuple[Measure, ...] = ()
