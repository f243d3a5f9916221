import subprocess
import sys

import pytest
from pydantic import ValidationError

from service.places import Places
from service.storage import opening
from service.storage.errors import Unusable
from service.storage.folder import Folder
from service.storage.opening import open_storage


def test_without_a_url_it_is_the_folder(tmp_path):
    storage = open_storage(tmp_path)
    assert isinstance(storage, Folder)
    (tmp_path / "file").write_bytes(b"0123456789")
    assert (storage.size("file"), storage.block("file", 2, 4)) == (10, b"23")


def test_a_folder_loads_no_library_of_stores():
    script = "import sys, service.storage.opening, service.places; print('fsspec' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("ftp://host/folder", "begins with one of s3://"),
        ("bucket/folder", "begins with one of s3://"),
        ("s3:bucket", "begins with one of s3://"),
        ("s3://", "names no bucket"),
        ("s3://key:secret@bucket/folder", "Leave credentials out"),
        ("s3://bucket/folder?versionId=1", r"no \?"),
        ("file://folder", "absolute path"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_at_the_start(monkeypatch, url, sentence):
    monkeypatch.setenv("FINEBITS_ARTIFACTS_URL", url)
    with pytest.raises(ValidationError, match=sentence) as caught:
        Places()
    (error,) = caught.value.errors(include_input=False)
    assert error["loc"] == ("artifacts_url",)
    assert "secret@" not in error["msg"]


def test_a_store_whose_package_is_not_installed_names_the_extra(monkeypatch):
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    with pytest.raises(Unusable, match=r"pip install 'finebits\[s3\]'"):
        open_storage("unused", "s3://bucket/folder")
