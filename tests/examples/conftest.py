import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))  # the examples are scripts, not a package: they import one another by file name


@pytest.fixture(scope="session")
def examples() -> Path:
    return EXAMPLES
