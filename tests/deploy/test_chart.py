"""The chart hami-daemon: what helm makes of it, object by object."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from alerts.config import JOBS, RUNBOOKS
from alerts.generate import by_namespace, prices
from alerts.model import Alert
from alerts.rules import ALERTS
from testing.tools import require
from tests.deploy.chart import (
    CHART,
    ELSEWHERE,
    EVERYTHING,
    MONITOR_ONLY,
    OFF,
    OPERATOR,
    READ_ONLY,
    ROOT,
    Object,
    assignments,
    helm,
)

#: Each runs helm.
pytestmark = pytest.mark.slow


def template(
    *values: str,
    apis: Sequence[str] = OPERATOR,
    release: str = "hami-daemon",
    namespace: str = "koordinator-system",
) -> subprocess.CompletedProcess[str]:
    return helm(
        *("template", release, str(CHART), "--namespace", namespace),
        *assignments(values),
        *(argument for api in apis for argument in ("--api-versions", api)),
    )


def render(
    *values: str,
    apis: Sequence[str] = OPERATOR,
    release: str = "hami-daemon",
    namespace: str = "koordinator-system",
) -> list[Object]:
    done = template(*values, apis=apis, release=release, namespace=namespace)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def one(objects: Sequence[Object], kind: str) -> Object:
    (found,) = (item for item in objects if item["kind"] == kind)
    return found


def pod(objects: Sequence[Object]) -> Object:
    spec: Object = one(objects, "DaemonSet")["spec"]["template"]["spec"]
    return spec


def monitor(objects: Sequence[Object]) -> Object:
    (container,) = pod(objects)["containers"]
    assert container["name"] == "vgpu-monitor"
    assert isinstance(container, dict)
    return container


def kinds(objects: Sequence[Object]) -> set[str]:
    return {item["kind"] for item in objects}


@pytest.mark.parametrize(
    "values", [(), EVERYTHING, ELSEWHERE, OFF, MONITOR_ONLY, READ_ONLY], ids=str
)
def test_lint_accepts(values: Sequence[str]) -> None:
    done = helm("lint", "--strict", str(CHART), *assignments(values))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "values", [(), EVERYTHING, ELSEWHERE, OFF, MONITOR_ONLY, READ_ONLY], ids=str
)
def test_objects_fit_kubernetes_schemas(values: Sequence[str]) -> None:
    for item in render(*values, apis=()):
        for version in ("1.25", "1.37"):
            kubernetes_validate.validate(item, version, strict=True)


def operator(objects: Sequence[Object]) -> subprocess.CompletedProcess[str]:
    """What the Prometheus operator's own Go types say of the objects."""
    return subprocess.run(
        [require("go"), "run", "."],
        cwd=Path(__file__).parent / "operator",
        input=yaml.safe_dump_all(objects),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_monitoring_objects_fit_the_operators_types() -> None:
    objects = [
        item
        for values in ((), EVERYTHING, ELSEWHERE)
        for item in render(*values)
        if item["apiVersion"] == "monitoring.coreos.com/v1"
    ]
    assert len(objects) == 8
    done = operator(objects)
    assert (done.returncode, done.stdout) == (0, "8\n"), done.stderr


def test_the_operators_types_refuse_a_misspelt_field() -> None:
    done = operator(
        [
            item
            for item in render("serviceMonitor.endpoint.intervall=15s")
            if item["kind"] == "ServiceMonitor"
        ]
    )
    assert done.returncode != 0
    assert "intervall" in done.stderr


def test_default_objects() -> None:
    objects = render()
    assert kinds(objects) == {
        *("DaemonSet", "Service", "ServiceAccount", "ClusterRole", "ClusterRoleBinding"),
        *("ServiceMonitor", "PrometheusRule", "ConfigMap"),
    }
    daemonset = one(objects, "DaemonSet")
    labels = {
        "koord-app": "hami-daemon",
        "app.kubernetes.io/name": "hami-daemon",
        "app.kubernetes.io/instance": "hami-daemon",
    }
    # 0.2.0's selector, without which `helm upgrade` from it is refused.
    assert daemonset["metadata"]["name"] == "hami-daemon"
    assert daemonset["spec"]["selector"] == {"matchLabels": labels}
    assert daemonset["spec"]["template"]["metadata"]["labels"] == labels
    spec = pod(objects)
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term["matchExpressions"] == [
        {
            "key": "koordinator.sh/gpu-isolation-provider",
            "operator": "In",
            "values": ["HAMi-core"],
        }
    ]
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["hostPID"] is True
    assert spec["serviceAccountName"] == "hami-daemon-vgpu-monitor"
    assert "hostNetwork" not in spec
    service = one(objects, "Service")["spec"]
    assert service["selector"] == labels
    assert service["type"] == "ClusterIP"
    assert service["ports"] == [
        {"name": "metrics", "port": 9394, "protocol": "TCP", "targetPort": 9394}
    ]


def test_the_monitor_writes_in_one_place_only() -> None:
    objects = render()
    container = monitor(objects)
    assert container["args"] == [
        *("serve", "--listen-address=:9394", "--pods=kubernetes", "--feedback", "--gc")
    ]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": False,
        "runAsUser": 0,
        "runAsGroup": 0,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["volumeMounts"] == [
        {"name": "containers", "mountPath": "/usr/local/vgpu/containers", "readOnly": False},
        # Where HAMi puts its lock file while it changes MIG devices.
        {"name": "hami", "mountPath": "/tmp/hami", "readOnly": True},
    ]
    volumes = {volume["name"]: volume for volume in pod(objects)["volumes"]}
    assert volumes["containers"]["hostPath"]["path"] == "/usr/local/vgpu/containers"
    assert volumes["hami"]["hostPath"]["path"] == "/tmp/hami"
    assert set(volumes) == {"containers", "hami", "vgpu-hook", "vgpu-lock"}
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert environment == {
        "NODE_NAME": None,
        "NVIDIA_VISIBLE_DEVICES": "all",
        "HOOK_PATH": "/usr/local/vgpu",
        "KUBERNETES_CLUSTER_DOMAIN": "cluster.local",
    }
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}


