"""TLS of the commands that ask an exporter: which authority they trust, and who they are."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def tls_options(command: F) -> F:
    """Adds the flags to a command, which gets the context that they describe as ``tls``."""

    @functools.wraps(command)
    def with_tls(
        ca_file: Path | None, cert_file: Path | None, key_file: Path | None, **values: Any
    ) -> Any:
        return command(tls=_context(ca_file, cert_file, key_file), **values)

    decorated: Any = with_tls
    for flag, help_text in (
        ("--key-file", "Private key of --cert-file, unless that has it."),
        ("--cert-file", "Certificate with which to authenticate as a client, in PEM format."),
        ("--ca-file", "Certificates to trust instead of the system's, in PEM format."),
    ):
        path = click.Path(path_type=Path)
        decorated = click.option(flag, type=path, help=help_text)(decorated)
    return decorated  # type: ignore[no-any-return]


def _context(ca_file: Path | None, cert_file: Path | None, key_file: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise _unusable("--ca-file", ca_file, error) from error
    if cert_file is not None:
        try:
            context.load_cert_chain(cert_file, key_file, password=_no_password)
        except (OSError, ValueError) as error:
            flags = "--cert-file" if key_file is None else "--cert-file, --key-file"
            raise _unusable(flags, cert_file, error) from error
    elif key_file is not None:
        raise click.UsageError("--key-file needs --cert-file")
    return context


def _no_password() -> str:
    # Without it OpenSSL would ask on the terminal.
    raise ValueError("the private key is encrypted: expected one without a password")


def _unusable(flags: str, path: Path | None, error: Exception) -> click.BadParameter:
    reason = getattr(error, "strerror", None) or str(error)
    return click.BadParameter(f"can't use {path}: {reason}", param_hint=flags)
