"""msilo's parameters: same names, same defaults (but for `db_url`), same meaning.

Where msilo takes an AVP or a flag out of Kamailio's script, the value here is an expression of pseudo-variables, or the
request says it in a header (`control`). What each meant in the original stands in docs/parity.md.
"""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..box.schema import Names
from ..errors import BadRequest
from ..sip.address import parse_uri
from .pseudo import Template

COLUMNS = tuple(name for name in Names.__slots__ if name != "db_table")


class Parameters(BaseModel):
    """What `modparam("msilo", ...)` sets in Kamailio."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    db_table: str = Field("silo", min_length=1, description="msilo's table, version 8.")
    sc_mid: str = Field("id", min_length=1, description="Column: number of the message.")
    sc_from: str = Field("src_addr", min_length=1, description="Column: From URI.")
    sc_to: str = Field("dst_addr", min_length=1, description="Column: To URI.")
    sc_uri_user: str = Field("username", min_length=1, description="Column: user part of the owner.")
    sc_uri_host: str = Field("domain", min_length=1, description="Column: host of the owner.")
    sc_body: str = Field("body", min_length=1, description="Column: body.")
    sc_ctype: str = Field("ctype", min_length=1, description="Column: Content-Type.")
    sc_exp_time: str = Field("exp_time", min_length=1, description="Column: end of its life, UTC seconds.")
    sc_inc_time: str = Field("inc_time", min_length=1, description="Column: arrival, UTC seconds.")
    sc_snd_time: str = Field("snd_time", min_length=1, description="Column: when a reminder is due, UTC seconds.")
    sc_stored_hdrs: str = Field("extra_hdrs", min_length=1, description="Column: headers that are kept.")
    sc_callid: str = Field("callid", min_length=1, description="Column: Call-ID.")
    sc_status: str = Field(
        "status", min_length=1, description="Column: 1 in the youngest messages, which are in no index yet."
    )
    expire_time: int = Field(259200, ge=1, le=2**31 - 1, description="Longest life of a message, in seconds.")
    max_messages: int = Field(
        0, ge=0, description="Messages that may wait for one user, later ones get 480; 0: no limit."
    )
    snd_time_avp: str | None = Field(
        None, description="Expression that gives the time to send a message at, such as $hdr(X-MSilo-Send-Time)."
    )
    extra_hdrs_avp: str | None = Field(
        None, description="Expression that gives the header lines to keep instead of the request's own."
    )
    use_mode: int = Field(0, ge=0, description="1: a replay has the Call-ID of the request that brought the message.")
    from_address: str | None = Field(None, description="From URI of the notice to a sender whose message was stored.")
    offline_message: str | None = Field(None, description="Text of that notice; both must be set.")
    content_type_hdr: str | None = Field(None, description="Its Content-Type, the whole header line.")
    contact_hdr: str | None = Field(None, description="Its Contact, the whole header line.")
    use_contact: int = Field(
        1, ge=0, le=1, description="1: the notice goes to the Contact of the stored message, else to its From URI."
    )
    skip_notification_flag: int = Field(
        -1, ge=-1, le=31, description="Flag in X-MSilo-Flags that suppresses the notice; -1: none."
    )
    outbound_proxy: str | None = Field(
        None, description="SIP URI everything is sent through, to the AoR; unset: straight to the newest Contact."
    )
    extra_hdrs: str | None = Field(
        None, description="Header lines added to each replay; variables are those of the last REGISTER."
    )
    add_date: int = Field(1, ge=0, le=1, description="1: a text tells in its first words when it was written.")
    add_contact: int = Field(0, ge=0, le=1, description="1: Contact in replays, which RFC 3428 forbids.")
    reminder: str | None = Field(None, description="From URI of reminders; unset: the sender's own.")
    check_time: int = Field(60, ge=1, le=86400, description="Seconds between two runs of the cleaner.")
    clean_period: int = Field(10, ge=1, le=100000, description="Runs of the cleaner between two purges of history.")
    send_time: int = Field(
        0, ge=0, le=86400, description="Seconds between two looks for due reminders; 0: requests make no reminders."
    )

    @field_validator("from_address", "offline_message", "snd_time_avp")
    @classmethod
    def _check_template(cls, value: str | None) -> str | None:
        if value:
            Template.parse(value)
        return value or None

    @field_validator("content_type_hdr", "contact_hdr", "extra_hdrs", "extra_hdrs_avp")
    @classmethod
    def _check_lines(cls, value: str | None) -> str | None:
        if value:
            value = value.replace("\\r\\n", "\r\n")  # as a shell, or Kamailio's own file, gives a line end
            Template.parse_lines(value)
        return value or None

    @field_validator("outbound_proxy", "reminder", "registrar", check_fields=False)
    @classmethod
    def _check_uri(cls, value: str | None) -> str | None:
        if not value:
            return None
        sip_uri(value, f"{value!r} is not a SIP URI such as sip:192.168.1.1:5060")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.offline_message and not self.content_type_hdr:
            raise ValueError("offline_message needs content_type_hdr, such as 'Content-Type: text/plain\\r\\n'")
        columns = [getattr(self, name) for name in COLUMNS]
        if len(set(columns)) != len(columns):
            raise ValueError("two of the sc_... settings name the same column")
        return self

    @property
    def names(self) -> Names:
        """`db_table` and the sc_... settings."""
        return Names(self.db_table, *(getattr(self, name) for name in COLUMNS))


def sip_uri(text: str, problem: str) -> None:
    """Raises ValueError (`problem`) unless it is a SIP URI."""
    try:
        parse_uri(text)
    except BadRequest:
        raise ValueError(problem) from None
