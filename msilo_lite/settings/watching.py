"""Settings of what can be seen from outside, and of how much is kept of what is over."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Watching(BaseModel):
    """Health and metrics, the form of the log, history."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    http_listen: str = Field(
        "", description="Where /livez, /readyz and /metrics are, as 9464 (this machine alone) or HOST:PORT; empty: off."
    )
    log_format: Literal["auto", "human", "json"] = Field(
        "auto", description="Form of the log's lines; auto: for a person on a terminal, JSON elsewhere."
    )
    history_rows: int = Field(
        0, ge=0, description="Messages that left the box of which is kept what became of them; 0: any number."
    )

    @field_validator("http_listen", mode="before")
    @classmethod
    def _check_listen(cls, value: Any) -> Any:
        text = str(value).strip()
        if not text:
            return ""
        host, _, port = text.rpartition(":")
        host = host.strip("[]") or "127.0.0.1"
        try:
            address = ip_address(host)
        except ValueError:
            raise ValueError(f"{text!r} is not of the form PORT or HOST:PORT with an IP address") from None
        if not (port.isascii() and port.isdigit() and int(port) < 65536):
            raise ValueError(f"{text!r} is not of the form PORT or HOST:PORT, with a port up to 65535")
        return f"[{address}]:{int(port)}" if address.version == 6 else f"{address}:{int(port)}"

    @property
    def http_address(self) -> tuple[str, int] | None:
        """`http_listen` as host and port; None where it is off."""
        host, _, port = self.http_listen.rpartition(":")
        return (host.strip("[]"), int(port)) if port else None
