"""How a cluster's API server is reached: address, TLS and credentials.

In a pod the configuration is what client-go's ``rest.InClusterConfig`` takes: two variables
and two files. ``kubeconfig`` knows the other way.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

#: Where kubelet puts a pod's token and the cluster's CA.
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


async def anonymous() -> None:
    """No credentials: a proxy of kubectl's, or a client certificate."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """``server`` is an http or https URL without a slash at its end. ``authorization`` gives
    the header of that name for one request; it raises OSError and ValueError."""

    server: str
    tls: ssl.SSLContext | None
    authorization: Callable[[], Awaitable[str | None]] = anonymous
    server_name: str | None = None
    proxy: str | None = None
    headers: tuple[tuple[str, str], ...] = field(default=())


def in_cluster() -> bool:
    """Whether this runs in a pod that has a service account."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and (SERVICE_ACCOUNT / "token").is_file()


def service_account() -> Cluster:
    """The cluster that this runs in. Reads files; raises OSError and ValueError."""
    if not in_cluster():
        raise ValueError(
            "no kubeconfig is given, and this is not a pod of a cluster: "
            f"KUBERNETES_SERVICE_HOST or {SERVICE_ACCOUNT}/token is missing"
        )
    host = os.environ["KUBERNETES_SERVICE_HOST"]
    if ":" in host:
        host = f"[{host}]"
    server = f"https://{host}:{os.environ.get('KUBERNETES_SERVICE_PORT', '443')}"
    tls = trusting((SERVICE_ACCOUNT / "ca.crt").read_text())
    return Cluster(server, tls, token_file(SERVICE_ACCOUNT / "token"), proxy=proxy_for(server))


def trusting(ca: str) -> ssl.SSLContext:
    """TLS with a server that one of the certificates in ``ca``, a PEM text, vouches for."""
    context = ssl.create_default_context(cadata=ca)
    # The default from Python 3.13 on; it refuses CAs that older kubeadms have made.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def token_file(path: Path) -> Callable[[], Awaitable[str]]:
    """Authorization by the token that ``path`` has at each request: kubelet replaces a pod's
    some time before it expires."""

    async def authorization() -> str:
        token = (await asyncio.to_thread(path.read_text)).strip()
        if not token:
            raise ValueError(f"the token file {path} is empty")
        return f"Bearer {token}"

    return authorization


def proxy_for(server: str) -> str | None:
    """The proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name for ``server``."""
    url = urlsplit(server)
    if urllib.request.proxy_bypass(url.netloc):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(url.scheme) or proxies.get("all")
