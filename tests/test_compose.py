"""The deployment: what docker-compose.yml and the Dockerfile promise, and everything that they name, started."""

import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
import yaml
from pydantic_settings import BaseSettings

from docs import generate_settings
from docs.generate_settings import own
from service import dotenv
from service.client import Client, Problem
from service.places import Places
from service.settings import Settings
from tests.containers import ROOT, Missing, Stack, read_compose, read_dockerfile, read_dotenv
from worker.settings import WorkerSettings

AnySettings = TypeVar("AnySettings", bound=BaseSettings)

EXAMPLES = ROOT / "examples"
OURS = ("migrate", "api", "worker", "worker-cpu")
SECRETS = ("FINEBITS_API_KEY", "FINEBITS_POSTGRES_PASSWORD", "FINEBITS_BROKER_PASSWORD", "FINEBITS_SECRET_KEY")


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A short path: broker and fork server make sockets below it."""
    with tempfile.TemporaryDirectory(prefix="fb-c-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def written(home: Path) -> dict[str, str]:
    """What `finebits init` writes on a host without a GPU."""
    dotenv.write(home / ".env", dotenv.folders(home / "data", None, None))
    if os.getuid() == 0:  # in a box a process is whoever runs the tests, under another number
        os.chown(home / "data" / "artifacts", 0, 0)
    return read_dotenv(home / ".env") | {"COMPOSE_PROFILES": "cpu"}


@pytest.fixture(scope="module")
def services(written: dict[str, str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read_compose(written)["services"]
    return found


# -- what the files promise --------------------------------------------------------------------------------------------


def test_without_a_dotenv_it_says_how_to_write_one() -> None:
    with pytest.raises(Missing, match=r"there is no \.env yet.*make env.*finebits init.*fresh secrets"):
        read_compose({})


@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_has_a_default(written: dict[str, str], name: str) -> None:
    with pytest.raises(Missing, match=f"{name}: there is no .env yet"):
        read_compose({key: value for key, value in written.items() if key != name})


def test_no_secret_stands_in_the_files() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    named = {}
    for service in compose["services"].values():
        named |= service.get("environment", {})
    must_be_asked_for = {name for name in named if re.search("PASSWORD|KEY|SECRET|TOKEN|_URL", name)}
    assert must_be_asked_for >= {"POSTGRES_PASSWORD", "BROKER_PASSWORD", "FINEBITS_API_KEY", "FINEBITS_DATABASE_URL"}
    elsewhere = {"FINEBITS_ARTIFACTS_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    elsewhere |= {"FINEBITS_REQUIRE_KEY", "FINEBITS_GENERATE_MAX_TOKENS"}  # which are none
    elsewhere |= {"FINEBITS_MLFLOW_URL", "FINEBITS_WANDB_URL", "FINEBITS_TRACES_URL", "WANDB_API_KEY", "MLFLOW_TRACKING_TOKEN"}
    for name in elsewhere:  # which there may not be
        assert named[name] == f"${{{name}:-}}"
    for name in must_be_asked_for - elsewhere:
        assert re.search(r"^([a-z+]+://\w*:)?\$\{FINEBITS_\w+:\?[^}]+\}(@.*)?$", named[name]), name
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8").split("FROM", 1)[1]
    assert not re.search(r"(?i)password|secret|api_key|token", dockerfile)


def test_no_secret_is_on_a_command_line(written: dict[str, str], services: dict[str, dict[str, Any]]) -> None:
    told = json.dumps([[service.get("command"), service.get("healthcheck")] for service in services.values()])
    assert not any(written[name] in told for name in SECRETS)


def test_no_container_is_root_or_can_become_it_or_write_its_root(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        uid, gid = service["user"].split(":")
        assert (int(uid) > 0, int(gid) > 0) == (True, True), name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert "privileged" not in service
        assert "/tmp" in service["tmpfs"], name


def test_logs_rotate_and_what_runs_on_is_started_again_and_watched(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "5"}}, name
        if name == "migrate":
            assert service["restart"] == "no"
        else:
            assert service["restart"] == "unless-stopped"
            assert service["healthcheck"]["test"], name


def test_images_of_others_are_pinned_to_a_release(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        if "build" not in service:
            assert re.fullmatch(r"[\w/]+:v?\d+\.\d+(\.\d+)?", service["image"]), name
    assert re.fullmatch(r"python:3\.11\.\d+-slim", read_dockerfile()["base"].base)


def test_models_and_data_sets_are_only_read(services: dict[str, dict[str, Any]]) -> None:
    for name in ("api", "worker", "worker-cpu"):
        mounts = {mount["target"]: mount.get("read_only", False) for mount in services[name]["volumes"]}
        assert mounts == {"/artifacts": False, "/models": True, "/datasets": True}
        assert all(mount["bind"] == {"create_host_path": False} for mount in services[name]["volumes"])
    assert "volumes" not in services["migrate"]


def test_a_gpu_worker_reserves_the_gpus_and_the_other_differs_in_nothing_else(services: dict[str, dict[str, Any]]) -> None:
    gpu, cpu = services["worker"], services["worker-cpu"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    differ = {key for key in gpu.keys() | cpu.keys() if gpu.get(key) != cpu.get(key)}
    assert differ == {"profiles", "image", "build", "deploy"}
    assert cpu["build"]["args"] == {"TORCH_INDEX": "https://download.pytorch.org/whl/cpu"}
    assert "args" not in gpu["build"]


@pytest.mark.parametrize(
    "given", [{}, {"FINEBITS_GRACE_SECONDS": "600", "FINEBITS_STOP_SECONDS": "300"}], ids=["nothing", "both"]
)
def test_who_is_told_to_stop_has_time_to_do_so(written: dict[str, str], given: dict[str, str]) -> None:
    """What compose waits for before it kills, against what the processes give their jobs and requests."""
    services = read_compose(written | given)["services"]
    waits = {name: seconds_of(service["stop_grace_period"]) for name, service in services.items() if name != "migrate"}
    environment = {name: services[name]["environment"] for name in ("api", "worker", "worker-cpu")}
    for name in ("worker", "worker-cpu"):
        grace = settings_of(WorkerSettings, environment[name]).grace_seconds
        assert (grace, waits[name]) == (float(given.get("FINEBITS_GRACE_SECONDS", 120)), grace + 60)
    stop = settings_of(Settings, environment["api"]).stop_seconds
    assert (stop, waits["api"]) == (int(given.get("FINEBITS_STOP_SECONDS", 10)), stop + 60)
    assert waits["postgres"] == 60
    assert waits["broker"] == 30


def settings_of(kind: type[AnySettings], environment: dict[str, str]) -> AnySettings:
    """What a process reads in a container."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("FINEBITS_")]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        return kind()


