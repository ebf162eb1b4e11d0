"""What a kubeconfig says, by what a server gets of it."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from testing import pods
from testing.apiserver import (
    ApiServer,
    Seen,
    kubeconfig,
    make_certificate,
    server_tls,
)
from tests.sources.pods.waiting import names, running, until
from vgpumonitor.sources.pods.kubeconfig import read_kubeconfig
from vgpumonitor.sources.pods.kubernetes import KubernetesPodSource, Timing

SHORT = Timing(first_delay=0.01, longest_delay=0.05, watch=1.0)


async def watched(server: ApiServer, config: str, watches: int = 1) -> list[Seen]:
    """What the server saw until the source had its pod and had begun ``watches`` of them."""
    server.put(pods.pod("one"))
    async with running(source := KubernetesPodSource("node-1", config, SHORT)):
        await until(lambda: names(source.view) == {"one"})
        await until(lambda: len(server.of("watch")) >= watches)
    return server.seen


def of_plain_server(tmp_path: Path, **user: Any) -> list[Seen]:
    async def main() -> list[Seen]:
        async with ApiServer() as server:
            return await watched(server, kubeconfig(tmp_path / "config", server.url, **user))

    return asyncio.run(main())


def of_tls_server(
    tmp_path: Path, tls: ssl.SSLContext, cluster: Mapping[str, Any], **user: Any
) -> list[Seen]:
    async def main() -> list[Seen]:
        async with ApiServer(tls=tls) as server:
            config = kubeconfig(tmp_path / "config", server.url, cluster, **user)
            return await watched(server, config)

    return asyncio.run(main())


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


@pytest.mark.parametrize(
    ("user", "header"),
    [
        ({}, None),
        ({"token": "t"}, "Bearer t"),
        ({"username": "näme", "password": "p:w"}, "Basic bsOkbWU6cDp3"),
    ],
    ids=["nobody", "a token", "a password"],
)
def test_authorization(tmp_path: Path, user: dict[str, str], header: str | None) -> None:
    seen = of_plain_server(tmp_path, **user)
    assert {request.headers.get("Authorization") for request in seen} == {header}


def test_impersonation(tmp_path: Path) -> None:
    user = {
        "as": "jane",
        "as-uid": "17",
        "as-groups": ["dev", "ops"],
        "as-user-extra": {"example.com/scope": ["view"]},
    }
    headers = of_plain_server(tmp_path, token="t", **user)[0].headers
    assert headers["Impersonate-User"] == "jane"
    assert headers["Impersonate-Uid"] == "17"
    assert headers["Impersonate-Extra-example.com%2Fscope"] == "view"
    assert headers.getall("Impersonate-Group") == ["dev", "ops"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["file", "data", "insecure"])
def test_whom_the_server_has_to_be_vouched_for_by(tmp_path: Path, kind: str) -> None:
    certificate, key = make_certificate(tmp_path)
    cluster: dict[str, dict[str, Any]] = {
        "file": {"certificate-authority": certificate.name},
        "data": {"certificate-authority-data": encoded(certificate)},
        "insecure": {"insecure-skip-tls-verify": True},
    }
    assert of_tls_server(tmp_path, server_tls(certificate, key), cluster[kind])


def test_another_name_of_the_server(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "DNS:kubernetes.default")
    cluster = {
        "certificate-authority": str(certificate),
        "tls-server-name": "kubernetes.default",
    }
    assert of_tls_server(tmp_path, server_tls(certificate, key), cluster)


@pytest.mark.parametrize("kind", ["file", "data"])
def test_a_client_certificate(tmp_path: Path, kind: str) -> None:
    certificate, key = make_certificate(tmp_path)
    tls = server_tls(certificate, key)
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(certificate)
    user = {
        "file": {"client-certificate": str(certificate), "client-key": str(key)},
        "data": {
            "client-certificate-data": encoded(certificate),
            "client-key-data": encoded(key),
        },
    }
    assert of_tls_server(tmp_path, tls, {"certificate-authority": str(certificate)}, **user[kind])


def test_a_proxy(tmp_path: Path) -> None:
    async def main() -> None:
        asked: list[str] = []

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            asked.append(str(request.url))
            raise web.HTTPBadGateway

        runner = web.ServerRunner(web.Server(answer))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        proxy = f"http://127.0.0.1:{runner.addresses[0][1]}"
        config = kubeconfig(
            tmp_path / "config", "http://cluster.example:8080/prefix/", {"proxy-url": proxy}
        )
        async with running(source := KubernetesPodSource("node-1", config, SHORT)):
            await until(lambda: "502" in (source.view.problem or ""))
        await runner.cleanup()
        assert asked[0].startswith("http://cluster.example:8080/prefix/api/v1/pods?")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("variables", "server", "proxy"),
    [
        ({"https_proxy": "http://proxy:3128"}, "https://cluster:6443", "http://proxy:3128"),
        ({"https_proxy": "http://proxy:3128"}, "http://cluster:8080", None),
        (
            {"https_proxy": "http://proxy:3128", "no_proxy": "cluster"},
            "https://cluster:6443",
            None,
        ),
    ],
)
def test_the_environment_s_proxy(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    server: str,
    proxy: str | None,
) -> None:
    for name in ("https_proxy", "http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert read_kubeconfig(kubeconfig(tmp_path / "config", server)).proxy == proxy


PLUGIN = r"""#!/bin/sh
echo run >> {directory}/runs
echo "$KUBERNETES_EXEC_INFO" > {directory}/info
printf '{{"kind": "ExecCredential", "status": {{"token": "%s-%s"%s}}}}' \
    "$1" "$PREFIX" '{expires}'