def test_the_exporter_knows_the_charts_flags() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vgpumonitor", "serve", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    known = set(re.findall(r"--[a-z-]+", done.stdout))
    flags = {flag.partition("=")[0] for flag in monitor(render(*EVERYTHING))["args"][1:]}
    assert flags <= known


def test_the_monitor_is_unprivileged_where_it_only_reads() -> None:
    container = monitor(render(*READ_ONLY))
    assert "--feedback" not in container["args"]
    assert "--gc" not in container["args"]
    context = container["securityContext"]
    assert (context["runAsNonRoot"], context["runAsUser"]) == (True, 65532)
    assert [mount["readOnly"] for mount in container["volumeMounts"]] == [True, True]


@pytest.mark.parametrize("switch", ["feedback", "gc"])
def test_either_job_alone_needs_the_owner(switch: str) -> None:
    other = {"feedback": "gc", "gc": "feedback"}[switch]
    container = monitor(render(f"daemon.vgpuMonitor.{other}=false"))
    assert f"--{switch}" in container["args"]
    assert f"--{other}" not in container["args"]
    assert container["securityContext"]["runAsUser"] == 0
    assert container["volumeMounts"][0]["readOnly"] is False


def test_rights_end_at_listing_pods() -> None:
    objects = render()
    assert one(objects, "ClusterRole")["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}
    ]
    assert one(objects, "ClusterRoleBinding")["subjects"] == [
        {
            "kind": "ServiceAccount",
            "name": "hami-daemon-vgpu-monitor",
            "namespace": "koordinator-system",
        }
    ]


def test_without_the_monitor_only_the_library_is_left() -> None:
    objects = render(*OFF)
    assert kinds(objects) == {"DaemonSet"}
    spec = pod(objects)
    assert spec["automountServiceAccountToken"] is False
    # Else the API server keeps the account of the release before, which the upgrade deletes.
    assert spec["serviceAccountName"] == "default"
    assert "hostPID" not in spec
    assert [container["name"] for container in spec["initContainers"]] == ["hami-core"]
    (idle,) = spec["containers"]
    assert idle["image"] == "docker.m.daocloud.io/projecthami/hami:v2.6.0"
    assert "volumeMounts" not in idle


def test_the_monitor_alone_leaves_the_library_to_others() -> None:
    spec = pod(render(*MONITOR_ONLY))
    assert "initContainers" not in spec
    assert [container["name"] for container in spec["containers"]] == ["vgpu-monitor"]
    assert [volume["name"] for volume in spec["volumes"]] == ["containers", "hami"]


def test_nothing_to_run_is_an_error() -> None:
    done = helm("template", str(CHART), *assignments([*MONITOR_ONLY, *OFF]))
    assert done.returncode != 0
    assert "nothing is left to run" in done.stderr


def test_the_library_is_replaced_under_running_pods(tmp_path: Path) -> None:
    """The init container's own script, on directories of this test."""
    (container,) = pod(render("daemon.hamiCore.libvgpuSoVersion=v2.9.0"))["initContainers"]
    for directory in ("k8s-vgpu/lib/nvidia", "usr/local/vgpu", "tmp/vgpulock"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "tmp/vgpulock").chmod(0o755)
    (tmp_path / "k8s-vgpu/lib/nvidia/libvgpu.so.v2.9.0").write_text("new")
    library = tmp_path / "usr/local/vgpu/libvgpu.so"
    library.write_text("old")
    shell, flags, script = container["command"]
    for path in ("/k8s-vgpu", "/usr/local/vgpu", "/tmp/vgpulock"):
        script = script.replace(path, f"{tmp_path}{path}")
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    with library.open() as mapped:
        subprocess.run([shell, flags, script], env=os.environ | environment, check=True)
        assert mapped.read() == "old"
    assert library.read_text() == "new"
    assert [path.name for path in library.parent.iterdir()] == ["libvgpu.so"]
    assert stat.S_IMODE((tmp_path / "tmp/vgpulock").stat().st_mode) == 0o777


