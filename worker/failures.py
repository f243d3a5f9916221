"""How the work says that it cannot go on: the service says so, too, of rows that it looks at."""

from service.specs.failures import JobFailure as JobFailure
