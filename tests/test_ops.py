"""What servers are set up with: units, image and manifests fit the commands and each other."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import compose_spec
import kubernetes_validate
import pytest
import yaml

from fanout.config import NodeConfig, SidecarConfig, Timings
from tests.support.documents import (
    OPS,
    SECRET,
    Unit,
    blocks,
    command_of,
    compose,
    configured,
    manifests,
    read_unit,
)

ROOT = Path(__file__).parents[1]
UNITS = {"fanout-node@.service": "node-1", "fanout-sidecar.service": ""}
KUBERNETES = ("1.29", "1.34")
EXPOSURE_MAX = 2.0
"""Of 10, as `systemd-analyze security` counts it; over 2 is no longer its best grade."""

DRAIN_SECONDS = 2 * Timings().drain_timeout_seconds
"""The longest drain: the last active node waits for another one, then drains for as long."""

DOCKERFILE = OPS / "container/Dockerfile"


def unit(name: str) -> Unit:
    """Return the settings of one of our units."""
    return read_unit((OPS / "systemd" / name).read_text())


@pytest.fixture(params=UNITS)
def installed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit under the name it runs by, with the commands where they are here."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    name: str = request.param
    text = (OPS / "systemd" / name).read_text()
    file = tmp_path / name.replace("@", f"@{UNITS[name]}")
    file.write_text(text.replace("/opt/fanout/bin", str(Path(sys.executable).parent)))
    return file


def analyze(verb: str, *arguments: str) -> str:
    """Run systemd-analyze; return what it says, with its exit code in front."""
    done = subprocess.run(
        ["systemd-analyze", verb, *arguments], capture_output=True, text=True, check=False
    )
    return f"{done.returncode} {done.stdout}{done.stderr}".strip()


def test_systemd_knows_every_line_of_the_units(installed: Path) -> None:
    """Nothing is misspelt, and the command exists; an unknown word is found."""
    assert analyze("verify", str(installed)) == "0"

    installed.write_text(installed.read_text().replace("KillMode=", "KilMode="))
    assert "KilMode" in analyze("verify", str(installed))


def test_the_units_expose_little(installed: Path) -> None:
    """By systemd's own count of what a service could still do."""
    said = analyze("security", "--offline=true", str(installed))
    (exposure,) = re.findall(r"Overall exposure level .*: ([0-9.]+)", said)

    assert float(exposure) < EXPOSURE_MAX


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_and_its_file_give_a_whole_configuration(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of the documentation, where LoadCredential puts it."""
    settings = unit(name)
    credential, _, source = settings["LoadCredential"][0].partition(":")
    source = source.replace("%i", UNITS[name])
    files = dict(blocks(OPS / "systemd.md", "toml"))
    (tmp_path / credential).write_text(files[source])
    config = configured(command_of(settings, UNITS[name], tmp_path), {}, monkeypatch)

    assert config.secret
    assert len(config.discovery) == 2
    assert not isinstance(config, NodeConfig) or config.id == UNITS[name]


def test_a_unit_waits_for_a_drain_and_signals_the_agent_alone() -> None:
    """Redis must outlive the drain; a node drained on purpose and a wrong setting stay down."""
    node = unit("fanout-node@.service")

    assert node["KillMode"] == ["mixed"]
    assert float(node["TimeoutStopSec"][0]) > DRAIN_SECONDS
    assert node["Restart"] == ["on-failure"]
    for name in UNITS:
        assert unit(name)["RestartPreventExitStatus"] == ["2"]
        assert unit(name)["Type"] == ["notify"]


def test_the_dockerfile_is_clean() -> None:
    """By hadolint, with the one exception that it explains."""
    hadolint = str(Path(sys.executable).with_name("hadolint"))
    done = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_gets_all_that_the_wheel_is_built_from(tmp_path: Path) -> None:
    """A build from just the files that are copied holds every module."""
    for sources, target in re.findall(
        r"^COPY ([^-].*) (\S+)$", DOCKERFILE.read_text(), re.MULTILINE
    ):
        for source in sources.split():
            path = ROOT / source
            to = tmp_path / (source if target == "./" else target)
            shutil.copytree(path, to) if path.is_dir() else shutil.copy(path, to)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    done = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", str(wheel)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    for module in (*ROOT.glob("src/**/*.py"), *ROOT.glob("cli/**/*.py")):
        assert "/".join(module.relative_to(ROOT).parts[1:]) in done.stdout


def test_the_compose_file_is_one() -> None:
    """By the Compose specification, and what is depended on exists."""
    data = yaml.safe_load((OPS / "container/compose.yaml").read_text())
    compose_spec.PyCompose.from_yaml(yaml.safe_dump(data)).validate()
    services = data["services"]

    for service in services.values():
        assert set(service.get("depends_on", ())) <= services.keys()


@pytest.mark.parametrize("name", [name for name in compose() if name != "discovery"])
def test_a_composed_service_gives_a_whole_configuration(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flags and environment together; nodes are found under the names of their services."""
    service = compose()[name]
    environment = {**service["environment"], "FANOUT_SECRET": SECRET}
    config = configured(service["command"], environment, monkeypatch)

    assert config.secret == SECRET
    if isinstance(config, NodeConfig):
        assert (config.id, config.advertise and config.advertise.host) == (name, name)
        assert float(service["stop_grace_period"].removesuffix("s")) > DRAIN_SECONDS
    else:
        doors = {f"127.0.0.1:{door.port}:{door.port}" for door in (config.resp, config.ws)}
        assert set(service["ports"]) == doors


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_line(version: str) -> None:
    """Strictly: an unknown field is an error."""
    for document in manifests():
        kubernetes_validate.validate(document, version, strict=True)
        document["spec"]["replica"] = 1
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(document, version, strict=True)


def pods() -> dict[str, dict[str, Any]]:
    """Return the pod templates, by the name of what makes them."""
    return {
        each["metadata"]["name"]: each["spec"]["template"]
        for each in manifests()
        if "template" in each["spec"]
    }


def environment_of(container: dict[str, Any]) -> dict[str, str]:
    """Return the environment of a container, made up where the cluster fills it in."""
    filled = {"metadata.name": "pod-0", "status.podIP": "10.1.2.3"}
    found: dict[str, str] = {}
    for entry in container["env"]:
        origin = entry.get("valueFrom", {})
        reference = origin.get("fieldRef", {}).get("fieldPath")
        value = entry.get("value") or (filled[reference] if reference else SECRET)
        found[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda name: found[name[1]], value)
    return found


def ours() -> dict[str, dict[str, Any]]:
    """Return the containers that run one of our commands, by name."""
    return {
        container["name"]: container
        for pod in pods().values()
        for container in (*pod["spec"]["containers"], *pod["spec"].get("initContainers", ()))
        if container.get("command", [""])[0].startswith("fanout-")
    }


@pytest.mark.parametrize("name", ["node", "fanout-sidecar"])
def test_a_container_gives_a_whole_configuration(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its environment, as the cluster fills it in."""
    container = ours()[name]
    environment = environment_of(container)
    config = configured(container["command"], environment, monkeypatch)

    assert (config.id, config.secret, len(config.discovery)) == ("pod-0", SECRET, 2)
    if isinstance(config, NodeConfig):
        assert str(config.advertise) == "10.1.2.3:6379"
        assert config.spawn is not None
        assert container["ports"][0]["containerPort"] == config.spawn.port
    assert ours().keys() == {"node", "fanout-sidecar"}


def test_a_pod_waits_for_a_drain_and_a_service_for_its_sidecar() -> None:
    """The grace period, and what makes a native sidecar of an init container."""
    sidecar = pods()["chat"]["spec"]["initContainers"][0]

    assert pods()["fanout-node"]["spec"]["terminationGracePeriodSeconds"] > DRAIN_SECONDS
    assert sidecar["restartPolicy"] == "Always"
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= sidecar.keys()


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Return whether a selector, of labels or of expressions with In, picks these labels."""
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    expressions = selector.get("matchExpressions", ())
    return wanted and all(labels.get(each["key"]) in each["values"] for each in expressions)


def test_the_manifests_fit_each_other() -> None:
    """Selectors pick their pods, nodes and discovery are guarded, and members may reach them."""
    labels = {name: pod["metadata"]["labels"] for name, pod in pods().items()}
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for each in manifests():
        by_kind.setdefault(each["kind"], []).append(each)

    for each in (*by_kind["StatefulSet"], *by_kind["Deployment"], *by_kind["PodDisruptionBudget"]):
        name = each["metadata"]["name"]
        picked = {pod for pod in labels if matches(each["spec"]["selector"], labels[pod])}
        assert picked == {name}
    services = {each["metadata"]["name"] for each in by_kind["Service"]}
    assert {each["spec"]["serviceName"] for each in by_kind["StatefulSet"]} == services
    (policy,) = by_kind["NetworkPolicy"]
    guarded = {pod for pod in labels if matches(policy["spec"]["podSelector"], labels[pod])}
    (rule,) = policy["spec"]["ingress"]
    (source,) = rule["from"]
    admitted = {pod for pod in labels if matches(source["podSelector"], labels[pod])}
    assert guarded == {"fanout-node", "fanout-discovery"}
    assert admitted == {"fanout-node", "chat"}


def test_every_container_is_held_short() -> None:
    """No root, no privileges, nothing to write to."""
    for pod in pods().values():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in (*spec["containers"], *spec.get("initContainers", ())):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_what_sidecars_publish_to_is_the_same_everywhere() -> None:
    """Both kinds of member look at the same discovery, and SidecarConfig's admin door is asked."""
    places = {environment_of(each)["FANOUT_DISCOVERY"] for each in ours().values()}
    door = f"http://{SidecarConfig(id='a', local=1).admin}/"
    (image,) = re.findall(r"r\.urlopen\('[^']*'", DOCKERFILE.read_text())

    assert len(places) == 1
    assert door in image
    assert all(door in probe for probe in probes("fanout-sidecar").values())


def probes(container: str) -> dict[str, str]:
    """Return the last word of what each probe of a container runs."""
    return {
        name: probe["exec"]["command"][-1]
        for name, probe in ours()[container].items()
        if name.endswith("Probe")
    }


def test_a_node_is_asked_at_its_admin_door() -> None:
    """Whether it lives and has started, where its environment puts the door; in compose likewise."""
    door = f"http://{environment_of(ours()['node'])['FANOUT_ADMIN']}/"
    asked = probes("node")
    (image,) = re.findall(r"r\.urlopen\('([^']*)'", DOCKERFILE.read_text())

    assert f"'{door}readyz'" in asked["startupProbe"]
    assert f"'{door}healthz'" in asked["livenessProbe"]
    assert asked["readinessProbe"] == "status"
    for name, service in compose().items():
        if name.startswith("node-"):
            assert image == f"http://{service['environment']['FANOUT_ADMIN']}/readyz"
            assert "healthcheck" not in service
