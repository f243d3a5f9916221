"""A file that is hashed while it is written."""

import errno
import hashlib
import os
import resource
import threading
from itertools import pairwise

import pytest

from worker.export import hashed_file
from worker.export.hashed_file import HashedFile


@pytest.mark.parametrize("parts", [(), (1,), (0, 70_000, 3, 200_000), (70_000,) * 20])
def test_the_hash_is_that_of_the_bytes_on_the_disk(tmp_path, monkeypatch, parts):
    monkeypatch.setattr(hashed_file, "_AT_ONCE", 100_000)
    told = []
    advise = os.posix_fadvise
    monkeypatch.setattr(os, "posix_fadvise", lambda *what: told.append(what[1:3]) or advise(*what))
    with HashedFile(tmp_path / "file") as file:
        for size in parts:
            file.write(memoryview(os.urandom(size)))
    content = (tmp_path / "file").read_bytes()
    assert len(content) == sum(parts)
    assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert bool(told) == (sum(parts) > 100_000)
    assert all(start + length == following for (start, length), (following, _) in pairwise(told)), "each byte once"


def test_what_it_was_given_may_change_as_soon_as_it_is_written(tmp_path):
    room = bytearray(10**6)
    with HashedFile(tmp_path / "file") as file:
        for value in range(20):
            room[:] = bytes([value]) * len(room)
            file.write(memoryview(room))
    assert file.sha256 == hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(FileExistsError), HashedFile(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_a_file_that_may_not_grow_says_so_and_leaves_no_thread(tmp_path):
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
        before = threading.active_count()
        try:
            with HashedFile(tmp_path / "file") as file:
                for _ in range(10):
                    file.write(bytes(100_000))
        except OSError as error:
            os._exit(0 if error.errno == errno.EFBIG and threading.active_count() == before else 2)
        os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
