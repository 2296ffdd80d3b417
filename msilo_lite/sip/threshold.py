"""How the door for TCP and TLS behaves, as values; light, since every command reads the settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Whom we show ourselves as, and whom we believe."""

    certificate: Path | None = None
    "PEM: our certificate and those between it and its CA."
    key: Path | None = None
    "PEM: its key; None: in the certificate's file."
    client_ca: Path | None = None
    "PEM: CAs whose client certificates are believed; None: clients are not asked for one."
    client_required: bool = True
    "Whether a client without a certificate is turned away, where `client_ca` is set."
    ca: Path | None = None
    "PEM: CAs of the servers that we connect to; None: those of this system."
    verify: bool = True
    "Whether a server's certificate is checked, and that it names the host of the URI (RFC 5922 7.1)."

    @property
    def named(self) -> tuple[Path, ...]:
        """The files there are."""
        return tuple(one for one in (self.certificate, self.key, self.client_ca, self.ca) if one)


@dataclass(frozen=True, slots=True)
class DoorTerms:
    """How the door behaves."""

    tls: TlsFiles = field(default_factory=TlsFiles)
    clients: int = 1000
    "Connections of clients at once."
    idle: float = 3600.0
    "Seconds after which a silent client's connection is closed."
