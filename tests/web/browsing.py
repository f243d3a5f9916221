"""Chromium as tests and screenshots use it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

# FINEBITS_TEST_CHROMIUM names another.
PROGRAM = os.environ.get("FINEBITS_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")

# No sandbox, which root cannot have; and nothing that asks hosts of its own.
OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# What is looked for: WCAG 2.2 A and AA, and what axe calls best practices.
SERIOUS = ("serious", "critical")


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=PROGRAM, args=list(OPTIONS))
        yield browser
        browser.close()


def complaints(page: Page) -> list[str]:
    """A list that grows with what goes wrong in the page. Refused requests are not among it: tests ask for them."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(f"raised: {error}"))
    page.on("console", lambda said: found.append(f"{said.type}: {said.text}") if _is_wrong(said.type, said.text) else None)
    return found


def _is_wrong(kind: str, text: str) -> bool:
    return kind in ("error", "warning") and not text.startswith("Failed to load resource")


def inaccessible(page: Page) -> list[str]:
    """What axe finds serious or critical: rule, how often, and the first element."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']} ×{len(one['nodes'])}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in SERIOUS]
