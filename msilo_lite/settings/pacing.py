"""How fast the silo begins with recipients: the settings that keep a burst from a PBX."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Pacing(BaseModel):
    """Rates of recipients, not of messages: what waits for one of them leaves one after the other anyway."""

    retry_rate: float = Field(
        20, ge=0, le=10000, description="Recipients a second begun with by the timer or by a NOTIFY; 0: no limit."
    )
    wake_rate: float = Field(
        500, ge=0, le=10000, description="Recipients a second begun with after a REGISTER of theirs; 0: no limit."
    )
