"""``make test-node``: the image, by the chart, on a real node.

A whole cluster of one node in network and mount namespaces of its own: etcd, kube-apiserver,
kube-controller-manager, kube-scheduler, containerd and kubelet, all built from their Go modules.
The image is built by deploy/image/build. HAMi-core's image is not needed: the monitor is installed
alone, and without a GPU. What this shows: helm's release becomes a pod that starts, passes its
probes, reads pods with its own account, serves the series of a container's region file from the
node under the pod's name, and cleans that directory up when the pod is gone.

Needs root, on Debian: Go, gcc, and the packages runc, buildah, debootstrap and
containernetworking-plugins. Prints a table of how long each step took.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

import vgpumonitor
from testing.polling import eventually
from testing.region_files import put
from tests.cluster.server import Cluster, Object
from tests.deploy.chart import CHART, ROOT, helm

HERE = Path(__file__).parent
NODE = "node-1"
NAMESPACE = "koordinator-system"
#: The first address of the range of services, which is the API server's: a node without
#: kube-proxy reaches it, since it is an address of the node itself.
API = "10.96.0.1"
IMAGE = f"registry.test/vgpumonitor:{vgpumonitor.__version__}"
PAUSE = "registry.test/pause:1"


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


class Node:
    def __init__(self, binaries: Path, directory: Path) -> None:
        self.binaries = binaries
        self.directory = directory
        self.cluster = Cluster(binaries, directory / "cluster", address=API, port=443)
        self.containerd = directory / "containerd.sock"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._steps: list[tuple[str, float]] = []

    def step(self, what: str, do: Callable[[], object], seconds: float = 120) -> None:
        began = time.monotonic()
        eventually(do, seconds)
        self._steps.append((what, time.monotonic() - began))
        print(f"{what}: {self._steps[-1][1]:.1f} s", flush=True)

    def start(self, program: str, *arguments: str) -> None:
        with (self.directory / f"{program}.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    [self.binaries / program, *arguments],
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "PATH": f"{self.binaries}:{os.environ['PATH']}:/usr/sbin"},
                )
            )

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.cluster.stop()

    def ctr(self, *arguments: str | Path) -> str:
        return run(
            self.binaries / "ctr", "--address", self.containerd, "--namespace", "k8s.io", *arguments
        )

    # Parts

    def network(self) -> None:
        run("ip", "link", "set", "lo", "up")
        run("ip", "addr", "add", f"{API}/32", "dev", "lo")
        run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        configuration = {
            "cniVersion": "1.0.0",
            "name": "test",
            "plugins": [
                {
                    "type": "ptp",
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": "10.97.0.0/24"}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                        "dataDir": str(self.directory / "cni-state"),
                    },
                }
            ],
        }
        (self.directory / "cni").mkdir()
        (self.directory / "cni/test.conflist").write_text(json.dumps(configuration))

    def control_plane(self) -> None:
        self.cluster.start()
        config = str(self.cluster.kubeconfig(self.directory / "admin"))
        key = str(self.cluster.key)
        self.start(
            "kube-controller-manager",
            f"--kubeconfig={config}",
            f"--service-account-private-key-file={key}",
            f"--root-ca-file={self.cluster.ca}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
        )
        self.start(
            "kube-scheduler",
            f"--kubeconfig={config}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
        )

    def images(self) -> None:
        config = self.directory / "containerd.toml"
        config.write_text(
            f"""version = 3