def seconds_of(duration: str) -> float:
    """As Docker reads one: `1m30s`."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0}
    assert re.fullmatch(r"([\d.]+[hms])+", duration), duration
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)([hms])", duration))


@pytest.mark.parametrize(
    ("kind", "names"), [(Places, OURS), (Settings, ("api",)), (WorkerSettings, ("worker", "worker-cpu"))], ids=lambda it: str(it)
)
def test_every_setting_reaches_its_container_from_dotenv_or_is_made_there(
    written: dict[str, str], kind: type[BaseSettings], names: tuple[str, ...]
) -> None:
    for field_name, field in own(kind).items():
        variables = generate_settings.names(field_name, field)
        for name in names:
            plain = read_compose(written)["services"][name]["environment"]
            told = read_compose(written | dict.fromkeys(variables, "told"))["services"][name]["environment"]
            passed = {variable for variable in variables if told.get(variable) == "told"}
            is_fixed = variables[0] in generate_settings.FIXED
            assert bool(passed) != is_fixed, f"{name}: {variables[0]} is passed on, or has its reason in FIXED: one of the two"
            assert not is_fixed or plain[variables[0]]
            if not is_fixed and not field.is_required() and not written.get(variables[0]):
                assert {plain[variable] for variable in passed} == {""}, f"{name}: {variables[0]} has its default in the settings"


def test_what_is_empty_in_dotenv_is_as_if_it_were_not_there(written: dict[str, str]) -> None:
    services = read_compose(written)["services"]
    assert "" in services["api"]["environment"].values()
    given = {name: {key: value for key, value in services[name]["environment"].items() if value} for name in ("api", "worker")}
    for name, kind in {"api": Settings, "worker": WorkerSettings}.items():
        assert settings_of(kind, services[name]["environment"]) == settings_of(kind, given[name])
    hub = {"USE_MODELSCOPE_HUB": "1", "FINEBITS_MODELSCOPE": ""}
    assert settings_of(WorkerSettings, services["worker"]["environment"] | hub).modelscope is True


def test_only_the_api_can_be_reached_and_from_this_host_alone(services: dict[str, dict[str, Any]]) -> None:
    assert {name: service["ports"] for name, service in services.items() if "ports" in service} == {
        "api": ["127.0.0.1:8765:8765"],
        "grafana": ["127.0.0.1:3000:3000"],
    }


def test_the_service_s_image_has_no_torch_in_it() -> None:
    service = read_dockerfile()["service"]
    built = read_dockerfile()["service-build"]
    said = " ".join(rest for _, rest in [*service.instructions, *built.instructions])
    assert "--from=service-build" in said
    assert not re.search(r"torch|worker|transformers", said)
    dependencies = (ROOT / "pyproject.toml").read_text().split("dependencies = [")[1].split("\n]")[0]
    assert not re.search(r"torch|numpy|transformers", re.sub(r"#.*", "", dependencies))


def test_the_worker_s_image_has_the_torch_that_is_tested() -> None:
    (install,) = [
        rest for word, rest in read_dockerfile()["worker-build"].instructions if word == "RUN" and rest.endswith(" torch")
    ]
    assert "-c constraints.txt" in install
    assert '${TORCH_INDEX:+--index-url "$TORCH_INDEX"}' in install
    torch = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    assert f'"{torch}"' in (ROOT / "pyproject.toml").read_text()
    assert torch in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("target", ["service", "worker"])
def test_an_image_speaks_at_once_keeps_utc_and_is_nobody_in_particular(target: str) -> None:
    image = read_dockerfile()[target]
    assert image.environment["PYTHONUNBUFFERED"] == "1"
    assert image.environment["TZ"] == "UTC"
    assert image.environment["HOME"] == "/tmp"
    assert image.user == "10001:10001"


def test_what_an_image_is_made_of_is_there_and_reaches_the_builder() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    needed = set()
    for image in read_dockerfile().values():
        copies = [rest.split() for word, rest in image.instructions if word == "COPY" and not rest.startswith("--from")]
        needed |= {source for *sources, _ in copies for source in sources}
    assert needed == let_in
    assert all((ROOT / name).exists() for name in needed)


@pytest.mark.skipif(
    shutil.which("docker") is None or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode != 0,
    reason="there is no docker compose here; it needs no engine to read the file",
)
def test_docker_compose_reads_the_file(home: Path, written: dict[str, str]) -> None:
    command = ["docker", "compose", "--env-file", str(home / ".env"), "-f", str(ROOT / "docker-compose.yml"), "config", "-q"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# -- everything that they name, started --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stack(home: Path, written: dict[str, str]) -> Iterator[Stack]:
    (home / "s").mkdir()
    started = Stack(home / "s", written)
    try:
        started.up()
        yield started
    finally:
        started.stop()


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.url, stack.dotenv["FINEBITS_API_KEY"]) as opened:
        yield opened


@pytest.mark.slow
def test_a_job_goes_its_whole_way_through_what_compose_starts(stack: Stack, client: Client) -> None:
    for name in ("postgres", "broker", "api", "worker-cpu"):
        stack.wait_until_healthy(name)
    asked_at = datetime.now(UTC)
    document = json.loads((EXAMPLES / "sft-lora.json").read_text(encoding="utf-8"))
    document["training"] |= {"num_train_epochs": 1, "save_steps": 30}
    job_id = client.submit(document)["id"]
    for sighting in client.watch(job_id):
        job = sighting.job
    assert job["state"] == "succeeded", f"{job['sentence']}\n{stack.log('worker-cpu')}"

    # what it made is where .env says, and for nobody else's eyes
    folder = Path(stack.dotenv["FINEBITS_ARTIFACTS"], job_id)
    log = folder / "1" / "log.txt"
    assert "loss" in log.read_text()
    assert client.logs(job_id) == log.read_text()
    weights = list(folder.glob("1/sft/checkpoint-*/adapter_model.safetensors"))
    assert len(weights) == len(client.checkpoints(job_id)) >= 2
    assert [path for path in folder.rglob("*") if stat.S_IMODE(path.stat().st_mode) & 0o007] == []
    assert not any(stack.dotenv[name] in stack.log(service) + log.read_text() for name in SECRETS for service in stack.processes)

    # PostgreSQL shows its clock in Nepal's time, 5:45 ahead: a time that was taken for UTC would be hours off
    assert abs(datetime.fromisoformat(job["created_at"]) - asked_at) < timedelta(minutes=2)
    assert job["created_at"].endswith("Z")


@pytest.mark.slow
def test_who_has_no_key_sees_nothing(stack: Stack) -> None:
    stack.wait_until_healthy("api")
    for key in (None, "not the key of the service"):
        with Client(stack.url, key) as stranger, pytest.raises(Problem) as refused:
            list(stranger.jobs())
        assert refused.value.status == 401


@pytest.mark.slow
def test_a_password_is_on_no_command_line_and_the_broker_asks_for_it(stack: Stack) -> None:
    import redis

    for process in stack.processes.values():
        if process.poll() is None:
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            told = " ".join(word for member in family for word in member.cmdline())
            assert not any(stack.dotenv[name] in told for name in SECRETS)
    with redis.Redis(port=stack.ports["broker"]) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


@pytest.mark.slow
def test_health_checks_fail_when_something_is_wrong(stack: Stack) -> None:
    for name in ("api", "worker-cpu"):
        stack.wait_until_healthy(name)
    stack.stop("broker")
    assert not stack.is_healthy("broker")
    assert not stack.is_healthy("api")
    swept = stack.place("worker-cpu", "/tmp") / "swept"
    os.utime(swept, (0, 0))
    assert not stack.is_healthy("worker-cpu")
    stack.up("broker")
    for name in ("broker", "api", "worker-cpu"):
        stack.wait_until_healthy(name)


@pytest.mark.slow
def test_a_service_writes_to_its_volumes_and_tmp_and_cannot_write_elsewhere(stack: Stack, tmp_path: Path) -> None:
    if not stack.is_boxed:
        pytest.skip("no user namespaces can be made here, so nothing stands in for a read-only root")
    attempts = "import os, sys; print(os.getuid()); open(sys.argv[1], 'w')"
    for name in OURS:
        if name == "worker":
            continue
        inside = stack.boxed(name, ["python", "-c", attempts, str(stack.place(name, "/tmp") / "new")])
        done = subprocess.run(inside, env=stack.environment(name), capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, f"{stack.dotenv['FINEBITS_UID']}\n"), done.stderr
        outside = stack.boxed(name, ["python", "-c", attempts, str(stack.folder / "elsewhere")])
        done = subprocess.run(outside, env=stack.environment(name), capture_output=True, text=True)
        assert "Read-only file system" in done.stderr