def test_a_lock_directory_of_another_user_does_not_stop_the_copy(tmp_path: Path) -> None:
    """Root without CAP_FOWNER: chmod fails."""
    (container,) = pod(render())["initContainers"]
    shell, flags, script = container["command"]
    for directory in ("lib", "vgpu", "lock", "bin"):
        (tmp_path / directory).mkdir()
    (tmp_path / "lib/libvgpu.so.v1").write_text("new")
    (tmp_path / "bin/chmod").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin/chmod").chmod(0o755)
    for path, mine in (
        ("/k8s-vgpu/lib/nvidia", "lib"),
        ("/usr/local/vgpu", "vgpu"),
        ("/tmp/vgpulock", "lock"),
    ):
        script = script.replace(path, f"{tmp_path}/{mine}")
    done = subprocess.run(
        [shell, flags, script],
        env=os.environ | {"LIBVGPU_VERSION": "v1", "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "is not open to all users" in done.stderr
    assert (tmp_path / "vgpu/libvgpu.so").read_text() == "new"


def test_a_library_that_the_image_lacks_is_an_error(tmp_path: Path) -> None:
    (container,) = pod(render())["initContainers"]
    shell, flags, script = container["command"]
    script = script.replace("/tmp/vgpulock", str(tmp_path)).replace("/k8s-vgpu", f"{tmp_path}/no")
    done = subprocess.run(
        [shell, flags, script],
        env=os.environ | {"LIBVGPU_VERSION": "v0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "libvgpu.so.v0" in done.stderr


@pytest.mark.parametrize(
    ("value", "path", "expected"),
    [
        ("daemon.affinity=null", ("affinity",), None),
        ("daemon.tolerations[0].key=gpu", ("tolerations", 0, "key"), "gpu"),
        (
            "daemon.hamiCore.libvgpuSoVersion=v2.9.0",
            ("initContainers", 0, "env", 0),
            {"name": "LIBVGPU_VERSION", "value": "v2.9.0"},
        ),
        (
            "daemon.hamiCore.image.repository=r/hami",
            ("initContainers", 0, "image"),
            "r/hami:v2.6.0",
        ),
        (
            "daemon.hamiCore.image.tag=v2.9.0",
            ("initContainers", 0, "image"),
            "docker.m.daocloud.io/projecthami/hami:v2.9.0",
        ),
        (
            "daemon.hamiCore.imagePullPolicy=Always",
            ("initContainers", 0, "imagePullPolicy"),
            "Always",
        ),
        (
            "daemon.hamiCore.resources.limits.cpu=1",
            ("initContainers", 0, "resources", "limits", "cpu"),
            1,
        ),
        (
            "daemon.hamiCore.containerSecurityContext.privileged=true",
            ("initContainers", 0, "securityContext", "privileged"),
            True,
        ),
        ("daemon.vgpuMonitor.image.repository=r/m", ("containers", 0, "image"), "r/m:0.1.0"),
        ("daemon.vgpuMonitor.image.tag=dev", ("containers", 0, "image"), "vgpumonitor:dev"),
        (
            "daemon.vgpuMonitor.imagePullPolicy=Never",
            ("containers", 0, "imagePullPolicy"),
            "Never",
        ),
        (
            "daemon.vgpuMonitor.resources.requests.memory=64Mi",
            ("containers", 0, "resources", "requests", "memory"),
            "64Mi",
        ),
        (
            "daemon.vgpuMonitor.env.nvidiaVisibleDevices=none",
            ("containers", 0, "env", 1, "value"),
            "none",
        ),
        (
            "daemon.vgpuMonitor.env.nvidiaVisibleDevices=0",
            ("containers", 0, "env", 1, "value"),
            "0",
        ),
        ("daemon.vgpuMonitor.image.tag=1.5", ("containers", 0, "image"), "vgpumonitor:1.5"),
        (
            "daemon.hamiCore.image.tag=",
            ("initContainers", 0, "image"),
            "docker.m.daocloud.io/projecthami/hami:v2.6.0",
        ),
        (
            "daemon.vgpuMonitor.env.hookPath=/opt/vgpu/",
            ("volumes", 2, "hostPath", "path"),
            "/opt/vgpu/containers",
        ),
        (
            "daemon.vgpuMonitor.env.hookPath=/opt/vgpu",
            ("containers", 0, "volumeMounts", 0, "mountPath"),
            "/opt/vgpu/containers",
        ),
        ("kubernetesClusterDomain=gpu.local", ("containers", 0, "env", 3, "value"), "gpu.local"),
        ("daemon.vgpuMonitor.hostPID=false", ("hostPID",), False),
        ("daemon.runtimeClassName=nvidia", ("runtimeClassName",), "nvidia"),
        ("daemon.hostNetwork=true", ("hostNetwork",), True),
        ("daemon.dnsPolicy=Default", ("dnsPolicy",), "Default"),
        ("daemon.serviceAccount.create=false", ("serviceAccountName",), "default"),
        ("daemon.serviceAccount.name=gpu", ("serviceAccountName",), "gpu"),
        (
            "global.imagePullSecrets[0]=one",
            ("imagePullSecrets",),
            [{"name": "one"}],
        ),
        (
            "daemon.vgpuMonitor.extraArgs[0]=--process-metrics",
            ("containers", 0, "args", 5),
            "--process-metrics",
        ),
    ],
)
def test_value_reaches_the_pod(value: str, path: Sequence[str | int], expected: object) -> None:
    node: Any = pod(render(value))
    for step in path:
        node = node.get(step) if isinstance(node, dict) else node[step]
    assert node == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("daemon.type=NodePort",), "NodePort"),
        # Koordinator's chart has both and ignores the second.
        (("daemon.type=NodePort", "daemon.vgpuMonitor.type=ClusterIP"), "NodePort"),
        (("daemon.vgpuMonitor.type=NodePort",), "ClusterIP"),
        (("daemon.type=ExternalName",), "ClusterIP"),
    ],
    ids=str,
)
def test_service_type(values: Sequence[str], expected: str) -> None:
    assert one(render(*values), "Service")["spec"]["type"] == expected


MIG = "daemon.vgpuMonitor.env.nvidiaMigMonitorDevices=all"
ADMIN = "daemon.vgpuMonitor.containerSecurityContext.capabilities.add[0]=SYS_ADMIN"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((), None),
        ((ADMIN,), None),
        # What --reuse-values brings from Koordinator's chart: NVIDIA's runtime refuses it.
        ((MIG,), None),
        ((MIG, ADMIN), "all"),
        ((MIG, "daemon.vgpuMonitor.containerSecurityContext.privileged=true"), "all"),
    ],
    ids=str,
)
def test_mig_monitoring_needs_the_right_to_it(values: Sequence[str], expected: str | None) -> None:
    environment = {entry["name"]: entry.get("value") for entry in monitor(render(*values))["env"]}
    assert environment.get("NVIDIA_MIG_MONITOR_DEVICES") == expected


def test_a_security_context_is_added_to_the_charts() -> None:
    context = monitor(
        render(ADMIN, "daemon.vgpuMonitor.containerSecurityContext.seLinuxOptions.type=spc_t")
    )["securityContext"]
    assert context["capabilities"] == {"add": ["SYS_ADMIN"], "drop": ["ALL"]}
    assert context["seLinuxOptions"] == {"type": "spc_t"}
    assert context["readOnlyRootFilesystem"] is True


