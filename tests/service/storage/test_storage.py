"""The artifact store's verbs, on a folder that is another host's, and on an S3 that listens on loopback."""

import hashlib
import os
import signal
import subprocess
import sys
from itertools import count

import pytest

from service.storage import remote
from service.storage.errors import Away, Damaged, Missing
from service.storage.remote import Remote

MIB = 2**20
_number = count()


@pytest.fixture
def s3_url(s3):
    return f"s3://finebits/{os.getpid()}-{next(_number)}"


@pytest.fixture(params=["file", "s3"])
def storage(request, tmp_path):
    """A store that is elsewhere, of the test's own."""
    if request.param == "file":
        return Remote(f"file://{tmp_path}/elsewhere")
    server, url = request.getfixturevalue("s3"), request.getfixturevalue("s3_url")
    return Remote(url, server.endpoint, part_bytes=5 * MIB)


@pytest.fixture
def make(tmp_path):
    """(file, size, SHA-256) of a file of random bytes."""

    def make(size, name="weights.bin"):
        body = os.urandom(size)
        file = tmp_path / "host" / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(body)
        return file, size, hashlib.sha256(body).hexdigest()

    return make


# -- every store -------------------------------------------------------------------------------------------------------


def test_what_is_removed_is_gone_with_all_that_lies_under_it_and_nothing_else(storage, make):
    for key in ("job/1/a/w", "job/1/a/deep/w", "job/1/ab/w"):
        storage.put(*_at(make, key))
    storage.remove("job/1/a")
    storage.remove("job/1/a")
    storage.remove("../job")
    for key in ("job/1/a/w", "job/1/a/deep/w"):
        with pytest.raises(Missing):
            storage.size(key)
    assert storage.size("job/1/ab/w") == 10


def _at(make, key):
    file, size, sha256 = make(10)
    return file, key, size, sha256


@pytest.mark.parametrize("size", [0, 10, 11 * MIB + 7])
def test_what_was_put_is_fetched_on_another_host(storage, make, tmp_path, size):
    file, size, sha256 = make(size)
    storage.put(file, "job/1/weights.bin", size, sha256)
    assert storage.size("job/1/weights.bin") == size
    to = tmp_path / "other" / "deep" / "weights.bin"
    storage.fetch("job/1/weights.bin", to, size, sha256)
    assert to.read_bytes() == file.read_bytes()
    assert [path.name for path in to.parent.iterdir()] == ["weights.bin"]


def test_a_part_of_a_file_is_read(storage, make):
    file, size, sha256 = make(1000)
    storage.put(file, "job/1/log.txt", size, sha256)
    assert storage.block("job/1/log.txt", 10, 20) == file.read_bytes()[10:20]
    assert storage.block("job/1/log.txt", 990, 2000) == file.read_bytes()[990:]


@pytest.mark.parametrize("key", ["job/1/nothing", "../secret", "job//nothing"])
def test_what_is_not_there_is_missing(storage, tmp_path, key):
    (tmp_path / "secret").write_text("not an artifact")
    for ask in (lambda: storage.size(key), lambda: storage.block(key, 0, 1), lambda: storage.fetch(key, tmp_path / "x", 1, "")):
        with pytest.raises(Missing):
            ask()


def test_a_file_that_was_changed_in_the_store_is_never_given_its_name(storage, make, tmp_path):
    file, size, sha256 = make(100)
    storage.put(file, "job/1/weights.bin", size, sha256)
    forged, _, other = make(100, "forged.bin")
    storage.put(forged, "job/1/weights.bin", size, other)
    for name, what in ((100, "another SHA-256"), (99, "has 100 bytes, and had 99")):
        with pytest.raises(Damaged, match=what):
            storage.fetch("job/1/weights.bin", tmp_path / "other" / "weights.bin", name, sha256)
    assert not (tmp_path / "other" / "weights.bin").exists()


def test_a_download_goes_on_where_it_ended(storage, make, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "BLOCK_BYTES", 1000)
    file, size, sha256 = make(20_500)
    storage.put(file, "job/1/weights.bin", size, sha256)
    read, starts = storage._blocks, []

    def breaks_off(key, wanted, size):
        starts.extend(wanted)
        if len(starts) == 12:
            raise Away("The network is gone.")
        return read(key, wanted, size)

    monkeypatch.setattr(storage, "_blocks", breaks_off)
    to = tmp_path / "other" / "weights.bin"
    with pytest.raises(Away):
        storage.fetch("job/1/weights.bin", to, size, sha256)
    assert not to.exists()
    storage.fetch("job/1/weights.bin", to, size, sha256)
    assert to.read_bytes() == file.read_bytes()
    assert starts[12:] == list(range(8000, 20_500, 1000)), "the first eight blocks were on the disk"


def test_a_partial_file_that_is_wrong_is_fetched_anew(storage, make, tmp_path):
    file, size, sha256 = make(5000)
    storage.put(file, "job/1/weights.bin", size, sha256)
    to = tmp_path / "other" / "weights.bin"
    to.parent.mkdir()
    to.with_name(".weights.bin.part").write_bytes(b"of another time")
    storage.fetch("job/1/weights.bin", to, size, sha256)
    assert to.read_bytes() == file.read_bytes()


