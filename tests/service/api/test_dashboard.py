"""The page at / and its files: what they are, how they are kept, and what they forbid the browser."""

import gzip
import json
import re

from service.api import dashboard
from service.api.dashboard import FOLDER, TYPES
from service.specs.job import JobSpec
from service.specs.ledger import GROUPS, LEDGER
from tests.specs.job_documents import refusals_of

PAGE = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def files():
    return sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file())


def test_a_browser_gets_the_page_and_a_json_client_what_it_always_got(plain_door):
    page = plain_door.get("/", headers=PAGE)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<main" in page.text
    assert plain_door.get("/").status_code == 200  # as curl asks
    refused = plain_door.get("/", headers={"accept": "application/json"})
    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    assert all("accept" in answer.headers["vary"].lower() for answer in (page, refused))


def test_every_file_is_served_as_what_it_is(plain_door):
    assert len(files()) > 30
    for name in files():
        answer = plain_door.get(f"/web/{name}")
        assert answer.headers["content-type"] == TYPES[(FOLDER / name).suffix]
        assert answer.content == (FOLDER / name).read_bytes()
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_file_is_sent_packed_and_not_sent_again_while_it_is_known(plain_door):
    asked = {"accept-encoding": "gzip"}
    with plain_door.stream("GET", "/web/style.css", headers=asked) as answer:
        packed = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed) == (FOLDER / "style.css").read_bytes()
    assert answer.headers["cache-control"] == "no-cache"
    known = plain_door.get("/web/style.css", headers={"if-none-match": answer.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    assert known.headers["content-security-policy"] == answer.headers["content-security-policy"]


def test_a_changed_file_is_another(plain_door, tmp_path, monkeypatch):
    monkeypatch.setattr(dashboard, "FOLDER", tmp_path)
    (tmp_path / "a.js").write_text("1")
    first = plain_door.get("/web/a.js")
    (tmp_path / "a.js").write_text("22")
    second = plain_door.get("/web/a.js", headers={"if-none-match": first.headers["etag"]})
    assert (first.text, second.status_code, second.text) == ("1", 200, "22")


def test_nothing_else_is_served(plain_door):
    for name in ("../app.py", "%2e%2e/app.py", "/etc/passwd", "%2fetc%2fpasswd", "views", "", "views/../../app.py", "nothing.js"):
        assert plain_door.get(f"/web/{name}").status_code == 404, name


def test_nothing_beside_the_folder_is_served(plain_door, tmp_path, monkeypatch):
    monkeypatch.setattr(dashboard, "FOLDER", tmp_path / "web")
    (tmp_path / "web").mkdir()
    (tmp_path / "secret.json").write_text("[]")
    (tmp_path / "web" / "here.json").write_text("[]")
    assert plain_door.get("/web/here.json").status_code == 200
    for name in ("..%2fsecret.json", "%2e%2e%2fsecret.json", f"{tmp_path}/secret.json", f"%2f{tmp_path}/secret.json"):
        assert plain_door.get(f"/web/{name}").status_code == 404, name


def test_the_page_takes_nothing_from_elsewhere_and_runs_nothing_inline(plain_door):
    policy = plain_door.get("/", headers=PAGE).headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    html = (FOLDER / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", html)
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", html)


def test_the_page_s_own_scripts_write_no_html(plain_door):
    """Whatever a job is called stays text."""
    ours = [FOLDER / name for name in files() if name.endswith(".js") and not name.startswith("vendor/")]
    assert ours
    for path in ours:
        assert not re.search(r"\.(inner|outer)HTML\b|insertAdjacentHTML|document\.write|\beval\(|new Function", path.read_text())


def test_every_view_of_the_table_is_there():
    table = re.search(r"export const VIEWS = {(.*?)};", (FOLDER / "route.js").read_text(), re.DOTALL)[1]
    named = set(re.findall(r': "(\w+)"', table))
    assert named == {path.stem for path in (FOLDER / "views").glob("*.js")}


def test_every_file_that_the_page_names_is_there(plain_door):
    html = (FOLDER / "index.html").read_text()
    named = re.findall(r'(?:src|href)="(web/[^"]+)"', html)
    assert len(named) > 5
    for name in named:
        assert plain_door.get(f"/{name}").status_code == 200


def test_the_form_is_the_spec_s_own(plain_door):
    form = plain_door.get("/web/job.json")
    schema = form.json()["schema"]
    assert set(schema["properties"]) == set(JobSpec.model_fields)
    for group, model in GROUPS.items():
        described = schema["$defs"][schema["properties"][group]["$ref"].rsplit("/", 1)[1]]
        assert set(described["properties"]) == set(model.model_fields)
    assert {name for name, fate in form.json()["fates"].items() if fate["kind"] == "conditional"} == {
        name for name, fate in LEDGER.items() if fate.kind == "conditional"
    }
    known = plain_door.get("/web/job.json", headers={"if-none-match": form.headers["etag"]})
    assert known.status_code == 304


def test_whatever_the_form_starts_from_is_a_job_once_it_has_a_model_and_data(plain_door):
    for start in json.loads((FOLDER / "form" / "starts.json").read_text()):
        document = start["document"]
        document["model"] = {"model_name_or_path": "tiny", **document.get("model", {})}
        document["data"] = {"dataset": "letters", **document["data"]}
        assert refusals_of(document) == [], start["title"]


def test_every_import_is_a_file():
    for name in files():
        if name.endswith(".js"):
            for wanted in re.findall(r"""(?:from|import\()\s*["'](\.[^"'$]+)["']""", (FOLDER / name).read_text()):
                assert (FOLDER / name).parent.joinpath(wanted).is_file(), f"{name} imports {wanted}"
