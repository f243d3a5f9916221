"""What a sentence names between backticks is there: commands with their options, addresses, files, targets of make, links."""

import re
import shlex
from pathlib import Path

import pytest

from service.app import create_app
from service.dispatch import Doorbell
from service.settings import Settings
from service.store.session import Database
from tests.containers import ROOT
from tests.docs.blocks import BUILT, blocks, pages, spans
from tests.service.cli.commands import commands

PAGES = [page for page in pages() if not page.startswith("docs/reference/cli")]
Address = tuple[list[str], set[str]]  # its parts, and the names of its query
Addresses = dict[str, list[Address]]  # by method

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@pytest.fixture(scope="module")
def finebits() -> dict[str, set[str]]:
    """The options of each command, by its words."""
    return {words: {name for one in command.params for name in one.opts} for words, command in commands().items()}


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Addresses:
    home = tmp_path_factory.mktemp("home")
    app = create_app(Settings(home=home), Database(f"sqlite:///{home}/finebits.db"), Doorbell("redis://nowhere"))
    found: Addresses = {method: [] for method in METHODS}
    for path, operations in app.openapi()["paths"].items():
        for method, operation in operations.items():
            query = {one["name"] for one in operation.get("parameters", []) if one["in"] == "query"}
            found[method.upper()].append((path.strip("/").split("/"), query))
    return found


def words_of(page: str) -> list[list[str]]:
    """The commands in sentences and in blocks, as a shell would take them apart."""
    lines = spans(page)
    for block in blocks(page, "sh"):
        lines += block.text.replace("\\\n", " ").splitlines()
    pieces = [piece for line in lines for piece in re.split(r"\|\||&&|[|;]|\$\(", line.partition(" #")[0])]
    return [words for piece in pieces if (words := _split(piece))]


def _split(piece: str) -> list[str]:
    try:
        words = shlex.split(piece.replace("'", '"').strip(" )"), posix=False)
    except ValueError:  # half of a quotation
        words = piece.split()
    while words and (re.fullmatch(r"[A-Z_]+=\S*", words[0]) or words[0] in ("eval", '"', "exec")):
        words = words[1:]
    return words


COMMANDS = [(page, words) for page in PAGES for words in words_of(page)]


def test_every_command_of_ours_that_a_page_names_has_its_options(finebits: dict[str, set[str]]) -> None:
    asked = [(page, words) for page, words in COMMANDS if Path(words[0]).name == "finebits" and len(words) > 1]
    assert len(asked) > 50
    assert [one for one in asked if one[1][1] not in ("...", "COMMAND") and not _known(one[1][1:], finebits)] == []


def _known(words: list[str], commands: dict[str, set[str]]) -> bool:
    while words and words[0] in ("--url", "--api-key"):
        words = words[2:]
    if words and words[0] == "--help":
        return True
    name = next((name for name in (" ".join(words[:2]), words[0]) if name in commands), None)
    if name is None:  # a group by itself, or `keys create|list`
        heads = {command.split()[0] for command in commands if " " in command}
        return words[0] in heads and (len(words) == 1 or "|" in words[1] or words[1] == "...")
    options = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    return options <= {*commands[name], "--help"}


def test_every_target_of_make_that_a_page_names_is_one() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    asked = [(page, words[1].strip('"')) for page, words in COMMANDS if words[0] == "make" and len(words) > 1]
    assert len(asked) > 20
    assert [one for one in asked if re.fullmatch(r"[a-z-]+", one[1]) and one[1] not in targets] == []


def test_every_program_of_ours_that_a_page_names_is_there_and_has_its_options() -> None:
    asked = [(page, words) for page, words in COMMANDS if words[0] in ("python", "pytest") and len(words) > 1]
    asked = [one for one in asked if not one[1][1].startswith("/")]  # somebody else's
    assert len(asked) > 20
    assert [one for one in asked if not _runs(one[1])] == []


