"""`python -m tests.audit`: looks for known vulnerabilities in what constraints.txt installs, and writes a bill of materials.

The bill is CycloneDX's, of the environment that this runs in. Advisories are asked of OSV, one by one, by pip-audit: where
nobody can be asked, nothing is known, and that is said. It ends with 2 then, and with 1 where something was found.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OSV = "https://api.osv.dev/v1/query"

SECONDS = 15  # that one answer may take


def main(arguments: list[str]) -> int:
    asked = _read(arguments)
    print(f"{write_bill(asked.bill)} components stand in {asked.bill}.", flush=True)
    try:
        packages = advisories(asked.constraints, asked.advisories)
    except Unasked as error:
        print(
            f"The advisories at {asked.advisories} could not be asked, so nothing is known of the packages: {error}",
            file=sys.stderr,
        )
        return 2
    found = list(vulnerabilities(packages))
    print("\n".join([*found, f"{len(found)} known vulnerabilities in {len(packages)} packages of {asked.constraints}."]))
    return int(bool(found))


class Unasked(Exception):
    """Who knows of vulnerabilities gave no answer, or none for every package."""


def write_bill(path: Path) -> int:
    """The number of its components."""
    bill = [_program("cyclonedx-py"), "environment", "--pyproject", ROOT / "pyproject.toml", "--output-reproducible", "-o", path]
    subprocess.run([*map(str, bill), sys.executable], check=True, capture_output=True)
    return len(json.loads(path.read_text())["components"])


def advisories(constraints: Path, url: str) -> list[dict[str, Any]]:
    """Each package with what is known of it. Raises Unasked."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        where = ["--vulnerability-service", "osv", "--osv-url", url, "--timeout", str(SECONDS), "--cache-dir", folder]
        what = ["--requirement", str(constraints), "--no-deps", "--disable-pip"]
        how = ["--progress-spinner", "off", "--format", "json", "--output", str(answer)]
        done = subprocess.run([_program("pip-audit"), *what, *where, *how], capture_output=True, text=True)
        if not answer.exists():  # it ends with 1, too, where it has found something
            raise Unasked((done.stderr.strip().splitlines() or ["it says nothing."])[-1])
        packages: list[dict[str, Any]] = json.loads(answer.read_text())["dependencies"]
    if skipped := [f"{one['name']} ({one['skip_reason']})" for one in packages if "skip_reason" in one]:
        raise Unasked(f"it left out {', '.join(skipped)}.")
    return packages


def vulnerabilities(packages: list[dict[str, Any]]) -> list[str]:
    """A line for each."""
    return [
        f"{package['name']} {package['version']}: {one['id']} {' '.join(one.get('aliases', ()))}"
        f", mended in {', '.join(one['fix_versions']) or 'none yet'}"
        for package in packages
        for one in package["vulns"]
    ]


def _program(name: str) -> str:
    """Of the environment that this runs in."""
    return str(Path(sys.executable).parent / name)


def _read(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.audit", description=__doc__.partition("\n")[0])
    parser.add_argument("--constraints", type=Path, default=ROOT / "constraints.txt")
    parser.add_argument("--bill", type=Path, default=Path("sbom.json"))
    parser.add_argument("--advisories", default=OSV, help="where to ask, as OSV does")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
