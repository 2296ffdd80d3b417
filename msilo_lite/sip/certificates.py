"""TLS by Python's own `ssl`: which certificate we show, whose we believe, and new files without a restart.

PJSIP never speaks TLS here: the OpenSSL 1.0.2 inside its binding has neither TLS 1.3 nor security updates.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError
from .threshold import TlsFiles


@dataclass(frozen=True, slots=True)
class Contexts:
    """What a connection is wrapped with."""

    server: ssl.SSLContext | None
    client: ssl.SSLContext


def load(files: TlsFiles) -> Contexts:
    """Read all files. Raises ConfigError, a sentence that names the setting and the file."""
    return Contexts(_server(files) if files.certificate else None, _client(files))


def _server(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # costs us a handshake whenever a client likes
    _show(context, files)
    if files.client_ca:
        _believe(context, "tls_client_ca", files.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED if files.client_required else ssl.CERT_OPTIONAL
    return context


def _client(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if files.ca:
        _believe(context, "tls_ca", files.ca)
    elif files.verify:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if not files.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if files.certificate:  # servers may ask who we are
        _show(context, files)
    return context


def _show(context: ssl.SSLContext, files: TlsFiles) -> None:
    """Give a context our certificate."""
    assert files.certificate
    key = files.key or files.certificate
    for name, file in (("tls_certificate", files.certificate), ("tls_key", key)):
        _readable(name, file)
    try:
        context.load_cert_chain(files.certificate, files.key, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"tls_key {key} is not the key of tls_certificate {files.certificate}") from error
        where = "tls_key" if files.key else "tls_certificate"
        words = f"tls_certificate {files.certificate} with {where} {key} cannot be used ({_why(error)}); "
        raise ConfigError(words + "both are PEM, the key without a password") from error


def _believe(context: ssl.SSLContext, name: str, file: Path) -> None:
    _readable(name, file)
    try:
        context.load_verify_locations(file)
    except ssl.SSLError as error:
        raise ConfigError(f"{name} {file} holds no CA certificate in PEM ({_why(error)})") from error


def _readable(name: str, file: Path) -> None:
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"{name} {file} cannot be read: {error.strerror or error}") from error


def _why(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()


def signature(files: TlsFiles) -> tuple[tuple[int, int, int], ...]:
    """What changes when one of the files is replaced."""
    return tuple(_mark(one) for one in files.named)


def _mark(file: Path) -> tuple[int, int, int]:
    try:
        found = file.stat()
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_size, found.st_ino
