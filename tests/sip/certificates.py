"""Certificates for the tests, by a CA of their own, as PEM files in the test's folder."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Shown:
    """A certificate with its chain, and its key."""

    certificate: Path
    key: Path


class Authority:
    """A CA."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._ca = trustme.CA(organization_name=f"Test {name}")
        self._folder = folder
        self.file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, name: str, *hosts: str) -> Shown:
        """A certificate for these host names and addresses; written over an older one of that name."""
        made = self._ca.issue_cert(*hosts)
        shown = Shown(self._folder / f"{name}.crt.pem", self._folder / f"{name}.key.pem")
        shown.certificate.write_bytes(b"".join(one.bytes() for one in made.cert_chain_pems))
        shown.key.write_bytes(made.private_key_pem.bytes())
        return shown

    def client(self, shown: Shown | None = None) -> ssl.SSLContext:
        """For a client who believes this CA, and shows a certificate."""
        context = ssl.create_default_context(cafile=self.file)
        if shown:
            context.load_cert_chain(shown.certificate, shown.key)
        return context

    def server(self, shown: Shown) -> ssl.SSLContext:
        """For a server who shows a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(shown.certificate, shown.key)
        return context
