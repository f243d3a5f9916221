"""What several variables share."""

from service.specs.catalogue.measure import Measure

ROWS: tuple[Measure, ...] = ()
