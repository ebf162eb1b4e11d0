"""The exporter with the chart's own ServiceAccount on a real API server: pods that come and go,
and what stands between the two when it fails."""

from __future__ import annotations

import itertools
import shutil
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from testing.exporter import Exporter, running, serve_arguments
from testing.polling import eventually
from testing.region_files import put
from tests.cluster.proxy import Proxy
from tests.cluster.server import Cluster, Object, RefusedError
from tests.deploy.chart import CHART, helm

NAMESPACE = "exporter"
ACCOUNT = "hami-daemon-vgpu-monitor"
USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
BINDING = f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{ACCOUNT}:{NAMESPACE}"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"

_numbers = itertools.count()


@dataclass
class Node:
    """A node that isn't there: its name, its pods and their region files."""

    cluster: Cluster
    name: str
    directory: Path

    @property
    def token_file(self) -> Path:
        return self.directory / "token"

    @property
    def containers(self) -> Path:
        return self.directory / "containers"

    def pod(self, name: str, **metadata: object) -> Object:
        """A pod of this node with a container that has made a CUDA call."""
        created: Object = self.cluster.post(
            PODS,
            {
                "metadata": {"name": name, **metadata},
                "spec": {
                    "nodeName": self.name,
                    "containers": [{"name": "train", "image": "train"}],
                },
            },
        )
        uid = created["metadata"]["uid"]
        put("hami-2.9.0-three-processes", self.containers / f"{uid}_train" / "x.cache")
        return created

    @contextmanager
    def exporter(self, *arguments: str, url: str = "", node_name: str = "") -> Iterator[Exporter]:
        if not self.token_file.exists():
            self.token_file.write_text(self.cluster.token(NAMESPACE, ACCOUNT))
        config = self.cluster.kubeconfig(
            self.directory / "config", token_file=self.token_file, url=url
        )
        all_arguments = serve_arguments(
            self.containers, "--pods=kubernetes", f"--kubeconfig={config}", *arguments
        )
        all_arguments.remove("--node-name=node-1")
        with running(*all_arguments, f"--node-name={node_name or self.name}") as exporter:
            yield exporter