def test_privileged_implies_privilege_escalation() -> None:
    """Without it the API server refuses the pod."""
    objects = render(
        "daemon.vgpuMonitor.containerSecurityContext.privileged=true",
        "daemon.hamiCore.containerSecurityContext.privileged=true",
        "daemon.hamiCore.containerSecurityContext.allowPrivilegeEscalation=null",
    )
    for container in (monitor(objects), pod(objects)["initContainers"][0]):
        assert container["securityContext"]["privileged"] is True
        assert container["securityContext"].get("allowPrivilegeEscalation", True) is True


def test_kubernetes_1_18_knows_each_field() -> None:
    done = helm("template", str(CHART), "--kube-version", "1.18")
    assert done.returncode == 0, done.stderr
    assert "seccompProfile" not in done.stdout


@pytest.mark.parametrize("length", [50, 62, 63])
def test_long_names_stay_apart(length: int) -> None:
    objects = render(f"fullnameOverride={'x' * length}")
    names = [(item["kind"], item["metadata"]["name"]) for item in objects]
    assert len(set(names)) == len(names)
    maps = [name for kind, name in names if kind == "ConfigMap"]
    assert len(maps) == len(list((ROOT / "dashboards").glob("*.json")))
    assert max(map(len, maps)) <= 63


def test_releases_of_one_name_share_no_object() -> None:
    def cluster_wide(namespace: str) -> set[tuple[str, str]]:
        return {
            (item["kind"], item["metadata"]["name"])
            for item in render("openshift.securityContextConstraints=true", namespace=namespace)
            if "namespace" not in item["metadata"]
        }

    assert len(cluster_wide("one")) == 3
    assert not cluster_wide("one") & cluster_wide("two")


def test_a_cluster_needs_an_image_that_nodes_can_pull() -> None:
    real = (*OPERATOR, "apps/v1/DaemonSet")
    done = template(apis=real)
    assert done.returncode != 0
    assert "daemon.vgpuMonitor.image.repository is not set" in done.stderr
    objects = render("daemon.vgpuMonitor.image.repository=r/vgpumonitor", apis=real)
    assert monitor(objects)["image"] == "r/vgpumonitor:0.1.0"


def test_service_annotations() -> None:
    metadata = one(render("service.annotations.team=gpu"), "Service")["metadata"]
    assert metadata["annotations"] == {"team": "gpu"}


def test_an_account_of_ones_own_gets_the_rights() -> None:
    own = ("daemon.serviceAccount.create=false", "daemon.serviceAccount.name=gpu")
    objects = render(*own)
    assert "ServiceAccount" not in kinds(objects)
    assert one(objects, "ClusterRoleBinding")["subjects"] == [
        {"kind": "ServiceAccount", "name": "gpu", "namespace": "koordinator-system"}
    ]
    assert not kinds(render(*own, "rbac.create=false")) & {"ClusterRole", "ClusterRoleBinding"}
    account = one(render("daemon.serviceAccount.annotations.team=gpu"), "ServiceAccount")
    assert account["metadata"]["annotations"] == {"team": "gpu"}


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        ("", "mirror:5000/gpu/vgpumonitor:0.1.0"),
        ("quay.io/team/vgpumonitor", "mirror:5000/gpu/team/vgpumonitor:0.1.0"),
        ("localhost/vgpumonitor", "mirror:5000/gpu/vgpumonitor:0.1.0"),
        ("team/vgpumonitor", "mirror:5000/gpu/team/vgpumonitor:0.1.0"),
    ],
)
def test_one_registry_for_both_images(repository: str, expected: str) -> None:
    values = (
        "global.imageRegistry=mirror:5000/gpu/",
        f"daemon.vgpuMonitor.image.repository={repository}",
    )
    # As on a cluster, which needs a registry.
    objects = render(*values, apis=[*OPERATOR, "apps/v1/DaemonSet"])
    assert monitor(objects)["image"] == expected
    (init,) = pod(objects)["initContainers"]
    assert init["image"] == "mirror:5000/gpu/projecthami/hami:v2.6.0"


def test_a_namespace_of_ones_own() -> None:
    objects = render(
        *EVERYTHING, "namespaceOverride=gpu", "openshift.securityContextConstraints=true"
    )
    for item in objects:
        cluster = item["kind"].startswith(("Cluster", "SecurityContext"))
        assert item["metadata"].get("namespace") == (None if cluster else "gpu")
    assert one(objects, "ServiceMonitor")["spec"]["namespaceSelector"] == {"matchNames": ["gpu"]}
    assert one(objects, "ClusterRoleBinding")["subjects"][0]["namespace"] == "gpu"
    (constraints,) = (o for o in objects if o["kind"] == "SecurityContextConstraints")
    assert constraints["users"] == ["system:serviceaccount:gpu:hami-daemon-vgpu-monitor"]


