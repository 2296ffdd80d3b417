"""From settings to the rules that the parts work by; pure."""

from __future__ import annotations

from ..box.due import zone_of
from ..box.policy import Policy
from ..box.silo import Reading
from ..errors import BadRequest
from ..outbound.compose import Dress
from ..outbound.notice import Wording
from ..sip.address import parse_address
from .config import Config
from .pseudo import Subject, Template

SIGNATURE = 400
"Bytes of a Proxy-Authorization without user and URI; realm and nonce of the PBXs we know have less than 150."
CALL_ID_BIT = 1
"Bit of use_mode that keeps the Call-ID."


def policy_of(config: Config) -> Policy:
    """The limits."""
    zone = zone_of(config.timezone) if config.timezone else None
    return Policy(config.expire_time, config.max_messages, config.send_time > 0, zone, config.caps)


def dress_of(config: Config, user_agent: str) -> Dress:
    """What every message that leaves has on it."""
    return Dress(
        user_agent,
        add_date=bool(config.add_date),
        add_contact=bool(config.add_contact),
        reminder=config.reminder or "",
        signature=SIGNATURE + len(config.user.encode()) if config.user else 0,
        keep_call_id=bool(config.use_mode & CALL_ID_BIT),
    )


def reading_of(config: Config) -> Reading:
    """How requests are read."""
    time = Template.parse(config.snd_time_avp) if config.snd_time_avp else None
    headers = Template.parse_lines(config.extra_hdrs_avp) if config.extra_hdrs_avp else None
    return Reading(time, headers, frozenset(config.ignored_types))


def extra_of(config: Config) -> Template | None:
    """`extra_hdrs`, parsed."""
    return Template.parse_lines(config.extra_hdrs) if config.extra_hdrs else None


def extra_lines(template: Template | None, subject: Subject | None) -> str:
    """What `extra_hdrs` gives for a REGISTER, as lines ended by CR LF; without one only what needs none."""
    if template is None or (subject is None and not template.fixed):
        return ""
    return "".join(f"{name}: {value}\r\n" for name, value in template.lines(subject) or ())


def wording_of(config: Config) -> Wording | None:
    """How notices read; None where none are sent."""
    if not (config.from_address and config.offline_message and config.content_type_hdr):
        return None
    return Wording(
        from_address=Template.parse(config.from_address),
        body=Template.parse(config.offline_message),
        ctype=Template.parse_lines(config.content_type_hdr),
        contact=Template.parse_lines(config.contact_hdr) if config.contact_hdr else None,
        use_contact=bool(config.use_contact),
        skip_flag=config.skip_notification_flag,
        interval=config.notice_interval,
        automatic=frozenset(uri.partition(";")[0].lower() for uri in (_own_from(config), config.reminder) if uri),
    )


def _own_from(config: Config) -> str | None:
    """The URI all notices come from, where it is always the same."""
    template = Template.parse(config.from_address or "")
    try:
        return parse_address(template.expand(None) or "").uri if template.fixed else None
    except BadRequest:
        return None