def test_a_store_that_is_there_says_so(storage, make):
    assert storage.answers()


# -- S3 ----------------------------------------------------------------------------------------------------------------

PUT_AND_DIE = """
import os, signal, sys
from pathlib import Path
from service.storage import multipart
from service.storage.remote import Remote

url, endpoint, file, size, sha256 = sys.argv[1:]
multipart.PARTS_AT_ONCE = 1
storage = Remote(url, endpoint, part_bytes=5 * 2**20)
call = storage._call

def dies_at_part_three(method, **arguments):
    if method == "upload_part" and arguments["PartNumber"] == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return call(method, **arguments)

storage._call = dies_at_part_three
storage.put(Path(file), "job/1/weights.bin", int(size), sha256)
"""


def test_an_upload_whose_process_was_killed_sends_only_the_parts_that_the_store_lacks(s3, s3_url, make, tmp_path):
    file, size, sha256 = make(21 * MIB)
    command = [sys.executable, "-c", PUT_AND_DIE, s3_url, s3.endpoint, str(file), str(size), sha256]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    folder = s3_url.removeprefix("s3://")
    assert [address.split("partNumber=")[1][0] for address in s3.requests("PUT", folder, "partNumber=")] == ["1", "2"]

    # the file was also changed since in its second part: what the store has of it is of no use
    body = bytearray(file.read_bytes())
    body[7 * MIB] ^= 1
    file.write_bytes(body)
    sha256 = hashlib.sha256(body).hexdigest()

    storage = Remote(s3_url, s3.endpoint, part_bytes=5 * MIB)
    storage.put(file, "job/1/weights.bin", size, sha256)
    sent = [address.split("partNumber=")[1][0] for address in s3.requests("PUT", folder, "partNumber=")][2:]
    assert sorted(sent) == ["2", "3", "4", "5"]
    storage.fetch("job/1/weights.bin", tmp_path / "fetched", size, sha256)
    assert len(s3.requests("POST", folder, "uploads")) == 1, "both went into one upload"

    # and once it is there, nothing is sent again
    storage.put(file, "job/1/weights.bin", size, sha256)
    assert len(s3.requests("PUT", folder, "partNumber=")) == 6


def test_a_file_that_changed_since_its_hash_was_taken_is_not_put(s3, s3_url, make):
    file, size, _ = make(10)
    with pytest.raises(Damaged, match="has changed on this host"):
        Remote(s3_url, s3.endpoint).put(file, "job/1/weights.bin", size, "0" * 64)


@pytest.mark.parametrize("size", [10, 11 * MIB])
def test_a_store_that_keeps_other_bytes_than_it_was_sent_is_found_out(s3, s3_url, make, monkeypatch, size):
    storage = Remote(s3_url, s3.endpoint, part_bytes=5 * MIB)
    call = storage._call

    def spoils(method, **arguments):
        if method in ("put_object", "upload_part"):
            arguments = {**arguments, "Body": bytes(len(arguments["Body"]))}
            del arguments["ChecksumSHA256"]  # S3 would refuse the part by it
        return call(method, **arguments)

    monkeypatch.setattr(storage, "_call", spoils)
    file, size, sha256 = make(size)
    with pytest.raises(Damaged, match="has other bytes than were put"):
        storage.put(file, "job/1/weights.bin", size, sha256)


def test_an_s3_that_tells_no_checksum_is_read_back(s3, s3_url, make, monkeypatch):
    storage = Remote(s3_url, s3.endpoint)
    call = storage._call

    def tells_nothing(method, **arguments):
        answer = call(method, **arguments)
        return {**answer, "ETag": '"encrypted"', "ChecksumSHA256": ""} if method == "head_object" else answer

    monkeypatch.setattr(storage, "_call", tells_nothing)
    file, size, sha256 = make(10)
    storage.put(file, "job/1/weights.bin", size, sha256)
    assert len(s3.requests("GET", s3_url.removeprefix("s3://"))) == 1


def test_a_bucket_that_is_not_there_is_named(s3, make):
    storage = Remote("s3://nowhere/folder", s3.endpoint)
    file, size, sha256 = make(10)
    with pytest.raises(Away, match="s3://nowhere/folder has no such bucket"):
        storage.put(file, "job/1/weights.bin", size, sha256)
    assert not storage.answers()


def test_a_store_that_does_not_answer_is_away_and_never_tells_a_secret(s3, s3_url, make, monkeypatch):
    storage = Remote(s3_url, "http://127.0.0.1:9")
    file, size, sha256 = make(10)
    for ask in (lambda: storage.put(file, "x", size, sha256), lambda: storage.size("x"), lambda: storage.block("x", 0, 1)):
        with pytest.raises(Away, match=s3_url) as caught:
            ask()
        assert "not-a-secret" not in str(caught.value)
    assert not storage.answers()