"""


def plugin(tmp_path: Path, expires: str = "", **more: Any) -> dict[str, Any]:
    script = tmp_path / "plugin"
    script.write_text(PLUGIN.format(directory=tmp_path, expires=expires))
    script.chmod(0o755)
    return {
        "apiVersion": "client.authentication.k8s.io/v1",
        # Beside the kubeconfig.
        "command": "./plugin",
        "args": ["argument"],
        "env": [{"name": "PREFIX", "value": "variable"}],
        "interactiveMode": "IfAvailable",
        **more,
    }


def times_run(tmp_path: Path) -> int:
    return len((tmp_path / "runs").read_text().splitlines())


def test_an_exec_plugin_is_asked_once(tmp_path: Path) -> None:
    expires = ', "expirationTimestamp": "2999-01-01T00:00:00Z"'
    seen = of_plain_server(tmp_path, exec=plugin(tmp_path, expires))
    assert {request.token for request in seen} == {"argument-variable"}
    assert times_run(tmp_path) == 1
    assert json.loads((tmp_path / "info").read_text()) == {
        "kind": "ExecCredential",
        "apiVersion": "client.authentication.k8s.io/v1",
        "spec": {"interactive": False},
    }


def test_an_exec_plugin_whose_token_has_expired_is_asked_again(tmp_path: Path) -> None:
    expires = ', "expirationTimestamp": "2020-01-01T00:00:00Z"'
    seen = of_plain_server(tmp_path, exec=plugin(tmp_path, expires))
    assert times_run(tmp_path) == len(seen)


def test_an_exec_plugin_whose_token_is_refused_is_asked_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with ApiServer(tokens={"argument-first"}) as server:
            server.put(pods.pod("one"))
            user = plugin(tmp_path)
            user["env"] = []
            user["args"] = ["argument"]
            script = tmp_path / "plugin"
            script.write_text(script.read_text().replace('"$PREFIX"', f'"$(cat {tmp_path}/now)"'))
            (tmp_path / "now").write_text("first")
            config = kubeconfig(tmp_path / "config", server.url, exec=user)
            async with running(source := KubernetesPodSource("node-1", config, SHORT)):
                await until(lambda: server.of("watch"))
                (tmp_path / "now").write_text("second")
                server.tokens = {"argument-second"}
                await until(lambda: server.of("watch")[-1].token == "argument-second")
                await until(lambda: source.view.up)

    asyncio.run(main())


def test_an_exec_plugin_that_wants_to_know_the_cluster(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    cluster = {
        "certificate-authority": str(certificate),
        "extensions": [
            {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "a"}}
        ],
    }
    user = plugin(tmp_path, provideClusterInfo=True)
    of_tls_server(tmp_path, server_tls(certificate, key), cluster, exec=user)
    told = json.loads((tmp_path / "info").read_text())["spec"]["cluster"]
    assert told.pop("server").startswith("https://127.0.0.1:")
    assert told == {
        "certificate-authority-data": encoded(certificate),
        "config": {"audience": "a"},
    }


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo no such account >&2; exit 3", "ended with status 3: no such account"),
        ("echo hello", "printed no ExecCredential"),
        ("echo '{\"status\": {}}'", "gave no token: client certificates"),
    ],
)
def test_an_exec_plugin_that_fails(tmp_path: Path, script: str, message: str) -> None:
    user = plugin(tmp_path)
    (tmp_path / "plugin").write_text(f"#!/bin/sh\n{script}\n")
    config = kubeconfig(tmp_path / "config", "http://127.0.0.1:1", exec=user)

    async def main() -> None:
        async with running(source := KubernetesPodSource("node-1", config, SHORT)):
            await until(lambda: message in (source.view.problem or ""))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "while parsing a flow node"),
        ("[]", "expected a mapping"),
        ("clusters: []\ncontexts: []", "No current context"),
        ("clusters: []\ncontexts: []\ncurrent-context: a", "Context 'a' not found"),
        ("contexts: []", "'clusters' is missing"),
    ],
)
def test_not_a_kubeconfig(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(ValueError, match="invalid kubeconfig") as raised:
        read_kubeconfig(str(path))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("server", "cluster", "user", "message"),
    [
        ("10.0.0.1:6443", {}, {}, "expected an http or https URL"),
        ("https://a", {"proxy-url": "socks5://proxy:1080"}, {}, "invalid proxy-url"),
        ("https://a", {"certificate-authority": "absent.pem"}, {}, "absent.pem"),
        (
            "https://a",
            {"certificate-authority-data": "////", "insecure-skip-tls-verify": True},
            {},
            "invalid",
        ),
        ("https://a", {}, {"client-certificate-data": "YQ=="}, "client-key is missing"),
        ("https://a", {}, {"auth-provider": {"name": "gcp"}}, "use an exec plugin"),
        (
            "https://a",
            {},
            {"exec": {"apiVersion": "client.authentication.k8s.io/v1alpha1", "command": "x"}},
            "invalid apiVersion",
        ),
        (
            "https://a",
            {},
            {
                "exec": {
                    "apiVersion": "client.authentication.k8s.io/v1",
                    "command": "x",
                    "interactiveMode": "Always",
                }
            },
            "needs a terminal",
        ),
    ],
)
def test_what_can_t_be_used_is_refused(
    tmp_path: Path,
    server: str,
    cluster: dict[str, Any],
    user: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        read_kubeconfig(kubeconfig(tmp_path / "config", server, cluster, **user))