def test_objects_in_another_namespace_know_the_release() -> None:
    objects = render(*ELSEWHERE)
    placed = [item for item in objects if item["metadata"].get("namespace") == "kube-system"]
    assert {item["kind"] for item in placed} == {
        *("ConfigMap", "PodMonitor", "PrometheusRule", "ServiceMonitor")
    }
    # Releases of one name in other namespaces have others.
    assert all(item["metadata"]["name"].endswith("-koordinator-system") for item in placed)
    for kind in ("ServiceMonitor", "PodMonitor"):
        spec = one(objects, kind)["spec"]
        assert spec["namespaceSelector"] == {"matchNames": ["koordinator-system"]}
    (endpoint,) = one(objects, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["honorLabels"] is False


def test_the_service_has_what_it_is_given() -> None:
    service = one(render(*ELSEWHERE), "Service")
    assert service["metadata"]["labels"]["team"] == "gpu"
    assert service["metadata"]["labels"]["koord-app"] == "hami-daemon"
    assert service["spec"]["internalTrafficPolicy"] == "Local"


def test_openshift_allows_the_nodes_network_where_it_is_asked_for() -> None:
    (found,) = (
        item
        for item in render("openshift.securityContextConstraints=true", *ELSEWHERE)
        if item["kind"] == "SecurityContextConstraints"
    )
    assert (found["allowHostNetwork"], found["allowHostPorts"]) == (True, True)
    assert found["users"] == ["system:serviceaccount:koordinator-system:gpu"]


def test_openshift_allows_what_the_pods_ask_for() -> None:
    (found,) = (
        item
        for item in render("openshift.securityContextConstraints=true", ADMIN)
        if item["kind"] == "SecurityContextConstraints"
    )
    assert found["users"] == ["system:serviceaccount:koordinator-system:hami-daemon-vgpu-monitor"]
    assert found["allowedCapabilities"] == ["FOWNER", "SYS_ADMIN"]
    assert (found["allowHostPID"], found["allowHostDirVolumePlugin"]) == (True, True)
    assert found["allowPrivilegedContainer"] is False


def test_service_ports() -> None:
    service = one(render("daemon.vgpuMonitor.ports[0].port=80"), "Service")
    assert service["spec"]["ports"] == [{"port": 80}]


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("serviceMonitor.intervall=15s", "intervall"),
        ("daemon.type=Cluster", "type"),
        ("daemon.hamiCore.imagePullPolicy=Sometimes", "imagePullPolicy"),
        ("daemon.vgpuMonitor.feedback=perhaps", "feedback"),
        ("daemon.vgpuMonitor.env.hookPath=vgpu", "hookPath"),
        ("serviceMonitor.interval=15", "interval"),
        ("prometheusRule.alerts.VgpuIdle.threshold=1", "threshold"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_it(value: str, named: str) -> None:
    done = helm("template", str(CHART), "--set", value)
    assert done.returncode != 0
    assert "don't meet the specifications of the schema" in done.stderr
    assert named in done.stderr.partition("schema")[2]


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("daemon.vgpuMonitor.enbaled=true", "daemon.vgpuMonitor.enabled"),
        ("daemon.vgpuMonitor.feedbak=true", "daemon.vgpuMonitor.feedback"),
        ("daemon.vgpuMonitor.hostpid=true", "daemon.vgpuMonitor.hostPID"),
        ("daemon.hamiCore.image.tga=v1", "daemon.hamiCore.image.tag"),
        ("serviceMonitors.enabled=true", "serviceMonitor"),
        ("daemon.nodeSelectors.gpu=on", "daemon.nodeSelector"),
    ],
)
def test_a_misspelling_is_an_error_that_says_what_was_meant(value: str, meant: str) -> None:
    done = helm("template", str(CHART), "--set", value)
    assert done.returncode != 0
    assert f"did you mean {meant}?" in done.stderr


def test_names_that_yaml_takes_for_something_else_stay_names() -> None:
    """``helm install y --namespace 123`` is allowed."""
    objects = render(
        *("fullnameOverride=off", "nameOverride=yes", "daemon.serviceAccount.name=no"),
        *("daemon.runtimeClassName=on", "daemon.priorityClassName=no"),
        *("daemon.vgpuMonitor.webConfigSecret=off", "serviceMonitor.jobLabel=on"),
        *("serviceMonitor.namespace=no", "networkPolicy.enabled=true", "podMonitor.enabled=true"),
        *("podMonitor.jobLabel=on", "openshift.securityContextConstraints=true"),
        release="on",
        namespace="123",
    )

    def check(value: Any, within: str) -> None:
        if isinstance(value, list):
            for item in value:
                check(item, within)
        elif isinstance(value, dict):
            for key, item in value.items():
                if key.lower().endswith(("name", "namespace", "joblabel", "instance")):
                    assert isinstance(item, str), f"{within}.{key}"
                check(item, f"{within}.{key}")

    for item in objects:
        check(item, item["kind"])
    assert one(objects, "DaemonSet")["metadata"]["namespace"] == "123"
    assert pod(objects)["serviceAccountName"] == "no"
    assert one(objects, "ServiceMonitor")["metadata"]["namespace"] == "no"
    labels = one(objects, "Service")["metadata"]["labels"]
    assert labels["app.kubernetes.io/instance"] == "on"


@pytest.mark.parametrize("removed", ["daemon", "daemon.vgpuMonitor.ports"])
def test_what_the_chart_needs_has_its_defaults_when_removed(removed: str) -> None:
    objects = render(f"{removed}=null")
    (port,) = one(objects, "Service")["spec"]["ports"]
    assert (port["name"], port["port"]) == ("metrics", 9394)
    assert pod(objects)["containers"][0]["name"] == "vgpu-monitor"


def test_an_alert_that_does_not_exist_is_an_error() -> None:
    done = template("prometheusRule.alerts.VgpuIdel.enabled=false")
    assert done.returncode != 0
    assert "prometheusRule.alerts.VgpuIdel: no alert has that name" in done.stderr
    assert "VgpuIdle" in done.stderr


def test_monitoring_objects_need_their_api() -> None:
    assert not kinds(render("podMonitor.enabled=true", apis=())) & {
        "ServiceMonitor",
        "PodMonitor",
        "PrometheusRule",
    }


def test_monitoring_objects_can_be_had_without_asking_the_api() -> None:
    objects = render("assumePrometheusOperator=true", "podMonitor.enabled=true", apis=())
    assert {"ServiceMonitor", "PodMonitor", "PrometheusRule"} <= kinds(objects)


def test_service_monitor() -> None:
    spec = one(render(), "ServiceMonitor")["spec"]
    assert spec["namespaceSelector"] == {"matchNames": ["koordinator-system"]}
    assert spec["selector"]["matchLabels"]["koord-app"] == "hami-daemon"
    assert spec["endpoints"] == [
        {
            "port": "metrics",
            "path": "/metrics",
            "interval": "15s",
            "honorLabels": True,
            "relabelings": [
                {"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"}
            ],
        }
    ]


