"""What a channel can carry, and what a code must keep."""

from service.specs.catalogue.measure import Measure

ROWS: tuple[Measure, ...] = ()
