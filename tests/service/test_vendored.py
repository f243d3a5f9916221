"""What others wrote and the dashboard serves is what they published, with its licence."""

import hashlib
import json
import re

from service.api.dashboard import FOLDER
from service.specs.catalogue.formulas import FORMULAS
from service.specs.measures import REGISTRY

VENDOR = FOLDER / "vendor"
VENDORED = json.loads((VENDOR / "vendored.json").read_text())


def test_each_file_is_the_one_that_was_published():
    for library in VENDORED:
        for name, sha256 in library["files"].items():
            assert hashlib.sha256((VENDOR / library["name"] / name).read_bytes()).hexdigest() == sha256, name


def test_every_file_is_listed_and_every_library_has_its_licence():
    listed = {f"{library['name']}/{name}" for library in VENDORED for name in library["files"]}
    there = {str(path.relative_to(VENDOR)) for path in VENDOR.rglob("*") if path.is_file()}
    assert there - {"vendored.json"} == listed
    for library in VENDORED:
        assert "LICENSE.txt" in library["files"]
        assert library["licence"] in ("MIT", "OFL-1.1")
        assert library["version"] in library["from"]


def test_the_dashboard_names_no_other_host():
    own = [path for path in FOLDER.rglob("*") if path.suffix in (".js", ".css", ".html") and VENDOR not in path.parents]
    hosts = {path.name: re.findall(r"https?://[^\s\"'`)]+", path.read_text()) for path in own}
    assert {name: urls for name, urls in hosts.items() if set(urls) - {"http://www.w3.org/2000/svg"}} == {}


def test_formulas_are_of_measures_that_there_are():
    assert FORMULAS.keys() <= {measure.name for measure in REGISTRY}
    assert {measure.name: measure.formula for measure in REGISTRY if measure.formula} == FORMULAS
