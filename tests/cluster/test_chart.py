"""The chart on a real API server: what it accepts, stores, and makes of an upgrade."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.server import Cluster, Object, RefusedError
from tests.deploy.chart import (
    CHART,
    ELSEWHERE,
    EVERYTHING,
    MONITOR_ONLY,
    OFF,
    READ_ONLY,
    assignments,
    helm,
)

KOORDINATOR = CHART.parents[2] / "tests/deploy/koordinator"
IMAGE = "daemon.vgpuMonitor.image.repository=registry.test/vgpumonitor"
PLURALS = {
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "ConfigMap": "configmaps",
    "DaemonSet": "daemonsets",
    "NetworkPolicy": "networkpolicies",
    "PodMonitor": "podmonitors",
    "PrometheusRule": "prometheusrules",
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
    "ServiceMonitor": "servicemonitors",
}
OPTION_SETS = [(), EVERYTHING, ELSEWHERE, OFF, MONITOR_ONLY, READ_ONLY]

_numbers = itertools.count()


class Release:
    """A release named hami-daemon in a namespace of its own."""

    def __init__(self, cluster: Cluster, kubeconfig: Path, level: str | None = "privileged"):
        self.cluster = cluster
        self.kubeconfig = kubeconfig
        self.namespace = f"chart-{next(_numbers)}"
        cluster.namespace(self.namespace, level)

    def helm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return helm(*arguments, "--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace)

    def upgrade(self, *values: str, chart: Path = CHART, how: Sequence[str] = ()) -> str:
        """What helm prints."""
        done = self.helm(
            *("upgrade", "--install", "hami-daemon", str(chart), *how), *assignments(values)
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def objects(self) -> list[Object]:
        done = self.helm("get", "manifest", "hami-daemon")
        assert done.returncode == 0, done.stderr
        return [item for item in yaml.safe_load_all(done.stdout) if item]

    def stored(self, kind: str) -> Object:
        (found,) = (item for item in self.objects() if item["kind"] == kind)
        stored: Object = self.cluster.get(self.path(found))
        return stored

    def path(self, item: Object) -> str:
        version = item["apiVersion"]
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if not item["kind"].startswith("Cluster"):
            base += f"/namespaces/{item['metadata'].get('namespace', self.namespace)}"
        return f"{base}/{PLURALS[item['kind']]}/{item['metadata']['name']}"

    def pod(self) -> Object:
        """The pod that the DaemonSet's controller would make, as the API server sees it."""
        template = self.stored("DaemonSet")["spec"]["template"]
        made: Object = self.cluster.post(
            f"/api/v1/namespaces/{self.namespace}/pods?dryRun=All&fieldValidation=Strict",
            {"metadata": {**template["metadata"], "name": "pod"}, "spec": template["spec"]},
        )
        return made

    def check(self) -> None:
        """The stored objects fit together and to the strict schema."""
        objects = self.objects()
        for item in objects:
            answer = self.cluster.request(
                "PATCH",
                f"{self.path(item)}?dryRun=All&fieldValidation=Strict&fieldManager=t&force=true",
                item,
                content_type="application/apply-patch+yaml",
            )
            assert answer.warnings == [], item["metadata"]["name"]
        spec = self.pod()["spec"]
        account = spec["serviceAccountName"]
        assert self.cluster.exists(f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{account}")
        labels = self.stored("DaemonSet")["spec"]["template"]["metadata"]["labels"]
        for item in objects:
            stored = self.cluster.get(self.path(item))
            if item["kind"] == "Service":
                assert stored["spec"]["selector"].items() <= labels.items()
            if item["kind"] == "ClusterRoleBinding":
                assert stored["subjects"] == [
                    {"kind": "ServiceAccount", "name": account, "namespace": self.namespace}
                ]
                assert self.cluster.exists(
                    f"/apis/{item['apiVersion']}/clusterroles/{stored['roleRef']['name']}"
                )


@pytest.fixture(scope="module")
def kubeconfig(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cluster.post(
        "/apis/node.k8s.io/v1/runtimeclasses",
        {"metadata": {"name": "nvidia"}, "handler": "nvidia"},
    )
    return cluster.kubeconfig(tmp_path_factory.mktemp("helm") / "admin")


@pytest.fixture
def release(cluster: Cluster, kubeconfig: Path) -> Iterator[Release]:
    found = Release(cluster, kubeconfig)
    yield found
    found.helm("uninstall", "hami-daemon", "--ignore-not-found")


@pytest.mark.parametrize("values", OPTION_SETS, ids=str)
def test_each_set_of_options_is_accepted(release: Release, values: Sequence[str]) -> None:
    release.upgrade(IMAGE, *values)
    release.check()


def test_parts_are_switched_off_and_on_by_upgrade(release: Release) -> None:
    for before, after in itertools.pairwise(
        [(), OFF, EVERYTHING, ELSEWHERE, MONITOR_ONLY, OFF, READ_ONLY]
    ):
        release.upgrade(IMAGE, *before)
        release.upgrade(IMAGE, *after)
        release.check()


def test_without_the_monitor_no_account_is_missing(release: Release) -> None:
    """The API server keeps spec.serviceAccount, the old name of the field, if the new one is
    merely left out."""
    release.upgrade(IMAGE)
    release.upgrade(*OFF)
    spec = release.stored("DaemonSet")["spec"]["template"]["spec"]
    assert (spec["serviceAccountName"], spec["serviceAccount"]) == ("default", "default")


def test_an_image_that_no_node_can_pull_is_refused(release: Release) -> None:
    done = release.helm("install", "hami-daemon", str(CHART))
    assert done.returncode != 0
    assert "daemon.vgpuMonitor.image.repository is not set" in done.stderr


def test_releases_of_one_name_live_side_by_side(cluster: Cluster, kubeconfig: Path) -> None:
    releases = [Release(cluster, kubeconfig) for _ in range(2)]
    for found in releases:
        found.upgrade(IMAGE)
    for found in releases:
        found.check()
        found.helm("uninstall", "hami-daemon")


#: What a user of Koordinator's chart may have set.
USERS = (
    "daemon.tolerations[0].key=gpu",
    "daemon.tolerations[0].operator=Exists",
    "daemon.hamiCore.libvgpuSoVersion=v2.6.1",
    "daemon.hamiCore.resources.limits.cpu=1",
    "daemon.type=NodePort",
    "daemon.vgpuMonitor.env.hookPath=/usr/local/vgpu/",
    "daemon.vgpuMonitor.env.nvidiaVisibleDevices=0",
    "serviceAccount.create=true",
)


def of_user(release: Release) -> dict[str, Any]:
    spec = release.stored("DaemonSet")["spec"]["template"]["spec"]
    container = (spec.get("initContainers") or spec["containers"])[0]
    return {
        "tolerations": spec["tolerations"],
        "cpu": container["resources"]["limits"]["cpu"],
        "type": release.stored("Service")["spec"]["type"],
    }


KEPT = {"tolerations": [{"key": "gpu", "operator": "Exists"}], "cpu": "1", "type": "NodePort"}


@pytest.mark.parametrize("how", ["--reuse-values", "--reset-then-reuse-values"])
def test_an_upgrade_from_koordinators_chart_keeps_its_values(release: Release, how: str) -> None:
    release.upgrade(*USERS, chart=KOORDINATOR)
    assert of_user(release) == KEPT
    notes = release.upgrade(IMAGE, how=[how])
    release.check()
    assert of_user(release) == KEPT
    spec = release.pod()["spec"]
    assert spec["initContainers"][0]["env"] == [{"name": "LIBVGPU_VERSION", "value": "v2.6.1"}]
    (monitor,) = spec["containers"]
    # NVIDIA's runtime refuses what Koordinator's values ask for.
    environment = {entry["name"]: entry.get("value") for entry in monitor["env"]}
    assert "NVIDIA_MIG_MONITOR_DEVICES" not in environment
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "0"
    assert environment["HOOK_PATH"] == "/usr/local/vgpu"
    # What only this chart has gets its defaults.
    assert {"--feedback", "--gc"} <= set(monitor["args"])
    assert monitor["resources"]["limits"] == {"cpu": "200m", "memory": "256Mi"}
    assert "Values without effect: serviceAccount" in notes


def test_a_plain_upgrade_has_the_values_that_it_is_given(release: Release) -> None:
    release.upgrade(*USERS, chart=KOORDINATOR)
    release.upgrade(IMAGE, "daemon.type=NodePort")
    release.check()
    assert of_user(release) == {
        "tolerations": [{"operator": "Exists"}],
        "cpu": "200m",
        "type": "NodePort",
    }


def test_a_removed_value_stays_removed(release: Release) -> None:
    release.upgrade(IMAGE, "daemon.vgpuMonitor.resources.limits=null", "daemon.affinity=null")
    for how in ("--reuse-values", "--reset-then-reuse-values"):
        release.upgrade(how=[how])
        spec = release.stored("DaemonSet")["spec"]["template"]["spec"]
        assert "limits" not in spec["containers"][0]["resources"]
        assert "affinity" not in spec


@pytest.mark.parametrize("how", ["rollback", "upgrade"])
def test_the_way_back_to_koordinators_chart(release: Release, how: str) -> None:
    release.upgrade(*USERS, chart=KOORDINATOR)
    before = release.stored("DaemonSet")["spec"]["template"]
    release.upgrade(IMAGE, how=["--reset-then-reuse-values"])
    if how == "rollback":
        assert release.helm("rollback", "hami-daemon").returncode == 0
    else:
        release.upgrade(chart=KOORDINATOR, how=["--reset-then-reuse-values"])
    release.check()
    assert of_user(release) == KEPT
    assert release.stored("DaemonSet")["spec"]["template"] == before


@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_a_namespace_that_admits_no_pod_is_told(
    cluster: Cluster, kubeconfig: Path, level: str
) -> None:
    found = Release(cluster, kubeconfig, level)
    text = " ".join(found.upgrade(IMAGE).split())
    assert f"Namespace {found.namespace} enforces {level}: no pod of this release starts" in text
    with pytest.raises(RefusedError, match="violates PodSecurity") as refused:
        found.pod()
    assert refused.value.code == 403
    # As the notes say.
    labels = {"pod-security.kubernetes.io/enforce": "privileged"}
    cluster.patch(f"/api/v1/namespaces/{found.namespace}", {"metadata": {"labels": labels}})
    found.check()
    assert "PodSecurity" not in found.upgrade(IMAGE)
    found.helm("uninstall", "hami-daemon")


def workload(name: str, argument: str) -> Object:
    labels = {"app": name}
    container = {"name": name, "image": name, "args": [argument]}
    return {
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def needs(notes: str) -> str:
    """What the notes say that the cluster still needs."""
    return " ".join(notes.partition("What the cluster still needs:")[2].split())


def test_notes_say_what_is_found_missing_and_no_more(release: Release, cluster: Cluster) -> None:
    text = needs(release.upgrade(IMAGE))
    assert "No node has the label that this release selects nodes by" in text
    assert "kubectl label node NODE koordinator.sh/gpu-isolation-provider=HAMi-core" in text
    assert "With Koordinator, koordlet needs feature gates." in text
    assert "koord-manager needs the feature gate EnableSyncGPUSharedResource=true" in text
    cluster.namespace("koordinator-system")
    apps = "/apis/apps/v1/namespaces/koordinator-system"
    labels = {"koordinator.sh/gpu-isolation-provider": "HAMi-core"}
    gates = "-feature-gates=GPUEnvInject=true,HamiCoreVGPUMonitor=true"
    made = {
        "/api/v1/nodes/gpu": {"metadata": {"name": "gpu", "labels": labels}},
        f"{apps}/daemonsets/koordlet": workload("koordlet", gates),
        f"{apps}/deployments/koord-manager": workload(
            "koord-manager", "--feature-gates=EnableSyncGPUSharedResource=true"
        ),
    }
    try:
        for path, item in made.items():
            cluster.post(path.rpartition("/")[0], item)
        assert needs(release.upgrade(IMAGE)).startswith(
            "* koordlet runs without feature gates that it needs. Without "
            "Accelerators=true: the scheduler has no GPUs In Koordinator's chart, "
        )
        koordlet = cluster.get(f"{apps}/daemonsets/koordlet")
        arguments = koordlet["spec"]["template"]["spec"]["containers"][0]["args"]
        for sufficient in (f"{gates},Accelerators=true", "-feature-gates=AllAlpha=true"):
            arguments[:] = [sufficient]
            cluster.request("PUT", f"{apps}/daemonsets/koordlet", koordlet)
            assert "What the cluster still needs" not in release.upgrade(IMAGE)
            koordlet = cluster.get(f"{apps}/daemonsets/koordlet")
            arguments = koordlet["spec"]["template"]["spec"]["containers"][0]["args"]
    finally:
        for path in made:
            if cluster.exists(path):
                cluster.delete(path)


#: What an account that deploys has beside all rights in its namespace.
DEPLOYER = [
    {
        "apiGroups": ["rbac.authorization.k8s.io"],
        "resources": ["clusterroles", "clusterrolebindings"],
        "verbs": ["*"],
    },
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
]


@pytest.fixture
def deployer(release: Release, tmp_path: Path) -> Path:
    """The kubeconfig of an account that may do everything in the namespace, and nothing else."""
    base = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{release.namespace}/rolebindings"
    accounts = f"/api/v1/namespaces/{release.namespace}/serviceaccounts"
    release.cluster.post(accounts, {"metadata": {"name": "deployer"}})
    release.cluster.post(base, binding("cluster-admin", release.namespace))
    token = tmp_path / "token"
    token.write_text(release.cluster.token(release.namespace, "deployer"))
    return release.cluster.kubeconfig(tmp_path / "config", token_file=token)


def binding(role: str, namespace: str) -> Object:
    return {
        "metadata": {"name": f"deployer-{namespace}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": "deployer", "namespace": namespace}],
    }


def test_rights_in_one_namespace_are_enough(release: Release, deployer: Path) -> None:
    release.kubeconfig = deployer
    text = release.upgrade(IMAGE, "rbac.create=false")
    assert "kubectl create clusterrolebinding vgpu-monitor" in text
    assert "pod-security.kubernetes.io/enforce=privileged" in needs(text)
    assert "None of this was looked up" in text
    release.check()


def test_an_account_that_may_not_look_is_told_what_to_set(release: Release, deployer: Path) -> None:
    """helm can't go on where a template asks for what is forbidden."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    name = f"deployer-{release.namespace}"
    release.cluster.post(f"{rbac}/clusterroles", {"metadata": {"name": name}, "rules": DEPLOYER})
    release.cluster.post(f"{rbac}/clusterrolebindings", binding(name, release.namespace))
    admin, release.kubeconfig = release.kubeconfig, deployer
    done = release.helm("install", "hami-daemon", str(CHART), "--set", IMAGE)
    assert done.returncode != 0
    assert "is forbidden" in done.stderr
    assert "notes.lookup=false does without" in done.stderr
    assert "None of this was looked up" in release.upgrade(IMAGE, "notes.lookup=false")
    release.check()
    release.kubeconfig = admin


def test_the_account_lists_and_watches_pods_and_no_more(release: Release) -> None:
    release.upgrade(IMAGE)
    token = release.cluster.token(release.namespace, "hami-daemon-vgpu-monitor")
    allowed = release.cluster.request("GET", "/api/v1/pods", token=token)
    assert allowed.body["kind"] == "PodList"
    pods = f"/api/v1/namespaces/{release.namespace}/pods"
    for method, path, body in (
        ("GET", f"{pods}/one", None),
        ("POST", pods, {"metadata": {"name": "one"}}),
        ("DELETE", f"{pods}/one", None),
        ("GET", "/api/v1/nodes", None),
        ("GET", "/api/v1/secrets", None),
        ("GET", f"/api/v1/namespaces/{release.namespace}/configmaps", None),
        ("GET", "/apis/apps/v1/daemonsets", None),
    ):
        with pytest.raises(RefusedError) as refused:
            release.cluster.request(method, path, body, token=token)
        assert refused.value.code == 403, path
