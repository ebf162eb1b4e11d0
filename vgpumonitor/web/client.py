"""The other end of ``tls``: how a command that asks an exporter over https proves who it is."""

from __future__ import annotations

import ssl
from pathlib import Path

from vgpumonitor.web.tls import TlsError, reason


def client_context(
    ca_file: Path | None = None, cert_file: Path | None = None, key_file: Path | None = None
) -> ssl.SSLContext:
    """A context that trusts the authorities in ``ca_file``, or the system's, and shows the
    certificate in ``cert_file``; its key may be in the same file. All are PEM. Raises TlsError.
    """
    if key_file is not None and cert_file is None:
        raise TlsError(f"{key_file}: expected a certificate file for this key")
    try:
        for file in filter(None, (ca_file, cert_file, key_file)):
            file.open("rb").close()  # OpenSSL's own error doesn't name the file.
    except OSError as error:
        raise TlsError(f"{error.filename}: {error.strerror}") from error
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise TlsError(f"{ca_file}: expected PEM certificates: {reason(error)}") from error
    if cert_file is not None:
        try:
            context.load_cert_chain(cert_file, key_file)
        except ssl.SSLError as error:
            raise TlsError(
                f"{cert_file}: expected a PEM certificate that fits {key_file or 'its own key'}: "
                f"{reason(error)}"
            ) from error
    return context