def test_everything_on() -> None:
    objects = render(*EVERYTHING)
    found = one(objects, "ServiceMonitor")
    assert found["metadata"]["labels"]["release"] == "prometheus"
    (endpoint,) = found["spec"]["endpoints"]
    assert endpoint["scheme"] == "https"
    assert endpoint["tlsConfig"] == {"insecureSkipVerify": True}
    assert found["spec"]["jobLabel"] == "koord-app"
    assert endpoint["scrapeTimeout"] == "10s"
    assert [rule["targetLabel"] for rule in endpoint["relabelings"]] == ["node", "team"]
    assert endpoint["metricRelabelings"] == [{"action": "labeldrop", "regex": "zone"}]
    (endpoint,) = one(objects, "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["interval"]) == ("metrics", "15s")
    spec = pod(objects)
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["priorityClassName"] == "system-node-critical"
    assert spec["nodeSelector"] == {"pool": "gpu"}
    assert spec["securityContext"] == {"fsGroup": 1}
    assert {"name": "more", "configMap": {"name": "more"}} in spec["volumes"]
    daemonset = one(objects, "DaemonSet")["spec"]
    assert daemonset["updateStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "10%"},
    }
    metadata = daemonset["template"]["metadata"]
    assert metadata["annotations"] == {"team": "gpu"}
    assert metadata["labels"]["team"] == "gpu"
    assert daemonset["selector"]["matchLabels"].items() <= metadata["labels"].items()
    assert "team" not in daemonset["selector"]["matchLabels"]
    (folder, *_) = (item["metadata"] for item in objects if item["kind"] == "ConfigMap")
    assert folder["annotations"] == {"grafana_folder": "GPU", "team": "gpu"}
    assert one(objects, "NetworkPolicy")["spec"]["ingress"] == [
        {
            "ports": [{"port": "metrics", "protocol": "TCP"}],
            "from": [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}],
        }
    ]
    container = monitor(objects)
    assert {"name": "HTTPS_PROXY", "value": "proxy:3128"} in container["env"]
    assert {"name": "more", "mountPath": "/more"} in container["volumeMounts"]
    assert "--web-config-file=/etc/vgpumonitor/web-config.yaml" in container["args"]
    # kubelet has no password: it only sees whether the port is open.
    assert container["livenessProbe"]["tcpSocket"] == {"port": "metrics"}
    assert container["readinessProbe"]["tcpSocket"] == {"port": "metrics"}
    secret = next(volume for volume in pod(objects)["volumes"] if volume["name"] == "web-config")
    assert secret["secret"] == {"secretName": "web", "defaultMode": 0o444}


@pytest.mark.parametrize(
    ("switch", "kind"),
    [
        ("serviceMonitor.enabled", "ServiceMonitor"),
        ("prometheusRule.enabled", "PrometheusRule"),
        ("dashboards.enabled", "ConfigMap"),
    ],
)
def test_each_switch_takes_its_object_away(switch: str, kind: str) -> None:
    assert kinds(render()) - kinds(render(f"{switch}=false")) == {kind}


