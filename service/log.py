"""Lines of the log: text for people, or JSON for programs (FINEBITS_LOG_FORMAT), with what a line is about.

with log.about(job="job-1", attempt=2):
    logger.info("began")       # {"message": "began", "job": "job-1", "attempt": 2, ...}
"""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from service.specs.redaction import redacted, visible

Format = Literal["text", "json"]

# uvicorn gives its loggers handlers of their own.
_WITH_HANDLERS = ("", "uvicorn", "uvicorn.error", "uvicorn.access")

_about: ContextVar[dict[str, Any]] = ContextVar("about", default={})  # noqa: B039  # never changed in place


@contextmanager
def about(**subject: Any) -> Iterator[None]:
    """What the lines of this thread or task are about, until the block ends. What is None is not said."""
    token = _about.set(_about.get() | {name: value for name, value in subject.items() if value is not None})
    try:
        yield
    finally:
        _about.reset(token)


def set_up(form: Format) -> None:
    """Where nothing is set up yet lines go to standard error, from INFO on; existing handlers are given the format."""
    logging.Formatter.converter = time.gmtime  # as every time that the API tells
    if not logging.getLogger().handlers:
        text = "%(asctime)sZ %(levelname)s %(name)s: %(message)s"
        logging.basicConfig(level=logging.INFO, format=text, stream=sys.stderr)
    for name in _WITH_HANDLERS:
        for handler in logging.getLogger(name).handlers:
            if form == "json":
                handler.setFormatter(Json())
            elif not isinstance(handler.formatter, Lines):
                handler.setFormatter(Lines(handler.formatter))


class Lines(logging.Formatter):
    """As another formatter has it, but nothing in it passes for a line of its own, commands a terminal, or shows a credential."""

    def __init__(self, form: logging.Formatter | None):
        super().__init__()
        self._form = form or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        return redacted(visible(self._form.format(record))).replace("\n", "\n    ")


class Json(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": redacted(record.getMessage()),
            **_about.get(),
        }
        if record.exc_info:
            line["exception"] = redacted(self.formatException(record.exc_info))
        return orjson.dumps(line, default=str).decode()
