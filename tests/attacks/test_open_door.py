"""A service that has no keys yet, which everybody on its host may ask, and a browser on that host which others' pages steer."""

import pytest

from service.app import KEYED
from tests.attacks.family import Family, each
from tests.attacks.house import opened
from tests.specs.job_documents import a_job

FAMILY = Family(
    name="The open door, by a browser",
    tried="every operation asked under a name that has come to mean 127.0.0.1 (DNS rebinding), and from pages of other origins, "
    "with bodies that a browser sends without asking",
    promise="403 before anything is looked at; what programs on the host and the service's own pages ask is answered",
    found=(
        "A page of any site could cancel jobs and upload files of a service without keys, and by rebinding read everything: such "
        "a service now answers only to loopback names, and to its own origin.",
    ),
)


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("open"), FAMILY) as house:
        with house.database.transaction() as session:
            session.connection().exec_driver_sql("DELETE FROM api_keys")
        house.door.app.state.keyring.forget()
        yield house.door


REBOUND = (
    "attacker.example",
    "attacker.example:8765",
    "10.0.0.7:8765",
    "localhost.attacker.example",
    "127.0.0.1.nip.io",
    "[::2]:80",
    "",
)

ROUTES = sorted(
    (method, route.path.replace("{global_step}", "3").replace("{name:path}", "a").replace("{", "").replace("}", ""))
    for router in KEYED
    for route in router.routes
    for method in route.methods - {"HEAD"}
)


@pytest.mark.parametrize("host", each(REBOUND, short=1))
def test_a_name_that_was_rebound_reads_and_changes_nothing(door, host):
    for method, path in ROUTES:
        response = door.request(method, path, headers={"host": host})
        assert response.status_code == 403, (method, path)
        assert "localhost" in response.json()["detail"]


ORIGINS = (
    "https://attacker.example",
    "http://localhost:9999",
    "http://localhost.attacker.example",
    "null",
    "http://127.0.0.1",
    "",
)
SIMPLE = ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain")  # which no preflight asks about


@pytest.mark.parametrize("origin", each(ORIGINS, short=1))
def test_a_page_of_another_origin_changes_nothing(door, origin):
    job_id = door.submit()
    for kind in SIMPLE if origin == ORIGINS[0] else SIMPLE[:1]:
        headers = {"origin": origin, "content-type": kind}
        for method, path in ROUTES:
            response = door.request(method, path.replace("job_id", job_id), headers=headers, content=b"")
            assert response.status_code == 403, (method, path)
    assert door.get(f"/jobs/{job_id}").json()["state"] == "queued"


@pytest.mark.parametrize("host", ["localhost", "localhost:8765", "127.0.0.1:8765", "127.8.8.8", "[::1]:8765", "LOCALHOST:1"])
def test_programs_on_the_host_and_the_service_s_own_pages_are_answered(door, host):
    for headers in ({"host": host}, {"host": host, "origin": f"http://{host}"}):
        assert door.post("/jobs", json=a_job(), headers=headers).status_code == 201
        assert door.get("/jobs", headers=headers).status_code == 200


def test_with_a_key_it_does_not_matter_under_which_name_it_is_asked(tmp_path):
    """A page of another origin has no key to send."""
    with opened(tmp_path, FAMILY) as house:
        headers = {"host": "finebits.example", "origin": "https://dashboard.example"}
        assert house.door.get("/jobs", headers=headers | house.ann).status_code == 200
        assert house.door.get("/jobs", headers=headers).status_code == 401
        answer = house.door.options(
            "/jobs", headers={"origin": "https://attacker.example", "access-control-request-method": "POST"}
        )
        assert "access-control-allow-origin" not in answer.headers