def _runs(words: list[str]) -> bool:
    if words[0] == "pytest":
        return (ROOT / words[1].partition("::")[0]).exists()
    if words[1] == "-c":
        return True
    name = words[2].replace(".", "/") if words[1] == "-m" else words[1]
    file = next((one for one in (ROOT / name, ROOT / f"{name}.py", ROOT / name / "__main__.py") if one.is_file()), None)
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    return file is not None and all(f'"{option}"' in file.read_text(encoding="utf-8") for option in options)


FOLDERS = "tests|service|worker|docs|examples|benchmarks|migrations"


def test_every_file_of_ours_that_a_page_names_is_there() -> None:
    names = re.compile(rf"(?<![\w./<{{-])((?:{FOLDERS})/[\w./-]*\w)")
    asked = [(page, name) for page in PAGES for span in spans(page) if "<" not in span for name in names.findall(span)]
    assert len(asked) > 50
    assert [one for one in asked if "_build" not in one[1] and not (ROOT / one[1]).exists()] == []


def test_every_address_that_a_page_names_is_one(addresses: Addresses) -> None:
    named = re.compile(rf"\b({'|'.join(METHODS)}) (/\S*|\.\.\./\S*)")
    asked = [(page, *found) for page in PAGES for span in spans(page) for found in named.findall(span)]
    assert len(asked) > 50
    assert [one for one in asked if not _answers(addresses[one[1]], one[2].rstrip(".,"))] == []


def _answers(known: list[Address], asked: str) -> bool:
    path, _, query = asked.partition("?")
    names = set(re.findall(r"(?:^|&)(\w+)=", query))
    parts = path.strip("/").split("/")
    if parts[0] == "...":
        return any(_is(there[1 - len(parts) :], parts[1:]) for there, _ in known)
    if path == "/" or path in ("/docs", "/openapi.json"):
        return True
    return any(_is(there, parts) and names <= its for there, its in known)


def _is(template: list[str], parts: list[str]) -> bool:
    if len(template) != len(parts):
        return False
    return all(there.startswith("{") or there == part for there, part in zip(template, parts, strict=True))


# -- links ------------------------------------------------------------------------------------------------------------------


def slugs(text: str) -> set[str]:
    """The anchors of a page's headings, and those that it sets itself."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    heads = [re.sub(r"[`*]|\]\([^)]*\)|\[", "", head) for head in re.findall(r"^#+ (.+)$", prose, re.MULTILINE)]
    made = {re.sub(r"[^\w\- ]", "", head.strip().lower()).replace(" ", "-") for head in heads}
    return made | set(re.findall(r'<a id="([^"]+)"', text)) | set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))


def test_every_link_within_leads_to_what_is_there() -> None:
    asked = [(page, link) for page in (*pages(), "CHANGELOG.md") for link in links(page)]
    assert len(asked) > 100
    assert [one for one in asked if not _leads(*one)] == []


def links(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    prose = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE)
    found: list[str] = re.findall(r"(?<!`)\]\(([^)\s]+)\)", prose)
    return [link for link in found if not link.startswith(("http://", "https://"))]


def _leads(page: str, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (ROOT / page).parent / name if name else ROOT / page
    if target.stem in BUILT and target.parent.name == "reference":
        return True  # Sphinx builds these, and checks what leads there
    return target.exists() and (not anchor or anchor in slugs(target.read_text(encoding="utf-8")))


def test_a_wrong_name_of_each_kind_is_seen(finebits: dict[str, set[str]], addresses: Addresses) -> None:
    assert not _known(["jobs", "--nothing"], finebits)
    assert not _known(["nothing"], finebits)
    assert _known(["metrics", "JOB", "--series", "loss"], finebits)
    assert not _answers(addresses["GET"], "/jobs/JOB/nothing")
    assert not _answers(addresses["GET"], "/jobs/JOB/metrics?nothing=1")
    assert _answers(addresses["GET"], "/jobs/{id}/metrics?measure=accuracy")
    assert "the-tree" in slugs("### The tree\n")
