"""What the container files say, checked without an engine: these run wherever their checker is installed."""

from __future__ import annotations

import importlib.resources
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.support.repository import ROOT

DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
COMPOSE_FILES = sorted(DOCKER.glob("compose.*.yaml"))
SCRIPTS = sorted(DOCKER.rglob("*.sh"))
MANIFESTS = sorted(
    path for path in (DOCKER / "kubernetes").rglob("*.yaml") if path.name != "kustomization.yaml"
)
KUBERNETES = "1.31"

LONG_RUNNING = {
    "compose.coordinator.yaml": ("coordinator", "proxy", "screen"),
    "compose.site.yaml": ("node", "trainer"),
}


class ComposeLoader(yaml.SafeLoader):
    """YAML with Compose's two tags, `!override` and `!reset`, taken for what they tag."""


def _untagged(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.MappingNode)
    return loader.construct_mapping(node, deep=True)


for tag in ("!override", "!reset"):
    ComposeLoader.add_constructor(tag, _untagged)


def compose_file(name: str) -> dict[str, Any]:
    content = yaml.load((DOCKER / name).read_text(encoding="utf-8"), ComposeLoader)
    assert isinstance(content, dict)
    return content


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    done = subprocess.run(
        [_beside_python("hadolint"), "--no-color", path], text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(path: Path) -> None:
    done = subprocess.run([_beside_python("shellcheck"), path], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_linters_do_find_something(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian:latest\nRUN cd /tmp && sudo apt-get install x\n")
    (tmp_path / "script.sh").write_text('#!/bin/sh\nfor f in $(ls *); do rm "$g"; done\n')
    for program, name in (("hadolint", "Dockerfile"), ("shellcheck", "script.sh")):
        done = subprocess.run([_beside_python(program), tmp_path / name], capture_output=True, check=False)
        assert done.returncode != 0


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.name)
def test_a_compose_file_is_of_the_compose_specification(path: Path) -> None:
    schema_file = importlib.resources.files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json"
    schema = json.loads(schema_file.read_text(encoding="utf-8"))
    content = compose_file(path.name)
    jsonschema.validate(content, schema)
    next(iter(content["services"].values()))["restrat"] = "always"
    with pytest.raises(jsonschema.ValidationError):  # the control: the schema does refuse
        jsonschema.validate(content, schema)


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_every_service_is_hardened(name: str) -> None:
    services = compose_file(name)["services"]
    for service in LONG_RUNNING[name]:
        settings = services[service]
        assert settings["user"] == "10001:10001"
        assert settings["read_only"] is True
        assert settings["cap_drop"] == ["ALL"]
        assert "cap_add" not in settings
        assert settings["security_opt"] == ["no-new-privileges:true"]
        assert settings["mem_limit"] == settings["memswap_limit"]
        assert settings["stop_grace_period"] == "10s"


def test_a_site_publishes_no_port_and_its_trainer_has_no_network() -> None:
    services = compose_file("compose.site.yaml")["services"]
    assert not any("ports" in settings for settings in services.values())
    assert services["trainer"]["network_mode"] == services["tools"]["network_mode"] == "none"


def test_only_the_proxy_publishes_a_port_and_the_screen_one_for_this_machine() -> None:
    services = compose_file("compose.coordinator.yaml")["services"]
    published = {name: settings["ports"] for name, settings in services.items() if "ports" in settings}
    assert published == {
        "proxy": ["${FEDMINET_PORT:-443}:443"],
        "screen": ["${FEDMINET_SCREEN:-127.0.0.1:9480}:9480"],
    }


def test_the_screen_is_asked_for_reads_and_has_no_way_to_the_server() -> None:
    content = compose_file("compose.coordinator.yaml")
    screen = content["services"]["screen"]
    assert screen["profiles"] == ["screen"]
    assert not set(screen["networks"]) & set(content["services"]["coordinator"]["networks"])
    masquerade = content["networks"]["screen"]["driver_opts"][
        "com.docker.network.bridge.enable_ip_masquerade"
    ]
    assert masquerade == "false"  # no way out either
    assert all(volume.endswith(":ro") for volume in screen["volumes"])
    mounted = {volume.rpartition(":/")[0].partition("}/")[2] for volume in screen["volumes"]}
    assert mounted == {"server.yaml", "runs", "sites", "screen"}  # not pki, proxy, superlink, dashboard
    assert "--allow-control" not in screen["command"]


def test_each_part_of_a_site_writes_its_own_notes_alone() -> None:
    services = compose_file("compose.site.yaml")["services"]
    for part, other in (("node", "trainer"), ("trainer", "node")):
        targets = [volume.rpartition(":/")[2] for volume in services[part]["volumes"]]
        assert f"site/status/{part}" in targets
        assert not any(target.startswith(f"site/status/{other}") for target in targets)


def test_the_demonstrations_sites_have_the_volumes_of_a_site() -> None:
    """What `extends` would take from compose.site.yaml is ./site; every target has to be named anew."""
    services, demo = (compose_file(name)["services"] for name in ("compose.site.yaml", "compose.demo.yaml"))
    for name, settings in demo.items():
        part, _, site = name.partition("-")
        if part in ("node", "trainer"):
            own = [volume.replace("${FEDMINET_SITE:-./site}", "") for volume in services[part]["volumes"]]
            theirs = [
                volume.replace(f"${{FEDMINET_DEMO:?}}/made/sites/{site}", "")
                for volume in settings["volumes"]
            ]
            assert theirs == own


def test_the_demonstrations_services_are_those_of_the_other_files() -> None:
    services = compose_file("compose.demo.yaml")["services"]
    for name, settings in services.items():
        if name != "prepare":
            assert settings["extends"]["service"] == name.split("-")[0]
            assert set(settings) <= {"extends", "networks", "volumes", "ports", "environment"}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_manifest_is_of_kubernetes_own_schema(path: Path) -> None:
    for document in documents(path):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
        with pytest.raises(kubernetes_validate.ValidationError):  # the control
            kubernetes_validate.validate({**document, "spce": {}}, KUBERNETES, strict=True)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_pod_is_hardened(path: Path) -> None:
    for document in documents(path):
        pod = (
            document["spec"]
            if document["kind"] == "Pod"
            else document.get("spec", {}).get("template", {}).get("spec")
        )
        if pod is None:
            continue
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_takes_its_configuration(tmp_path: Path) -> None:
    from server.admission.pki import issue_server_certificate, make_ca, open_authority
    from server.admission.revocation import write_crl

    pki, passphrase = tmp_path / "pki", "a passphrase of the tests"
    make_ca(pki, name="test", passphrase=passphrase)
    authority = open_authority(pki, passphrase)
    issue_server_certificate(authority, hosts=["localhost"])
    write_crl(authority)
    (pki / "nodes.map").write_text('"~^CN=sms:bm9kZQ\\=\\=$" sms;\n')
    text = (DOCKER / "nginx" / "nginx.conf.template").read_text(encoding="utf-8")
    for former, present in {
        "/tmp/": f"{tmp_path}/",  # first: the other paths may lie below it
        "/pki/": f"{pki}/",
        "@RESOLVER@": "127.0.0.11",
        "@UPSTREAM@": "coordinator:9443",
        "listen 443": "listen 10443",
    }.items():
        text = text.replace(former, present)
    for wrong, status in (("", 0), ("no_such_directive on;", 1)):
        configuration = tmp_path / "nginx.conf"
        configuration.write_text(text + wrong)
        done = subprocess.run(
            ["nginx", "-t", "-c", configuration], text=True, capture_output=True, check=False
        )
        assert done.returncode == status, done.stderr


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.name)
def test_compose_itself_takes_its_files(path: Path) -> None:
    if not _has_compose():
        pytest.skip("docker compose is not installed")
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(Path.home()), "FEDMINET_DEMO": "/demo"}
    files = ["--file", path]
    if path.name == "compose.site-gpu.yaml":
        files = ["--file", DOCKER / "compose.site.yaml", *files]
    done = subprocess.run(
        ["docker", "compose", *files, "--profile", "*", "config", "--quiet"],
        env=environment,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _has_compose() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0


def _beside_python(program: str) -> str:
    return str(Path(sys.executable).parent / program)
