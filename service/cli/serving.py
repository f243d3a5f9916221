"""The embedded service under a command: its settings, and the signals that end it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError

from service.cli.exit_codes import ExitCode
from service.cli.screen import give_up
from service.embedded import Embedded, EmbeddedError, running
from service.settings import Settings


def read_settings(**options: object) -> Settings:
    """The environment's settings with a command's options over them; those that are None were not given."""
    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        places = {".".join(map(str, details["loc"])): details["msg"] for details in error.errors(include_url=False)}
        give_up("\n".join(f"FINEBITS_{place.upper()}: {why}" if place else why for place, why in places.items()), ExitCode.USAGE)


@contextmanager
def serving(settings: Settings) -> Iterator[Embedded]:
    """The service until the block ends. SIGTERM and a closed terminal are what Ctrl-C is: KeyboardInterrupt in the block."""
    try:
        with _interruptible(), running(settings) as service:
            yield service
    except EmbeddedError as error:
        give_up(str(error))


@contextmanager
def _interruptible() -> Iterator[None]:
    ends = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup means that a closed terminal is nothing
        ends.append(signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in ends}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
