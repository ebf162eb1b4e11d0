"""What a kubeconfig says of its current context, as kubectl understands it.

lightkube reads the file. Its models leave out what a request needs no less than the rest
(``tls-server-name``, ``proxy-url``, impersonation, ``provideClusterInfo``): that is taken from
the document itself. Imports lightkube, and with it an HTTP client: several MiB.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec
import yaml
from lightkube.config import models
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.core.exceptions import ConfigError

from vgpumonitor.sources.pods.cluster import Cluster, anonymous, proxy_for, token_file, trusting

_EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
#: Bytes of what a plugin prints that are kept for a message.
_MAX_MESSAGE = 500
#: A plugin's token is asked for again this long before it expires.
_EARLY = timedelta(seconds=10)


def read_kubeconfig(path: str) -> Cluster:
    """The cluster of the current context. Reads files; raises OSError and ValueError."""
    file = Path(path).expanduser()
    try:
        document = yaml.safe_load(file.read_text())
        if not isinstance(document, dict):
            raise ValueError("expected a mapping")
        config = KubeConfig.from_dict(document, file).get()
        assert config is not None  # None only where a default of None was asked for.
        return _cluster(document, config)
    except (ConfigError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"invalid kubeconfig {path}: {reason}") from error


def _cluster(document: dict[str, Any], config: SingleConfig) -> Cluster:
    user = config.user or models.User()
    raw_cluster = _entry(document, "cluster", config.context.cluster)
    raw_user = _entry(document, "user", config.context.user)
    server = config.cluster.server.rstrip("/")
    url = urlsplit(server)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"invalid server {server!r}: expected an http or https URL")
    proxy = raw_cluster.get("proxy-url") or proxy_for(server)
    if proxy and urlsplit(proxy).scheme not in ("http", "https"):
        raise ValueError(f"invalid proxy-url {proxy!r}: expected an http or https URL")
    return Cluster(
        server,
        _tls(config, user) if url.scheme == "https" else None,
        _authorization(config, user, raw_cluster, raw_user),
        raw_cluster.get("tls-server-name"),
        proxy,
        tuple(_impersonation(raw_user)),
    )


def _entry(document: dict[str, Any], kind: str, name: str | None) -> dict[str, Any]:
    for entry in document.get(f"{kind}s") or ():
        if entry["name"] == name:
            found: dict[str, Any] = entry[kind]
            return found
    return {}


def _tls(config: SingleConfig, user: models.User) -> ssl.SSLContext:
    cluster = config.cluster
    ca = _pem(config, cluster.certificate_auth_data, cluster.certificate_auth)
    if ca is not None and cluster.insecure:
        raise ValueError("a certificate-authority and insecure-skip-tls-verify exclude each other")
    context = ssl.create_default_context() if ca is None else trusting(ca)
    if cluster.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate = _pem(config, user.client_cert_data, user.client_cert)
    key = _pem(config, user.client_key_data, user.client_key)
    if certificate is not None:
        if key is None:
            raise ValueError("client-key is missing beside client-certificate")
        # OpenSSL takes both from one file, and from nothing but a file.
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(f"{certificate}\n{key}\n")
            file.flush()
            context.load_cert_chain(file.name)
    return context


def _pem(config: SingleConfig, data: str | None, file: str | None) -> str | None:
    """Of a field that may stand in the kubeconfig itself or name a file beside it."""
    if data:
        return base64.b64decode(data).decode()
    return Path(config.abs_file(file)).read_text() if file else None


def _impersonation(user: dict[str, Any]) -> list[tuple[str, str]]:
    headers = [
        (header, user[key])
        for key, header in (("as", "Impersonate-User"), ("as-uid", "Impersonate-Uid"))
        if user.get(key)
    ]
    headers += [("Impersonate-Group", group) for group in user.get("as-groups") or ()]
    for key, values in (user.get("as-user-extra") or {}).items():
        headers += [(f"Impersonate-Extra-{quote(key, safe='')}", value) for value in values]
    return headers


def _authorization(
    config: SingleConfig, user: models.User, raw_cluster: dict[str, Any], raw_user: dict[str, Any]
) -> Callable[[], Awaitable[str | None]]:
    if user.token_file:
        return token_file(Path(config.abs_file(user.token_file)))
    header: str | None = None
    if user.token:
        header = f"Bearer {user.token}"
    elif user.username:
        header = aiohttp.encode_basic_auth(user.username, user.password or "")
    elif user.exec:
        return _ExecPlugin(config, user.exec, raw_cluster, raw_user["exec"]).authorization
    elif user.auth_provider:
        raise ValueError("auth-provider is not supported: use an exec plugin")
    if header is None:
        return anonymous

    async def authorization() -> str:
        return header

    return authorization


class _Status(msgspec.Struct, rename="camel"):
    token: str | None = None
    expiration_timestamp: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class _ExecCredential(msgspec.Struct):
    status: _Status


class _ExecPlugin:
    """A command that prints a token (client-go credential plugins). The token serves until it
    expires; without a time, until the API server refuses it."""

    def __init__(
        self,
        config: SingleConfig,
        plugin: models.UserExec,
        raw_cluster: dict[str, Any],
        raw_plugin: dict[str, Any],
    ) -> None:
        if plugin.apiVersion not in _EXEC_VERSIONS:
            raise ValueError(
                f"invalid apiVersion {plugin.apiVersion!r} of the exec plugin: expected "
                + " or ".join(_EXEC_VERSIONS)
            )
        if raw_plugin.get("interactiveMode") == "Always":
            raise ValueError(f"the exec plugin {plugin.command} needs a terminal")
        # kubectl: a name without a slash is looked for in PATH.
        command = plugin.command
        self._command = str(config.abs_file(command)) if "/" in command else command
        self._arguments = plugin.args or []
        spec: dict[str, Any] = {"interactive": False}
        if raw_plugin.get("provideClusterInfo"):
            spec["cluster"] = _cluster_info(config, raw_cluster)
        info = {"kind": "ExecCredential", "apiVersion": plugin.apiVersion, "spec": spec}
        self._environment = {
            **{variable.name: variable.value for variable in plugin.env or ()},
            "KUBERNETES_EXEC_INFO": json.dumps(info),
        }
        self._header = ""
        self._expires: datetime | None = None

    async def authorization(self) -> str:
        expired = self._expires is not None and self._expires <= datetime.now(UTC)
        if not self._header or expired:
            status = await self._run()
            if not status.token:
                raise ValueError(
                    f"the exec plugin {self._command} gave no token: client certificates of "
                    "plugins are not supported"
                )
            self._header = f"Bearer {status.token}"
            expires = status.expiration_timestamp
            self._expires = expires and expires - _EARLY
        return self._header

    async def _run(self) -> _Status:
        process = await asyncio.create_subprocess_exec(
            self._command,
            *self._arguments,
            env={**os.environ, **self._environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            output, errors = await process.communicate()
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                process.kill()
            raise
        if process.returncode != 0:
            message = errors[:_MAX_MESSAGE].decode(errors="replace").strip()
            raise ValueError(
                f"the exec plugin {self._command} ended with status {process.returncode}: {message}"
            )
        try:
            return msgspec.json.decode(output, type=_ExecCredential).status
        except ValueError as error:
            raise ValueError(
                f"the exec plugin {self._command} printed no ExecCredential: {error}"
            ) from error


def _cluster_info(config: SingleConfig, raw_cluster: dict[str, Any]) -> dict[str, Any]:
    """The cluster as a plugin is told of it; a CA's file becomes its content."""
    names = ("server", "tls-server-name", "insecure-skip-tls-verify", "proxy-url")
    info = {name: raw_cluster[name] for name in names if name in raw_cluster}
    cluster = config.cluster
    ca = _pem(config, cluster.certificate_auth_data, cluster.certificate_auth)
    if ca is not None:
        info["certificate-authority-data"] = base64.b64encode(ca.encode()).decode()
    for extension in raw_cluster.get("extensions") or ():
        if extension["name"] == "client.authentication.k8s.io/exec":
            info["config"] = extension["extension"]
    return info
