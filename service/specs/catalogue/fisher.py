"""Information about parameters, and what leads what."""

from service.specs.catalogue.measure import Measure

ROWS: tuple[Measure, ...] = ()
