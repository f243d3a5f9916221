"""Formulas by the Temml that the dashboard has, as MathML in the reader's browser: the built pages need no other host, either.

Without scripts a formula is its LaTeX.
"""

from pathlib import Path
from typing import Any

from docutils import nodes

HERE = Path(__file__).parent
VENDOR = HERE.parent / "service" / "web" / "vendor"
FILES = (
    VENDOR / "temml" / "temml.min.js",
    VENDOR / "stix-two-math" / "stix-two-math-latin-400-normal.woff2",
    HERE / "typeset.js",
    HERE / "typeset.css",
)


def setup(app: Any) -> dict[str, bool]:
    app.add_html_math_renderer("temml", (_inline, None), (_block, None))
    for file in FILES:
        if file.suffix == ".js":
            app.add_js_file(file.name)
        elif file.suffix == ".css":
            app.add_css_file(file.name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(f'<span class="math">{writer.encode(node.astext()).strip()}</span>')
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math">{writer.encode(node.astext()).strip()}</div>\n')
    raise nodes.SkipNode