def alerts(objects: Sequence[Object]) -> dict[str, Object]:
    return {
        rule["alert"]: rule
        for group in one(objects, "PrometheusRule")["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }


def test_rules_are_those_of_the_repository() -> None:
    groups = [
        group
        for file in sorted((ROOT / "alerts").glob("*.rules.yaml"))
        # The job that the release makes, in place of all names that are usual.
        for group in yaml.safe_load(file.read_text().replace(JOBS, "hami-daemon"))["groups"]
    ]
    assert groups
    for group in groups:
        for rule in group["rules"]:
            if "alert" in rule:
                # The pages are published nowhere yet.
                del rule["annotations"]["runbook_url"]
    assert one(render(), "PrometheusRule")["spec"]["groups"] == groups


def test_runbooks_are_where_they_were_published() -> None:
    for base in ("https://wiki/runbooks", "https://wiki/runbooks/"):
        for name, rule in alerts(render(f"prometheusRule.runbookUrl={base}")).items():
            assert rule["annotations"]["runbook_url"] == f"https://wiki/runbooks/{name}.md"


def test_alerts_are_changed_by_name() -> None:
    before = alerts(render())
    after = alerts(
        render(
            "prometheusRule.alerts.VgpuIdle.enabled=false",
            "prometheusRule.alerts.VgpuCardMemoryFull.for=1h",
            "prometheusRule.alerts.VgpuCardMemoryFull.severity=info",
            "prometheusRule.alerts.VgpuCardSaturated.expr=vector(1)",
        )
    )
    assert set(before) - set(after) == {"VgpuIdle"}
    full = after["VgpuCardMemoryFull"]
    assert (full["for"], full["labels"]["severity"]) == ("1h", "info")
    assert full["expr"] == before["VgpuCardMemoryFull"]["expr"]
    assert after["VgpuCardSaturated"]["expr"] == "vector(1)"
    unchanged = set(after) - {"VgpuCardMemoryFull", "VgpuCardSaturated"}
    assert all(after[name] == before[name] for name in unchanged)


def test_thresholds_are_changed_by_name() -> None:
    before = alerts(render())
    after = alerts(
        render(
            "prometheusRule.thresholds.memory_near_limit=0.9",
            "prometheusRule.thresholds.memory_bypassed_bytes=1073741824",
            "prometheusRule.thresholds.throttling=1",
        )
    )
    assert "> 0.9 # memory_near_limit" in after["VgpuMemoryNearLimit"]["expr"]
    assert float(after["VgpuMemoryBypassed"]["expr"].split("> ")[1].split(" #")[0]) == 1 << 30
    # The one that two alerts share.
    changed = {name for name, rule in after.items() if rule != before[name]}
    assert changed == {
        "VgpuMemoryNearLimit",
        "VgpuMemoryBypassed",
        "VgpuCardThermalThrottling",
        "VgpuCardPowerBrake",
    }


def test_a_threshold_that_there_is_not_is_named() -> None:
    done = template("prometheusRule.thresholds.memory_near=1")
    assert done.returncode != 0
    assert "prometheusRule.thresholds.memory_near: no alert has a threshold" in done.stderr


def test_a_namespace_has_thresholds_of_its_own() -> None:
    """The same expressions that the repository's generator makes."""
    own: dict[str, dict[str, float]] = {
        "batch-.*": {"idle_seconds": 14400},
        "team-x": {"oversized": 0.1, "idle_seconds": 60},
    }
    made = alerts(
        render(
            r"prometheusRule.namespaces.batch-\.*.idle_seconds=14400",
            "prometheusRule.namespaces.team-x.oversized=0.1",
            "prometheusRule.namespaces.team-x.idle_seconds=60",
        )
    )
    expected = {
        rule.name: by_namespace(rule, own)
        for group in ALERTS
        for rule in group.rules
        if isinstance(rule, Alert)
    }
    for name in ("VgpuIdle", "VgpuOversized", "VgpuDeadProcessMemory", "VgpuCardMemoryFull"):
        assert made[name]["expr"] == expected[name]
    done = template("prometheusRule.namespaces.team-x.card_full=1")
    assert done.returncode != 0
    assert "no alert about containers or pods has a threshold card_full" in done.stderr


def test_a_model_has_a_price_of_its_own() -> None:
    """The same rules that the repository's generator makes."""
    own = {"NVIDIA L40S": 0.9, "NVIDIA A100-SXM4-80GB": 2.1}
    made = one(
        render(
            "prometheusRule.prices.NVIDIA L40S=0.9",
            "prometheusRule.prices.NVIDIA A100-SXM4-80GB=2.1",
        ),
        "PrometheusRule",
    )
    assert made["spec"]["groups"][-1:] == prices(own)
    unpriced = one(render(), "PrometheusRule")["spec"]["groups"]
    assert "vgpu.prices" not in {group["name"] for group in unpriced}
    done = template("prometheusRule.prices.NVIDIA L40S=free")
    assert done.returncode != 0
    assert "NVIDIA L40S" in done.stderr


def test_a_group_without_rules_is_left_out() -> None:
    named = [name for name, rule in alerts(render()).items() if name.startswith("VgpuMonitor")]
    groups = one(
        render(*(f"prometheusRule.alerts.{name}.enabled=false" for name in named)),
        "PrometheusRule",
    )["spec"]["groups"]
    assert "vgpu.exporter" not in {group["name"] for group in groups}


@pytest.mark.parametrize(
    ("values", "jobs"),
    [
        ((), "hami-daemon"),
        (("fullnameOverride=gpu-exporter",), "gpu-exporter"),
        (("serviceMonitor.jobLabel=app.kubernetes.io/instance",), "hami-daemon"),
        (("fullnameOverride=gpu", "serviceMonitor.jobLabel=missing"), "gpu"),
        (
            ("podMonitor.enabled=true", "serviceMonitor.enabled=false"),
            "koordinator-system/hami-daemon",
        ),
        (
            ("fullnameOverride=gpu", "podMonitor.enabled=true"),
            "gpu|koordinator-system/gpu",
        ),
        (
            (
                *("podMonitor.enabled=true", "serviceMonitor.enabled=false"),
                *("podMonitor.jobLabel=team", "daemon.podLabels.team=ml"),
            ),
            "ml",
        ),
        (
            ("podMonitor.enabled=true", "podMonitor.namespace=prometheus"),
            "hami-daemon|prometheus/hami-daemon-koordinator-system",
        ),
        (("prometheusRule.jobs=gpu-.*",), "gpu-.*"),
    ],
    ids=str,
)
def test_rules_find_the_exporter_by_the_jobs_name(values: Sequence[str], jobs: str) -> None:
    rules = alerts(render(*values))
    for name in ("VgpuMonitorDown", "VgpuMonitorAbsent"):
        assert f'up{{job=~"{jobs}"}}' in rules[name]["expr"]
    assert JOBS not in json.dumps(rules)


def test_dashboards_are_those_of_the_repository() -> None:
    files = {file.name: file.read_text() for file in (ROOT / "dashboards").glob("*.json")}
    assert files
    published = render("prometheusRule.runbookUrl=https://wiki/runbooks")
    maps = [item for item in published if item["kind"] == "ConfigMap"]
    assert {name: text for item in maps for name, text in item["data"].items()} == {
        name: text.replace(RUNBOOKS, "https://wiki/runbooks/") for name, text in files.items()
    }
    assert len(maps) == len(files)
    for item in maps:
        assert item["metadata"]["labels"]["grafana_dashboard"] == "1"
        # An object in etcd has at most 1.5 MiB; kubectl apply keeps it twice.
        assert len(json.dumps(item)) < 512 * 1024


def test_dashboards_link_to_no_runbooks_that_were_not_published() -> None:
    """All else is as it was."""
    files = {file.name: file.read_text() for file in (ROOT / "dashboards").glob("*.json")}
    assert sum(RUNBOOKS in text for text in files.values()) == 3
    for item in render():
        if item["kind"] != "ConfigMap":
            continue
        for name, text in item["data"].items():
            expected = json.loads(files[name])
            for panel in expected["panels"]:
                for override in panel.get("fieldConfig", {}).get("overrides", ()):
                    override["properties"] = [
                        item for item in override["properties"] if RUNBOOKS not in json.dumps(item)
                    ]
            assert json.loads(text) == expected


def test_package_holds_what_it_needs_and_no_more(tmp_path: Path) -> None:
    done = helm("package", str(CHART), "--destination", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (package,) = tmp_path.iterdir()
    listing = subprocess.run(["tar", "-tzf", package], capture_output=True, text=True, check=True)
    files = {line.removeprefix("hami-daemon/") for line in listing.stdout.splitlines()}
    generated = {
        *(f"files/dashboards/{path.name}" for path in (ROOT / "dashboards").glob("*.json")),
        "files/values.yaml",
        *(f"files/alerts/{path.name}" for path in (ROOT / "alerts").glob("*.rules.yaml")),
    }
    assert {file for file in files if file.startswith("files/")} == generated


def notes(chart: Path, *values: str) -> str:
    """NOTES.txt. helm only shows it with a cluster at hand, so a copy of the chart makes it an
    object."""
    shutil.copytree(CHART, chart)
    (chart / "templates/NOTES.txt").rename(chart / "NOTES.txt")
    (chart / "templates/notes.yaml").write_text(
        'kind: Notes\ntext: {{ tpl (.Files.Get "NOTES.txt") . | quote }}\n'
    )
    done = helm(
        *("template", "hami-daemon", str(chart), "--show-only", "templates/notes.yaml"),
        *assignments(values),
    )
    assert done.returncode == 0, done.stderr
    return str(yaml.safe_load(done.stdout)["text"])


def test_notes_show_the_guides_request(tmp_path: Path) -> None:
    text = notes(tmp_path / "chart")
    assert "curl $pod_ip:9394/metrics" in text
    assert "ServiceMonitor (Prometheus operator): none was created" in text
    assert "hostPID is off" not in text
    assert "Values without effect" not in text


def test_notes_say_what_the_cluster_needs(tmp_path: Path) -> None:
    text = notes(tmp_path / "chart")
    assert "pod-security.kubernetes.io/enforce=privileged" in text
    assert "kubectl label node NODE koordinator.sh/gpu-isolation-provider=HAMi-core" in text
    # The whole list: the value of Koordinator's chart replaces its default.
    (features,) = re.findall(r"koordlet\.features=(\S+)", text)
    assert features.split("\\,") == [
        *("BECPUEvict=true", "BEMemoryEvict=true", "CgroupReconcile=true", "Accelerators=true"),
        *("GPUEnvInject=true", "HamiCoreVGPUMonitor=true"),
    ]
    assert "EnableSyncGPUSharedResource=true" in text


def test_notes_name_values_without_effect(tmp_path: Path) -> None:
    text = notes(
        tmp_path / "chart",
        *("serviceAccount.create=true", "daemon.extra=1", "daemon.vgpuMonitor.type=NodePort", MIG),
    )
    assert (
        "Values without effect: serviceAccount, daemon.extra, "
        "daemon.vgpuMonitor.type (daemon.type is the Service's)."
    ) in text
    assert "nvidiaMigMonitorDevices is left out" in text


def test_notes_say_what_is_lost_without_host_pids(tmp_path: Path) -> None:
    assert "hostPID is off" in notes(tmp_path / "chart", "daemon.vgpuMonitor.hostPID=false")


def test_notes_say_what_the_rights_are_that_the_chart_does_not_give(tmp_path: Path) -> None:
    text = notes(tmp_path / "chart", "rbac.create=false", "daemon.serviceAccount.name=gpu")
    assert "--serviceaccount=default:gpu" in text
    assert "None of this was looked up" in text
    assert "GPU nodes need the label" in text


@pytest.mark.parametrize(
    ("values", "told"), [((), False), (("daemon.nodeSelector.pool=gpu",), True)]
)
def test_notes_name_a_selection_of_ones_own_where_there_is_one(
    tmp_path: Path, values: Sequence[str], told: bool
) -> None:
    text = notes(tmp_path / "chart", "daemon.affinity=null", *values)
    assert ("daemon.affinity and daemon.nodeSelector select" in text) == told
    assert "kubectl label node" not in text


def test_notes_of_the_library_alone(tmp_path: Path) -> None:
    text = notes(tmp_path / "chart", *OFF)
    assert "libvgpu.so v2.6.0" in text
    assert "curl" not in text
    # The region files are for the monitor alone.
    assert "GPUEnvInject=true: HAMi-core gets into no container" in text
    assert "HamiCoreVGPUMonitor" not in text
    (features,) = re.findall(r"koordlet\.features=(\S+)", text)
    assert features.endswith("Accelerators=true\\,GPUEnvInject=true")


@pytest.mark.parametrize(
    ("lines", "has"),
    [
        ("", False),
        ("koordlet -addr=:9316 --feature-gates=Accelerators=true,GPUEnvInject=true", True),
        ("-feature-gates=GPUEnvInject=true -feature-gates=GPUEnvInject=false", False),
        ("-feature-gates=GPUEnvInject=false -feature-gates=GPUEnvInject=1", True),
        ("-feature-gates=NoGPUEnvInject=true,GPUEnvInjection=true", False),
        ("-feature-gates=AllAlpha=true", True),
        ("-feature-gates=AllAlpha=false", False),
        ("-feature-gates=AllAlpha=true,GPUEnvInject=false", False),
        ("-feature-gates=GPUEnvInject=false,AllAlpha=true", False),
        ("-feature-gates=GPUEnvInject=true,AllAlpha=false", True),
    ],
)
def test_notes_understand_feature_gates_as_koordlet_does(
    tmp_path: Path, lines: str, has: bool
) -> None:
    chart = tmp_path / "chart"
    shutil.copytree(CHART, chart)
    (chart / "templates/gate.yaml").write_text(
        'has: {{ include "hami-daemon.hasGate" '
        '(list .Values.daemon.lines "GPUEnvInject") | quote }}\n'
    )
    done = helm(
        *("template", "hami-daemon", str(chart), "--show-only", "templates/gate.yaml"),
        *("--set-json", f"daemon.lines={json.dumps(lines)}"),
    )
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["has"] == ("true" if has else "")