@pytest.fixture(scope="module", autouse=True)
def account(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the chart makes, and no right beside it."""
    cluster.namespace(NAMESPACE)
    config = cluster.kubeconfig(tmp_path_factory.mktemp("helm") / "admin")
    done = helm(
        *("install", "hami-daemon", str(CHART), "--namespace", NAMESPACE),
        *("--kubeconfig", str(config)),
        *("--set", "daemon.vgpuMonitor.image.repository=registry.test/vgpumonitor"),
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def node(cluster: Cluster, tmp_path: Path) -> Node:
    (tmp_path / "containers").mkdir()
    return Node(cluster, f"node-{next(_numbers)}", tmp_path)


@contextmanager
def one_seat(cluster: Cluster) -> Iterator[ssl.SSLSocket]:
    """The exporter's account shares one seat of the API server with another account, which holds
    it with a request that doesn't end as long as the socket is open."""
    accounts = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"
    cluster.post(accounts, {"metadata": {"name": "slow"}})
    cluster.post(
        f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/rolebindings",
        {
            "metadata": {"name": "slow"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "cluster-admin",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "slow", "namespace": NAMESPACE}],
        },
    )
    flow = "/apis/flowcontrol.apiserver.k8s.io/v1"
    shares = {"nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0}
    cluster.post(
        f"{flow}/prioritylevelconfigurations",
        {
            "metadata": {"name": "one-seat"},
            "spec": {"type": "Limited", "limited": {**shares, "limitResponse": {"type": "Reject"}}},
        },
    )
    every = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    schema = cluster.post(
        f"{flow}/flowschemas",
        {
            "metadata": {"name": "one-seat"},
            "spec": {
                "matchingPrecedence": 2,
                "priorityLevelConfiguration": {"name": "one-seat"},
                "rules": [
                    {
                        "subjects": [
                            {
                                "kind": "ServiceAccount",
                                "serviceAccount": {"namespace": NAMESPACE, "name": name},
                            }
                            for name in (ACCOUNT, "slow")
                        ],
                        "resourceRules": [{**every, "clusterScope": True, "namespaces": ["*"]}],
                    }
                ],
            },
        },
    )
    request = (
        f"POST /api/v1/namespaces/{NAMESPACE}/configmaps HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {cluster.token(NAMESPACE, 'slow')}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    exporters = cluster.token(NAMESPACE, ACCOUNT)
    context = ssl.create_default_context(cafile=str(cluster.ca))

    def in_force() -> bool:
        answer = cluster.request("GET", "/api/v1/pods?limit=1", token=exporters)
        return bool(answer.headers["X-Kubernetes-PF-FlowSchema-UID"] == schema["metadata"]["uid"])

    try:
        eventually(in_force)
        with (
            socket.create_connection(("127.0.0.1", cluster.port)) as connection,
            context.wrap_socket(connection, server_hostname="127.0.0.1") as taken,
        ):
            taken.sendall(request.encode())
            eventually(lambda: _answers(cluster, exporters, 429))
            yield taken
    finally:
        cluster.delete(f"{flow}/flowschemas/one-seat")
        cluster.delete(f"{flow}/prioritylevelconfigurations/one-seat")


def named(exporter: Exporter, name: str) -> bool:
    """The container of pod ``name`` has series, under the pod's name."""
    series = exporter.samples().get("vgpu_processes", {})
    return any({("pod", name), ("namespace", NAMESPACE)} <= labels for labels in series)


def up(exporter: Exporter) -> bool:
    return exporter.value("vgpumonitor_pod_source_up") == 1


class TestLifeCycle:
    def test_a_pod_from_its_first_to_its_last_moment(self, cluster: Cluster, node: Node) -> None:
        with node.exporter() as exporter:
            eventually(lambda: up(exporter))
            created = node.pod("life")
            eventually(lambda: named(exporter, "life"))
            statuses = [{"name": "train", "state": {"running": {"startedAt": _now()}}}]
            cluster.patch(
                f"{PODS}/life/status",
                {"status": {"phase": "Running", "containerStatuses": statuses}},
            )
            cluster.delete(f"{PODS}/life", seconds=30)
            assert cluster.get(f"{PODS}/life")["metadata"]["deletionTimestamp"]
            assert named(exporter, "life")
            cluster.delete(f"{PODS}/life", seconds=0)
            assert not cluster.exists(f"{PODS}/life")
            # koordlet and clean-up are not here to remove it.
            shutil.rmtree(node.containers / f"{created['metadata']['uid']}_train")
            eventually(lambda: not named(exporter, "life"))
            assert up(exporter)

    def test_a_pod_of_the_same_name_is_another_one(self, cluster: Cluster, node: Node) -> None:
        with node.exporter() as exporter:
            first = node.pod("again")
            eventually(lambda: named(exporter, "again"))
            cluster.delete(f"{PODS}/again", seconds=0)
            shutil.rmtree(node.containers / f"{first['metadata']['uid']}_train")
            eventually(lambda: not named(exporter, "again"))
            second = node.pod("again")
            assert second["metadata"]["uid"] != first["metadata"]["uid"]
            eventually(lambda: named(exporter, "again"))

    def test_a_finished_pod_has_no_series(self, cluster: Cluster, node: Node) -> None:
        with node.exporter() as exporter:
            node.pod("done")
            eventually(lambda: named(exporter, "done"))
            cluster.patch(f"{PODS}/done/status", {"status": {"phase": "Succeeded"}})
            eventually(lambda: not named(exporter, "done"))

    def test_a_finalizer_keeps_a_pod(self, cluster: Cluster, node: Node) -> None:
        with node.exporter() as exporter:
            node.pod("held", finalizers=["test/held"])
            eventually(lambda: named(exporter, "held"))
            cluster.delete(f"{PODS}/held", seconds=0)
            marker = node.pod("after-held")
            eventually(lambda: named(exporter, "after-held"))
            assert named(exporter, "held")
            cluster.patch(f"{PODS}/held", {"metadata": {"finalizers": None}})
            assert not cluster.exists(f"{PODS}/held")
            assert marker["spec"]["nodeName"] == node.name

    def test_other_nodes_pods_are_not_asked_for(self, cluster: Cluster, node: Node) -> None:
        elsewhere = Node(cluster, f"{node.name}-other", node.directory)
        elsewhere.pod("elsewhere")
        node.pod("here")
        with node.exporter() as exporter:
            eventually(lambda: named(exporter, "here"))
            assert not named(exporter, "elsewhere")
        verbs = {event["verb"] for event in cluster.audit(USER)}
        resources = {event["objectRef"]["resource"] for event in cluster.audit(USER)}
        assert (verbs, resources) == ({"list", "watch"}, {"pods"})
        selectors = [event["requestURI"] for event in cluster.audit(USER)]
        assert all("spec.nodeName%3D" in uri or "spec.nodeName=" in uri for uri in selectors)

    def test_a_node_name_that_no_pod_has_is_told(self, node: Node) -> None:
        node.pod("misnamed")
        with node.exporter(node_name="no-such-node") as exporter:
            eventually(lambda: "no pod of node 'no-such-node' is listed" in exporter.log)
            assert not named(exporter, "misnamed")


class TestPast:
    """Directories that nobody removed when their pod went."""

    def test_a_restart_brings_no_pod_back(self, cluster: Cluster, node: Node) -> None:
        gone = node.pod("gone")
        cluster.delete(f"{PODS}/gone", seconds=0)
        node.pod("stays")
        with node.exporter() as exporter:
            eventually(lambda: named(exporter, "stays"))
            shown = {dict(labels)["pod"] for labels in exporter.samples()["vgpu_processes"]}
            assert shown == {"stays"}
        assert (node.containers / f"{gone['metadata']['uid']}_train").is_dir()

    def test_clean_up_removes_them_and_starts_without_a_warning(
        self, cluster: Cluster, node: Node
    ) -> None:
        uid = node.pod("gone-for-good")["metadata"]["uid"]
        cluster.delete(f"{PODS}/gone-for-good", seconds=0)
        kept = node.pod("kept")
        directory = node.containers / f"{uid}_train"
        changed = max(path.stat().st_ctime for path in (directory, *directory.iterdir()))
        # Clean-up waits for a list that is younger than the directory by the grace: the first is,
        # and an idle watch confirms it a minute later only.
        eventually(lambda: time.time() > changed + 1.5)
        with node.exporter("--gc", "--gc-grace=1s", "--process-liveness=on") as exporter:
            eventually(lambda: not directory.exists(), seconds=60)
            assert (node.containers / f"{kept['metadata']['uid']}_train").is_dir()
            assert "level=warning" not in exporter.log


class TestNetwork:
    def test_connections_that_are_cut_when_idle_cost_nothing(self, node: Node) -> None:
        with (
            # Longer than a busy API server takes to begin an answer: that would be a failure.
            Proxy(node.cluster.port, idle=3) as proxy,
            node.exporter(url=proxy.url) as exporter,
        ):
            node.pod("idle")
            eventually(lambda: named(exporter, "idle"))

            def cut_often() -> bool:
                if not up(exporter):
                    raise RuntimeError("a cut was taken for a failure")
                return proxy.cuts >= 6

            eventually(cut_often, seconds=120)
            node.pod("idle-later")
            eventually(lambda: named(exporter, "idle-later"))

    def test_a_network_that_drops_packets_is_noticed(self, node: Node) -> None:
        with Proxy(node.cluster.port) as proxy, node.exporter(url=proxy.url) as exporter:
            node.pod("dropped")
            eventually(lambda: named(exporter, "dropped"))
            proxy.fall_silent()
            eventually(lambda: not up(exporter), seconds=150)
            # What was known stays, but is not said to be current.
            assert named(exporter, "dropped")
            node.pod("dropped-later")
            proxy.fall_silent(False)
            proxy.cut()
            eventually(lambda: up(exporter) and named(exporter, "dropped-later"), seconds=60)

    def test_a_server_out_of_reach_is_told_and_comes_back(self, node: Node) -> None:
        with Proxy(node.cluster.port) as proxy, node.exporter(url=proxy.url) as exporter:
            node.pod("reach")
            eventually(lambda: named(exporter, "reach"))
            proxy.refuse()
            eventually(lambda: not up(exporter))
            proxy.refuse(False)
            eventually(lambda: up(exporter), seconds=60)


class TestServer:
    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
    def test_a_restart_loses_no_pod(self, node: Node, how: signal.Signals) -> None:
        with node.exporter() as exporter:
            node.pod(f"before-{how.name.lower()}")
            eventually(lambda: named(exporter, f"before-{how.name.lower()}"))
            node.cluster.stop_apiserver(how)
            node.cluster.start_apiserver()
            node.pod(f"after-{how.name.lower()}")
            eventually(lambda: named(exporter, f"after-{how.name.lower()}"), seconds=60)
            assert up(exporter)

    def test_a_compaction_makes_it_list_again(self, node: Node) -> None:
        with Proxy(node.cluster.port) as proxy, node.exporter(url=proxy.url) as exporter:
            node.pod("compacted")
            eventually(lambda: named(exporter, "compacted"))
            proxy.refuse()
            node.cluster.delete(f"{PODS}/compacted", seconds=0)
            node.pod("after-compaction")
            # The server's own cache would still know the way on.
            node.cluster.stop_apiserver()
            node.cluster.compact()
            node.cluster.start_apiserver()
            proxy.refuse(False)
            eventually(lambda: up(exporter) and named(exporter, "after-compaction"), seconds=60)

    def test_rights_that_are_taken_away_and_given_back(self, node: Node) -> None:
        binding = node.cluster.get(BINDING)
        with Proxy(node.cluster.port) as proxy, node.exporter(url=proxy.url) as exporter:
            eventually(lambda: up(exporter))
            node.cluster.delete(BINDING)
            try:
                proxy.cut()
                eventually(lambda: not up(exporter))
                eventually(lambda: "answered 403" in exporter.log)
            finally:
                del binding["metadata"]["resourceVersion"]
                node.cluster.post(BINDING.rpartition("/")[0], binding)
            eventually(lambda: up(exporter), seconds=60)

    def test_priority_and_fairness_may_refuse(self, node: Node) -> None:
        with one_seat(node.cluster) as taken, node.exporter() as exporter:
            eventually(lambda: "answered 429" in exporter.log)
            assert not up(exporter)
            taken.close()
            eventually(lambda: up(exporter), seconds=60)


class TestTokens:
    def test_a_rotated_token_is_used_before_the_old_one_ends(self, node: Node) -> None:
        secrets = f"/api/v1/namespaces/{NAMESPACE}/secrets"
        old = node.cluster.post(secrets, {"metadata": {"name": "old"}})
        node.token_file.write_text(node.cluster.token(NAMESPACE, ACCOUNT, bound_to=old))
        with Proxy(node.cluster.port) as proxy, node.exporter(url=proxy.url) as exporter:
            node.pod("rotated")
            eventually(lambda: named(exporter, "rotated"))
            seen = len(node.cluster.audit(USER))
            node.token_file.write_text(node.cluster.token(NAMESPACE, ACCOUNT))
            node.cluster.delete(f"{secrets}/old")
            proxy.cut()
            node.pod("rotated-later")
            eventually(lambda: named(exporter, "rotated-later"))
            assert up(exporter)
            answers = {event["responseStatus"]["code"] for event in node.cluster.audit(USER)[seen:]}
            assert answers == {200}
            assert "answered 401" not in exporter.log

    def test_a_token_that_ended_is_told_and_a_new_one_taken(self, node: Node) -> None:
        node.token_file.write_text(node.cluster.short_token(NAMESPACE, ACCOUNT, seconds=8))
        with Proxy(node.cluster.port) as proxy, node.exporter(url=proxy.url) as exporter:
            eventually(lambda: up(exporter))
            token = node.token_file.read_text()
            eventually(lambda: _answers(node.cluster, token, 401), seconds=60)
            proxy.cut()
            eventually(lambda: not up(exporter))
            eventually(lambda: "answered 401" in exporter.log)
            node.token_file.write_text(node.cluster.token(NAMESPACE, ACCOUNT))
            eventually(lambda: up(exporter), seconds=60)


def _answers(cluster: Cluster, token: str, code: int) -> bool:
    try:
        cluster.request("GET", "/api/v1/pods?limit=1", token=token)
    except RefusedError as error:
        return error.code == code
    return code == 200


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
