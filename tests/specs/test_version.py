"""The language of jobs over time: what was stored is read by later code, and what older code would misread has another version.

    python -m tests.specs.test_version [RELEASE]

writes the present version's fingerprint anew and, where a release is named, what it stores: the examples as it resolves them.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.specs.job import ResolvedJob
from service.specs.read import read_job
from service.specs.version import READABLE, SPEC_VERSION

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
FINGERPRINTS = HERE / "fingerprints.json"
RELEASED = sorted((HERE / "released").glob("*.json"))


def fingerprint() -> str:
    """Of all that a worker reads of a stored job: names, types, defaults, bounds. What is only said of them is left out."""
    schema = _bare(ResolvedJob.model_json_schema())
    return hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()[:16]


def _bare(schema: Any, is_named: bool = False) -> Any:
    """Without titles and descriptions. `is_named`: the keys are names of arguments, of which one may be called so."""
    if isinstance(schema, list):
        return [_bare(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if is_named or key not in ("title", "description")}
    return {key: _bare(value, is_named=not is_named and key in ("properties", "$defs")) for key, value in kept.items()}


def test_a_job_as_it_is_stored_has_not_changed_since_its_version_was_given() -> None:
    known = json.loads(FINGERPRINTS.read_text(encoding="utf-8"))
    assert known.get(str(SPEC_VERSION)) == fingerprint(), (
        f"What is stored of a job is not what version {SPEC_VERSION} of the language of jobs was. Workers refuse arguments that "
        f"they do not know, so one of the version before would fail such a job. If version {SPEC_VERSION} was ever released: "
        "raise SPEC_VERSION in service/specs/version.py by one, and leave the versions before in READABLE. Then, in either "
        "case: python -m tests.specs.test_version"
    )


def test_todays_code_reads_every_version_that_it_has_a_fingerprint_of() -> None:
    assert {int(version) for version in json.loads(FINGERPRINTS.read_text(encoding="utf-8"))} == READABLE
    assert max(READABLE) == SPEC_VERSION


def test_what_is_only_said_of_an_argument_is_no_other_version() -> None:
    described = {"properties": {"title": {"type": "string", "title": "A", "description": "B"}}, "title": "C"}
    assert _bare(described) == {"properties": {"title": {"type": "string"}}}


@pytest.mark.parametrize("file", RELEASED, ids=lambda file: file.stem)
def test_a_job_that_an_earlier_release_stored_is_read_as_it_was_meant(file: Path) -> None:
    """Later code may know more arguments; it has a default for each, and leaves what was stored as it is."""
    stored = json.loads(file.read_text(encoding="utf-8"))
    read = ResolvedJob.model_validate_json(json.dumps(stored)).model_dump(mode="json")
    assert _lost(stored, read) == []


def _lost(stored: Any, read: Any, place: str = "") -> list[str]:
    """The places where what was stored is not what was read."""
    if isinstance(stored, dict) and isinstance(read, dict):
        return [lost for key, value in stored.items() for lost in _lost(value, read.get(key), f"{place}/{key}")]
    if isinstance(stored, list) and isinstance(read, list) and len(stored) == len(read):
        return [lost for index, value in enumerate(stored) for lost in _lost(value, read[index], f"{place}/{index}")]
    return [] if stored == read else [place]


def test_every_release_left_jobs() -> None:
    releases = {file.stem.split("-")[0] for file in RELEASED}
    assert releases >= {"0.1.0.dev1", "0.1.0"}


def _write_released(release: str) -> None:
    for file in [*EXAMPLES.glob("*.json"), *EXAMPLES.glob("*.yaml")]:
        text = file.read_text(encoding="utf-8")
        resolved = read_job(json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)).resolved
        stored = json.dumps(resolved.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False)
        (HERE / "released" / f"{release}-{file.stem}.json").write_text(stored + "\n", encoding="utf-8")


if __name__ == "__main__":
    before = json.loads(FINGERPRINTS.read_text(encoding="utf-8")) if FINGERPRINTS.exists() else {}
    FINGERPRINTS.write_text(json.dumps(before | {str(SPEC_VERSION): fingerprint()}, indent=1) + "\n", encoding="utf-8")
    for release in sys.argv[1:]:
        _write_released(release)
