"""How much is taken: of one user, of one sender, of everybody, of one request. 0 is no limit, as in msilo.

The field descriptions are the manual; docs/limits.md tells what each sender hears.
"""

from __future__ import annotations

from pydantic import BaseModel, Field

from ..box.policy import Caps

MEGABYTE = 1024 * 1024


class Limits(BaseModel):
    """Settings beside msilo's max_messages."""

    max_bytes: int = Field(0, ge=0, description="Bytes that may wait for one user, what exceeds them gets 480.")
    max_total_messages: int = Field(0, ge=0, description="Messages that may wait in all, later ones get 503.")
    max_total_bytes: int = Field(0, ge=0, description="Bytes that may wait in all, what exceeds them gets 503.")
    min_free: int = Field(
        64 * MEGABYTE, ge=0, description="Bytes of the disk that stay free (at most a twentieth of it), else 503."
    )
    sender_rate: float = Field(0, ge=0, description="Messages a minute from one sender, faster ones get 480.")
    sender_burst: int = Field(
        20, ge=1, description="Messages that a sender may send at once before sender_rate counts."
    )
    max_size: int = Field(0, ge=0, description="Bytes of a body that are taken, more of them get 413; 0: what fits.")
    max_headers: int = Field(200, ge=0, description="Header lines that a request may have, more of them get 513.")
    max_header_bytes: int = Field(
        0, ge=0, description="Bytes that a request may have before its body, more of them get 513; 0: what fits."
    )

    @property
    def caps(self) -> Caps:
        """What may wait, beside max_messages."""
        return Caps(self.max_bytes, self.max_total_messages, self.max_total_bytes)
