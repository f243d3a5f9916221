"""What Prometheus and Grafana are given: every file is there, and every metric and label that they name is told."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from service.api import prometheus
from service.app import create_app
from service.settings import Settings
from service.specs.reasons import Reason
from service.store import leases, schema, workers
from service.store.session import Database
from service.store.states import State
from service.store.workers import Status
from tests.containers import ROOT, read_compose
from tests.service.api.door import Bell, Door
from tests.service.store.staffed import enter
from tests.service.store.stored import hold, renew, submit

MONITORING = ROOT / "examples" / "monitoring"
ALERTS = yaml.safe_load((MONITORING / "alerts.yml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((MONITORING / "grafana" / "dashboard.json").read_text(encoding="utf-8"))

RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
EXPRESSIONS = {rule["alert"]: rule["expr"] for rule in RULES}
EXPRESSIONS |= {f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Every sample's name that /metrics has of a service where something of each kind is, and its labels."""
    home = tmp_path_factory.mktemp("home")
    database = Database(f"sqlite:///{home}/finebits.db")
    schema.upgrade(database)
    me = enter(database, "worker-1", gpus=1)
    readings = {"utilization_percent": 80, "memory_used_bytes": 5_000, "temperature_celsius": 61}
    with database.transaction() as session:
        workers.heartbeat(session, me, {0: workers.Reading(readings)})
    failed = hold(database)
    with database.transaction() as session:
        leases.fail(session, failed, Reason.BAD_ROW, "Bad.")
    renew(database, hold(database), {"tokens_per_second": 10.0})
    submit(database)
    with Door(create_app(Settings(home=home), database, Bell())) as door:
        door.get("/jobs")
        text = door.get("/metrics").text
    database.close()
    return {one.name: {*one.labels} for family in text_string_to_metric_families(text) for one in family.samples}


def named_in(expression: str) -> Iterator[tuple[str, list[str]]]:
    """Each metric of ours, with the labels that are asked of it."""
    for name, _, matchers in re.findall(r"(finebits_\w+)(\{([^}]*)\})?", expression):
        yield name, re.findall(r"(\w+)\s*[=!]", matchers)


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_every_metric_and_label_that_is_asked_for_is_told(told: dict[str, set[str]], where: str) -> None:
    expression = EXPRESSIONS[where]
    named = list(named_in(expression))
    assert named or "up{" in expression
    for name, labels in named:
        assert name in told, f"{where}: /metrics has no {name}"
        assert set(labels) <= told[name], f"{where}: {name} has the labels {told[name]}"
    grouped = {label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")}
    assert grouped <= set().union(*(told[name] for name, _ in named)), where
    assert expression.count("(") == expression.count(")")


def test_a_state_that_is_asked_for_is_one_that_there_is(told: dict[str, set[str]]) -> None:
    values = {
        value for expression in EXPRESSIONS.values() for value in re.findall(r'(?:state|status|outcome)="(\w+)"', expression)
    }
    assert values <= {*map(str, State), *map(str, Status), "lost", "released"}


def test_every_metric_of_ours_is_on_the_dashboard_or_in_a_rule(told: dict[str, set[str]]) -> None:
    shown = {re.sub("_(bucket|count|sum)$", "", name) for expression in EXPRESSIONS.values() for name, _ in named_in(expression)}
    ours = {re.sub("_(bucket|count|sum)$", "", name) for name in told if name.startswith("finebits_")}
    assert ours - shown == {"finebits_build", "finebits_worker_jobs"}


def test_rules_say_what_is_wrong_and_what_to_do_and_have_labels_that_they_keep() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]
        assert rule["labels"]["severity"] in ("warning", "critical")
        kept = {label.strip() for group in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in group.split(",")}
        used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"] + rule["annotations"]["description"]))
        assert used <= kept, rule["alert"]


def test_panels_do_not_lie_on_each_other_and_read_the_data_source_that_is_there() -> None:
    [source] = yaml.safe_load((MONITORING / "grafana" / "datasource.yml").read_text())["datasources"]
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


SECRETS = dict.fromkeys(
    ("FINEBITS_POSTGRES_PASSWORD", "FINEBITS_BROKER_PASSWORD", "FINEBITS_SECRET_KEY", "FINEBITS_API_KEY"), "secret"
)
PLACES = dict.fromkeys(("FINEBITS_UID", "FINEBITS_GID", "FINEBITS_ARTIFACTS", "FINEBITS_MODELS", "FINEBITS_DATASETS"), "1")


@pytest.fixture
def services() -> dict[str, Any]:
    found: dict[str, Any] = read_compose(SECRETS | PLACES)["services"]
    return found


def mounts_of(service: dict[str, Any]) -> dict[str, Path]:
    return {mount["target"]: ROOT / mount["source"] for mount in service["volumes"] if isinstance(mount, dict)}


def test_compose_gives_both_the_files_that_there_are_where_they_look(services: dict[str, Any]) -> None:
    given = {name: mounts_of(services[name]) for name in ("prometheus", "grafana")}
    assert all(file.is_file() for mounts in given.values() for file in mounts.values())
    assert {file for mounts in given.values() for file in mounts.values()} == {
        file for file in MONITORING.rglob("*") if file.is_file()
    }
    config = yaml.safe_load(given["prometheus"]["/etc/prometheus/prometheus.yml"].read_text())
    assert all(file in given["prometheus"] for file in config["rule_files"])
    [provider] = yaml.safe_load((MONITORING / "grafana" / "provider.yml").read_text())["providers"]
    [dashboard] = [target for target, file in given["grafana"].items() if file.suffix == ".json"]
    assert Path(dashboard).parent == Path(provider["options"]["path"])


def test_prometheus_asks_the_api_with_its_key_and_grafana_asks_prometheus(services: dict[str, Any]) -> None:
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    [job] = config["scrape_configs"]
    [target] = job["static_configs"][0]["targets"]
    name, port = target.split(":")
    assert services[name]["environment"]["FINEBITS_PORT"] == port
    key_file = job["authorization"]["credentials_file"]
    [command] = services["prometheus"]["command"]
    assert f"> {key_file}" in command
    assert "/tmp" in services["prometheus"]["tmpfs"]
    [source] = yaml.safe_load((MONITORING / "grafana" / "datasource.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services
    assert f'job="{job["job_name"]}"' in EXPRESSIONS["FinebitsDown"]


def test_neither_is_started_unless_the_profile_is_asked_for(services: dict[str, Any]) -> None:
    assert [name for name, service in services.items() if service.get("profiles") == ["monitoring"]] == ["prometheus", "grafana"]


def test_the_key_that_prometheus_sends_opens_the_metrics(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/finebits.db")
    schema.upgrade(database)
    settings = Settings(home=tmp_path, api_key=SecretStr("a key of the operator's"))
    with Door(create_app(settings, database, Bell())) as door:
        answer = door.get("/metrics", headers={"Authorization": "Bearer a key of the operator's"})
        assert (answer.status_code, answer.headers["content-type"]) == (200, prometheus.MEDIA_TYPE)
    database.close()