root = "{self.directory}/containerd"
state = "{self.directory}/containerd-state"
[grpc]
address = "{self.containerd}"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE}"
[plugins."io.containerd.cri.v1.runtime"]
# Root of a sandbox may not lower its score.
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{self.directory}/cni"
"""
        )
        self.start("containerd", "--config", str(config))
        eventually(self.containerd.exists)
        eventually(lambda: "v" in self.ctr("version"))
        for name in (IMAGE, PAUSE):
            archive = self.directory / "image.tar"
            archive.unlink(missing_ok=True)
            run("buildah", "push", "--quiet", name, f"docker-archive:{archive}:{name}")
            self.ctr("images", "import", archive)

    def kubelet(self) -> None:
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": "127.0.0.1",
            "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "containerRuntimeEndpoint": f"unix://{self.containerd}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "podLogsDir": str(self.directory / "pod-logs"),
            "staticPodPath": "",
        }
        path = self.directory / "kubelet.yaml"
        path.write_text(yaml.safe_dump(config))
        self.start(
            "kubelet",
            f"--config={path}",
            f"--kubeconfig={self.directory}/admin",
            f"--hostname-override={NODE}",
            f"--root-dir={self.directory}/kubelet",
            f"--cert-dir={self.directory}/kubelet-certificates",
            "--node-labels=koordinator.sh/gpu-isolation-provider=HAMi-core",
            f"--node-ip={API}",
        )

    # What is shown

    def is_ready(self) -> bool:
        assert self.cluster.exists(f"/api/v1/nodes/{NODE}")
        node = self.cluster.get(f"/api/v1/nodes/{NODE}")
        conditions = {item["type"]: item["status"] for item in node["status"]["conditions"]}
        return conditions.get("Ready") == "True"

    def pod(self) -> Object:
        (found, *_) = self.cluster.get(
            f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=koord-app%3Dhami-daemon"
        )["items"] or [{"status": {}}]
        assert isinstance(found, dict)
        return found

    def pod_is_ready(self) -> bool:
        statuses = self.pod()["status"].get("containerStatuses", [])
        return bool(statuses) and all(status["ready"] for status in statuses)

    def value(self, name: str, **labels: str) -> float | None:
        """What the pod on the node serves."""
        url = f"http://{self.pod()['status']['podIP']}:9394/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return float(sample.value)
        return None


def build() -> Path:
    """The folder of all programs, kept between runs."""
    where = Path(run(ROOT / "tests/cluster/servers/build").strip())
    folder = where.with_name(where.name + "-node")
    if folder.is_dir():
        return folder
    new = folder.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(where, new)
    version = run("go", "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes", cwd=HERE).strip()
    package = "k8s.io/component-base/version"
    flags = f"-s -w -X {package}.gitVersion={version}"
    for directory, programs in (
        (HERE, ("kubelet", "kube-controller-manager", "kube-scheduler")),
        (HERE.parent / "containerd", ("containerd", "containerd-shim-runc-v2", "ctr")),
    ):
        base = (
            "k8s.io/kubernetes/cmd"
            if directory == HERE
            else "github.com/containerd/containerd/v2/cmd"
        )
        run(
            *("env", "CGO_ENABLED=0", "go", "build", "-o", f"{new}/", "-ldflags", flags),
            *(f"{base}/{program}" for program in programs),
            cwd=directory,
        )
    new.rename(folder)
    return folder


def build_images(directory: Path) -> None:
    print(run(ROOT / "deploy/image/build", IMAGE), end="", flush=True)
    pause = directory / "pause"
    source = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"
    subprocess.run(
        ["gcc", "-static", "-O2", "-x", "c", "-", "-o", pause], input=source.encode(), check=True
    )
    container = run("buildah", "from", "scratch").strip()
    run("buildah", "copy", "--quiet", container, str(pause), "/pause")
    run("buildah", "config", "--entrypoint", '["/pause"]', container)
    run("buildah", "commit", "--quiet", "--rm", container, PAUSE)


def main() -> None:
    if len(sys.argv) == 4 and sys.argv[1] == "--inside":
        node = Node(Path(sys.argv[2]), Path(sys.argv[3]))
        try:
            show(node)
        finally:
            node.stop()
        return
    binaries = build()
    with tempfile.TemporaryDirectory() as scratch:
        build_images(Path(scratch))
    directory = Path(tempfile.mkdtemp(prefix="node-"))
    # Nothing of the cluster can be reached from outside, and all of its mounts end with it.
    namespaces = ["unshare", "--net", "--mount", "--propagation=private"]
    command = [sys.executable, "-m", "tests.cluster.node.run", "--inside"]
    done = subprocess.run([*namespaces, *command, binaries, directory], cwd=ROOT, check=False)
    for group in ("kubepods", "k8s.io"):
        for path in Path("/sys/fs/cgroup").glob(f"**/{group}"):
            for inner in sorted(path.rglob("*/"), reverse=True):
                inner.rmdir()
            path.rmdir()
    if done.returncode:
        sys.exit(f"failed; the logs are in {directory}")
    shutil.rmtree(directory)
    print("the real node did what it should")


def show(node: Node) -> None:
    cluster = node.cluster
    hook = node.directory / "vgpu"
    node.network()
    node.control_plane()
    node.images()
    node.kubelet()
    node.step("node ready", node.is_ready)
    cluster.post(
        "/api/v1/namespaces",
        {
            "metadata": {
                "name": NAMESPACE,
                "labels": {"pod-security.kubernetes.io/enforce": "privileged"},
            }
        },
    )
    done = helm(
        *("install", "hami-daemon", str(CHART), "--kubeconfig", f"{node.directory}/admin"),
        *("--namespace", NAMESPACE, "--set", "daemon.hamiCore.enabled=false"),
        *("--set", "daemon.vgpuMonitor.image.repository=registry.test/vgpumonitor"),
        *("--set", "daemon.vgpuMonitor.imagePullPolicy=Never"),
        *("--set", f"daemon.vgpuMonitor.env.hookPath={hook}"),
        *("--set", "daemon.vgpuMonitor.extraArgs[0]=--gc-grace=1s"),
    )
    if done.returncode:
        sys.exit(done.stderr)
    node.step("installed to pod ready", node.pod_is_ready)
    node.step("pods read with the chart's account", lambda: node.value("vgpumonitor_pod_source_up"))
    work = cluster.post(
        "/api/v1/namespaces/default/pods",
        {
            "metadata": {"name": "train"},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "train", "image": PAUSE, "imagePullPolicy": "Never"}],
            },
        },
    )
    path = hook / "containers" / f"{work['metadata']['uid']}_train"
    put("hami-2.9.0-three-processes", path / "x.cache")
    node.step(
        "container's series under its pod's name",
        # 0 of its processes live: they were recorded elsewhere.
        lambda: (
            node.value("vgpu_processes", pod="train", namespace="default", container="train") == 0
        ),
    )
    cluster.delete("/api/v1/namespaces/default/pods/train")
    node.step("deleted to directory cleaned up", lambda: not path.exists(), seconds=300)
    done = helm(
        *("uninstall", "hami-daemon", "--kubeconfig", f"{node.directory}/admin"),
        *("--namespace", NAMESPACE),
    )
    node.step(
        "uninstalled to no pod left",
        lambda: not cluster.get(f"/api/v1/namespaces/{NAMESPACE}/pods")["items"],
    )


if __name__ == "__main__":
    main()
