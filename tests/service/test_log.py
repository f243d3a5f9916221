import io
import json
import logging
import threading
from collections.abc import Iterator

import pytest

from service import log


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What a logger of the test's own writes in JSON."""
    stream, logger = io.StringIO(), logging.getLogger("of.the.test")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(log.Json())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)


def test_a_line_is_an_object_with_what_it_is_about(lines: io.StringIO) -> None:
    logger = logging.getLogger("of.the.test")
    with log.about(job="job-1", attempt=2, request_id=None):
        logger.warning("began\nwith %d lines", 2)
    logger.info("elsewhere")
    first, second = map(json.loads, lines.getvalue().splitlines())
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "WARNING", "logger": "of.the.test", "message": "began\nwith 2 lines", "job": "job-1", "attempt": 2
    }  # fmt: skip
    assert "job" not in second


def test_an_exception_is_a_part_of_its_line(lines: io.StringIO) -> None:
    try:
        raise ValueError("wrong")
    except ValueError:
        logging.getLogger("of.the.test").exception("it failed")
    [line] = lines.getvalue().splitlines()
    assert "ValueError: wrong" in json.loads(line)["exception"]


def test_threads_say_what_each_of_them_is_about(lines: io.StringIO) -> None:
    met = threading.Barrier(2)

    def run(job: str) -> None:
        with log.about(job=job):
            met.wait(60)
            logging.getLogger("of.the.test").info(job)

    threads = [threading.Thread(target=run, args=(f"job-{number}",)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert all(line["job"] == line["message"] for line in told)
    assert len(told) == 2
