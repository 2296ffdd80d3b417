"""Settings of TCP and TLS: certificates, and how many clients may stay for how long.

Where we listen is `bind`, where we send is what a Contact, `outbound_proxy` or `registrar` says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, Field, field_validator, model_validator

from ..errors import BadRequest
from ..sip.address import TRANSPORTS, remote_of
from ..sip.threshold import DoorTerms, TlsFiles


class Transports(BaseModel):
    """What the door for TCP and TLS goes by."""

    tls_certificate: Path | None = Field(
        None, description="PEM file with our certificate and its chain: for tls: in bind, and where a server asks."
    )
    tls_key: Path | None = Field(None, description="PEM file with its key; unset: it is in tls_certificate.")
    tls_client_ca: Path | None = Field(
        None, description="PEM file with the CAs of clients; unset: clients need no certificate."
    )
    tls_client_required: bool = Field(
        True, description="With tls_client_ca: whether a client without a certificate is turned away."
    )
    tls_ca: Path | None = Field(
        None, description="PEM file with the CAs of servers we connect to; unset: those of this system."
    )
    tls_verify: bool = Field(True, description="Whether a server's certificate has to be valid and to name its host.")
    tcp_clients: int = Field(1000, ge=1, le=50000, description="TCP and TLS connections of clients at once.")
    tcp_idle: int = Field(3600, ge=10, le=86400, description="Seconds after which a silent client is disconnected.")

    @field_validator(
        "tls_certificate", "tls_key", "tls_client_ca", "tls_ca", mode="before"
    )  # an empty value in the environment
    @classmethod
    def _no_path_is_none(cls, value: object) -> object:
        return value or None

    @field_validator("tls_certificate", "tls_key", "tls_client_ca", "tls_ca")
    @classmethod
    def _at_home(cls, value: Path | None) -> Path | None:
        return value.expanduser() if value else None

    @field_validator("outbound_proxy", "registrar", check_fields=False)
    @classmethod
    def _check_transport(cls, value: str | None) -> str | None:
        if value:
            try:
                asked = remote_of(value).transport
            except BadRequest:
                return value  # said by another check
            if asked not in TRANSPORTS:
                raise ValueError(f"{value!r} asks for {asked}, but only {', '.join(TRANSPORTS)} are spoken")
        return value

    @model_validator(mode="after")
    def _check_certificates(self) -> Self:
        listens = any(one.startswith("tls:") for one in getattr(self, "bind", ()))
        if listens and not self.tls_certificate:
            raise ValueError("tls_certificate is not set; tls: in bind needs one")
        if self.tls_key and not self.tls_certificate:
            raise ValueError("tls_key is set without tls_certificate")
        return self

    @property
    def door(self) -> DoorTerms:
        """The same, as the door wants it."""
        files = TlsFiles(
            self.tls_certificate,
            self.tls_key,
            self.tls_client_ca,
            self.tls_client_required,
            self.tls_ca,
            self.tls_verify,
        )
        return DoorTerms(files, self.tcp_clients, float(self.tcp_idle))
