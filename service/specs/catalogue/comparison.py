"""Which experiment tells more."""

from service.specs.catalogue.measure import Measure

ROWS: tuple[Measure, ...] = ()
