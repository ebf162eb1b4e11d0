"""A real etcd and a real kube-apiserver, on 127.0.0.1 unless told otherwise. No controller and no
kubelet runs: a test that needs what these do does it itself."""

from __future__ import annotations

import base64
import json
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from email.message import Message
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from testing.exporter import free_port
from testing.polling import eventually

Object = dict[str, Any]

ADMIN = "the-tests-own-administrator"
ISSUER = "https://kubernetes.default.svc"

#: What the exporter asks for is looked up in the audit log.
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}


class RefusedError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass
class Answer:
    body: Any
    headers: Message

    @property
    def warnings(self) -> list[str]:
        return self.headers.get_all("Warning") or []


@dataclass
class Cluster:
    """``binaries`` holds etcd, kube-apiserver and crds/ (tests/cluster/servers/build)."""

    binaries: Path
    directory: Path
    address: str = "127.0.0.1"
    port: int = field(default_factory=free_port)
    etcd_port: int = field(default_factory=free_port)
    _etcd: subprocess.Popen[bytes] | None = None
    _apiserver: subprocess.Popen[bytes] | None = None

    # Processes

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "policy.yaml").write_text(yaml.safe_dump(AUDIT_POLICY))
        (self.directory / "tokens.csv").write_text(f"{ADMIN},admin,admin,system:masters\n")
        subprocess.run(
            ["openssl", "genrsa", "-out", self.key, "2048"], check=True, capture_output=True
        )
        peer = f"http://127.0.0.1:{free_port()}"
        self._etcd = self._run(
            "etcd",
            f"--data-dir={self.directory}/etcd",
            f"--listen-client-urls={self.etcd_url}",
            f"--advertise-client-urls={self.etcd_url}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        )
        self.start_apiserver()
        for namespace in ("default", "kube-system"):
            eventually(partial(self.exists, f"/api/v1/namespaces/{namespace}"))
        for file in sorted((self.binaries / "crds").glob("*.yaml")):
            if any(kind in file.name for kind in ("monitors", "prometheusrules")):
                self.post(
                    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
                    yaml.safe_load(file.read_text()),
                )
        for kind in ("servicemonitors", "podmonitors", "prometheusrules"):
            eventually(partial(self.exists, f"/apis/monitoring.coreos.com/v1/{kind}"))

    def start_apiserver(self) -> None:
        self._apiserver = self._run(
            "kube-apiserver",
            f"--etcd-servers={self.etcd_url}",
            f"--bind-address={self.address}",
            f"--advertise-address={self.address}",
            "--endpoint-reconciler-type=none",
            f"--secure-port={self.port}",
            f"--cert-dir={self.directory}/certificates",
            "--authorization-mode=RBAC",
            f"--token-auth-file={self.directory}/tokens.csv",
            f"--service-account-issuer={ISSUER}",
            f"--service-account-key-file={self.key}",
            f"--service-account-signing-key-file={self.key}",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--audit-policy-file={self.directory}/policy.yaml",
            f"--audit-log-path={self.audit_path}",
        )
        eventually(self._ready, seconds=120)

    def stop_apiserver(self, how: signal.Signals = signal.SIGTERM) -> None:
        _stop(self._apiserver, how)
        self._apiserver = None

    def stop(self) -> None:
        _stop(self._apiserver)
        _stop(self._etcd)

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.directory / f"{program}.log").open("ab") as log:
            return subprocess.Popen(
                [self.binaries / program, *arguments], stdout=log, stderr=log, cwd=self.directory
            )

    def _ready(self) -> bool:
        assert self._apiserver is not None
        if self._apiserver.poll() is not None:
            raise RuntimeError((self.directory / "kube-apiserver.log").read_text()[-2000:])
        try:
            return bool(self.request("GET", "/readyz", text=True).body == "ok")
        except RefusedError as error:
            raise AssertionError(str(error)) from error

    # Requests

    @property
    def url(self) -> str:
        return f"https://{self.address}:{self.port}"

    @property
    def etcd_url(self) -> str:
        return f"http://127.0.0.1:{self.etcd_port}"

    @property
    def ca(self) -> Path:
        return self.directory / "certificates/apiserver.crt"

    @property
    def key(self) -> Path:
        return self.directory / "service-accounts.key"

    @property
    def audit_path(self) -> Path:
        return self.directory / "audit.log"

    def request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        content_type: str = "application/json",
        token: str = ADMIN,
        text: bool = False,
    ) -> Answer:
        request = urllib.request.Request(
            self.url + path,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"Bearer {token}", "Content-Type": content_type},
        )
        context = ssl.create_default_context(cafile=str(self.ca))
        for attempt in range(20):
            try:
                with urllib.request.urlopen(request, timeout=30, context=context) as response:
                    raw = response.read()
                    return Answer(raw.decode() if text else json.loads(raw), response.headers)
            except urllib.error.HTTPError as error:
                refused = _refused(error)
            if refused.code != 429 or token != ADMIN:
                break
            # As clients do: new kinds are being set up.
            time.sleep(min(0.1 * 2**attempt, 1))
        raise refused

    def get(self, path: str) -> Any:
        return self.request("GET", path).body

    def post(self, path: str, body: Object) -> Any:
        return self.request("POST", path, body).body

    def delete(self, path: str, seconds: int | None = None) -> Any:
        """``seconds`` of grace; 0 is what kubelet asks for once the containers have ended."""
        options = {} if seconds is None else {"gracePeriodSeconds": seconds}
        return self.request("DELETE", path, options).body

    def patch(self, path: str, body: Object) -> Any:
        return self.request("PATCH", path, body, content_type="application/merge-patch+json").body

    def exists(self, path: str) -> bool:
        try:
            self.get(path)
        except RefusedError as error:
            if error.code != 404:
                raise
            return False
        return True

    # What a cluster has

    def namespace(self, name: str, level: str | None = "privileged") -> None:
        """A namespace at a PodSecurity level, with the ServiceAccount that a controller makes."""
        labels = {} if level is None else {"pod-security.kubernetes.io/enforce": level}
        self.post("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        self.post(f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": "default"}})

    def token(self, namespace: str, account: str, bound_to: Object | None = None) -> str:
        """A token as kubelet asks for it; one that is bound to an object ends with it."""
        spec: Object = {"expirationSeconds": 3600}
        if bound_to is not None:
            spec["boundObjectRef"] = {
                "kind": "Secret",
                "apiVersion": "v1",
                "name": bound_to["metadata"]["name"],
                "uid": bound_to["metadata"]["uid"],
            }
        answer = self.post(
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec},
        )
        return str(answer["status"]["token"])

    def short_token(self, namespace: str, account: str, seconds: float) -> str:
        """A token that is taken for ``seconds`` more, where the API server itself makes none
        below ten minutes."""
        found = self.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}")
        # The server's clock may differ from the issuer's by a minute.
        now = int(time.time() + seconds - 60)
        claims = {
            "iss": ISSUER,
            "aud": [ISSUER],
            "sub": f"system:serviceaccount:{namespace}:{account}",
            "iat": now - 60,
            "nbf": now - 60,
            "exp": now,
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": {"name": account, "uid": found["metadata"]["uid"]},
            },
        }
        signed = ".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "RS256"}, claims))
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self.key],
            input=signed.encode(),
            capture_output=True,
            check=True,
        ).stdout
        return f"{signed}.{_base64(signature)}"

    def kubeconfig(self, path: Path, *, token_file: Path | None = None, url: str = "") -> Path:
        """For ``token_file``'s token, or the administrator."""
        user = {"token": ADMIN} if token_file is None else {"tokenFile": str(token_file)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "users": [{"name": "test", "user": user}],
            "clusters": [
                {
                    "name": "test",
                    "cluster": {"server": url or self.url, "certificate-authority": str(self.ca)},
                }
            ],
        }
        path.write_text(yaml.safe_dump(config))
        path.chmod(0o600)
        return path

    def audit(self, user: str) -> list[Object]:
        """What ``user`` has asked for, oldest first."""
        lines = self.audit_path.read_text().splitlines()
        events = [json.loads(line) for line in lines]
        return [event for event in events if event["user"].get("username") == user]

    def compact(self) -> None:
        """etcd forgets every version but the newest."""

        def etcd(path: str, body: Object) -> Any:
            request = urllib.request.Request(
                self.etcd_url + path, data=json.dumps(body).encode(), method="POST"
            )
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.loads(response.read())

        key = base64.b64encode(b"/").decode()
        revision = etcd("/v3/kv/range", {"key": key})["header"]["revision"]
        etcd("/v3/kv/compaction", {"revision": revision, "physical": True})


def _refused(error: urllib.error.HTTPError) -> RefusedError:
    answer = error.read().decode()
    try:
        message = str(json.loads(answer)["message"])
    except (ValueError, KeyError):
        message = answer
    return RefusedError(error.code, message)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _stop(process: subprocess.Popen[bytes] | None, how: signal.Signals = signal.SIGTERM) -> None:
    if process is None or process.poll() is not None:
        return
    process.send_signal(how)
    try:
        # A watch that lasts keeps the API server for a minute: whoever runs it is less patient.
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
