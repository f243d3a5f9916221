"""How long a refusal takes, asked over and over by somebody who would learn a key from it, one character after another.

Guesses of several classes come in blocks, one of each, in an order that is drawn anew for every block. Where a class takes no
longer than another, each of the two is as likely to be the slower one of a block, however the machine's load comes and goes: so
the signed-rank test of the blocks' differences is wrong as seldom as it says, on any machine. What it would find is shown by a
service that leaks (leaking.py), which is asked for as long as it takes to find it; the one that does not is asked at least twice
as often.
"""

import http.client
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import wilcoxon

from service.specs.scopes import Scope
from service.store import keys, schema
from service.store.session import Database
from tests.attacks.family import Family, record
from tests.attacks.leaking import LEAKED_SECONDS

FAMILY = Family(
    name="How long a refusal takes",
    tried="guesses that share no character, half and all but the last with an owner's key and with the operator's, and keys of "
    "an id that there is not, in an order drawn at random; a service that leaks 200 µs over a whole key, to see that it is found",
    promise="no guess takes longer the nearer it is: the leak is found (p < 10⁻⁶), and at least twice as many guesses find none "
    "(p > 10⁻⁴)",
)

pytestmark = [pytest.mark.slow, pytest.mark.long]

OPERATORS = "an-operators-key-with-forty-characters-a"
LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
BLOCKS = 200  # that are asked before one looks
MOST_BLOCKS = 20_000

FOUND, CLEAN = 1e-6, 1e-4

# uvicorn's own --fd takes the socket for one of another kind, and answers then wait 40 ms for the other side's acknowledgement.
SERVE = """
import socket, sys, uvicorn
config = uvicorn.Config(sys.argv[1], factory=True, log_level="critical")
uvicorn.Server(config).run([socket.socket(fileno=int(sys.argv[2]))])
"""

Times = dict[str, list[float]]


def guesses(key: str) -> dict[str, str]:
    """A new one of each class, all of one length. The operator's key is looked at before any other."""
    hidden = key.rpartition("_")[2]
    before = key.removesuffix(hidden)
    half = len(hidden) // 2
    return {
        "an owner's, none": before + _other(hidden),
        "an owner's, half": before + hidden[:half] + _other(hidden[half:]),
        "an owner's, all but one": before + hidden[:-1] + _other(hidden[-1]),
        "of no id": f"fb_{''.join(random.choices(LETTERS, k=8))}_{_other(hidden)}",
        "the operator's, none": _other(OPERATORS),
        "the operator's, half": OPERATORS[:20] + _other(OPERATORS[20:]),
        "the operator's, all but one": OPERATORS[:-1] + _other(OPERATORS[-1]),
    }


def _other(text: str) -> str:
    """As long, and another in its first place."""
    first = random.choice([letter for letter in LETTERS if letter != text[0]])
    return first + "".join(random.choices(LETTERS, k=len(text) - 1))


# What is held against what: how near a guess is may not show. Whether an id is there is no secret, and is told below.
NEARER = [
    ("an owner's, half", "an owner's, none"),
    ("an owner's, all but one", "an owner's, none"),
    ("an owner's, all but one", "an owner's, half"),
    ("the operator's, half", "the operator's, none"),
    ("the operator's, all but one", "the operator's, none"),
]


@contextmanager
def serving(home: Path, app: str) -> Iterator[tuple[int, str]]:
    """A server process of its own: its port, and an owner's key of it."""
    for name in ("models", "datasets", "artifacts"):
        (home / name).mkdir(parents=True)
    database = Database(f"sqlite:///{home}/finebits.db")
    schema.upgrade(database)
    with database.transaction() as session:
        key = keys.create(session, "ann", [Scope.READ])[1]
    database.close()
    settings = {"HOME": str(home), "API_KEY": OPERATORS, "RATE_LIMIT": "0", "FAILED_SIGN_INS_PER_MINUTE": "0"}
    environment = os.environ | {f"FINEBITS_{name}": value for name, value in settings.items()} | {"LEAKED_KEY": key}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-c", SERVE, app, str(listener.fileno())]
        server = subprocess.Popen(command, env=environment, pass_fds=[listener.fileno()])
        try:
            yield listener.getsockname()[1], key
        finally:
            server.kill()
            server.wait()


def timed(port: int, key: str, blocks: int, times: Times) -> None:
    """Asks in as many blocks more, by one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for block in range(blocks + 10):
        for name, guess in random.sample([*guesses(key).items()], k=7):
            began_at = time.perf_counter()
            connection.request("GET", "/jobs", headers={"Authorization": f"Bearer {guess}"})
            answer = connection.getresponse()
            answer.read()
            took = time.perf_counter() - began_at
            assert answer.status == 401
            if block >= 10:  # a connection's first ones are its own
                times.setdefault(name, []).append(took)
                record(FAMILY).note(answer.status)
    connection.close()


def p_of(times: Times, one: str, other: str) -> float:
    """Two-sided, that the classes are exchangeable within their blocks."""
    return float(wilcoxon(np.array(times[one]) - np.array(times[other])).pvalue)


def microseconds(times: Times, one: str, other: str) -> float:
    return float(np.median(np.array(times[one]) - np.array(times[other]))) * 1e6


@pytest.mark.timeout(1800)
def test_no_refusal_takes_longer_for_a_guess_that_is_nearer(tmp_path: Path) -> None:
    leaked: Times = {}
    with serving(tmp_path / "leaking", "tests.attacks.leaking:app") as (port, key):
        while not leaked or max(p_of(leaked, *pair) for pair in NEARER[1::3]) > FOUND:
            timed(port, key, BLOCKS, leaked)
            assert len(leaked["of no id"]) < MOST_BLOCKS, "no leak is found on this machine: nothing would be"
    needed = len(leaked["of no id"])
    honest: Times = {}
    with serving(tmp_path / "honest", "service.app:from_environment") as (port, key):
        n_honest = max(2 * needed, 2000)
        timed(port, key, n_honest, honest)
    told = {
        pair: (p_of(honest, *pair), microseconds(honest, *pair), microseconds(leaked, *pair))
        for pair in [*NEARER, ("an owner's, none", "of no id")]
    }
    lines = [f"{one} - {other}: {d:+.1f} µs (p = {p:.2g}); leaking {leak:+.1f} µs" for (one, other), (p, d, leak) in told.items()]
    print(f"\n{needed} blocks found {LEAKED_SECONDS * 1e6:.0f} µs, {n_honest} without:", *lines, sep="\n")
    assert min(told[pair][0] for pair in NEARER) > CLEAN / len(NEARER), "\n".join(lines)
