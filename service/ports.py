"""Ports for servers that are told theirs, and listen there only once they have started."""

import itertools
import os
import socket

# Below those that a kernel gives to whoever asks for any, and for each process some of its own: nobody else takes them before the
# server listens.
FIRST, COUNT, EACH = 20_000, 12_000, 499
_numbers = itertools.count(os.getpid() * EACH)


def free_port(host: str = "127.0.0.1") -> int:
    """One on which nothing listens. Raises OSError where nothing can listen on the host."""
    for number in itertools.islice(_numbers, COUNT):
        port = FIRST + number % COUNT
        if _is_free(host, port):
            return port
    return port_that_can_be_bound(host, 0)


def port_that_can_be_bound(host: str, port: int) -> int:
    """The port, or of 0 the one that the kernel gives. Raises OSError where nothing can listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return int(probe.getsockname()[1])


def _is_free(host: str, port: int) -> bool:
    try:
        port_that_can_be_bound(host, port)
    except OSError:
        return False
    return True
