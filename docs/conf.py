"""Sphinx: `make docs`. Pages are Markdown; those of arguments and HTTP are made here, of what the code says itself."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import reference_pages  # noqa: E402
import typeset  # noqa: E402

project = "Finebits"
author = "the Finebits authors"
copyright = "the Finebits authors, Apache License 2.0"
extensions = ["myst_parser", "typeset"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "temml"
html_static_path = [str(file) for file in typeset.FILES]
html_theme = "furo"
html_title = "Finebits"
linkcheck_ignore = [r"http://127\.0\.0\.1.*"]

reference_pages.write(ROOT / "docs" / "reference")
