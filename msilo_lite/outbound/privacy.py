"""What the next hop may know of a sender: identity inside the trust domain, and privacy outside of it; pure.

P-Asserted-Identity goes to trusted peers alone (RFC 3325 5). P-Preferred-Identity is a phone's word to its first proxy
and goes nowhere (RFC 3325 9.2). Where a sender asked for `Privacy` (RFC 3323, RFC 3325 9.3), a next hop that is not
trusted learns nothing more of him than that, and what we have done is taken out of the header; a trusted one gets
everything, and has it to do.
"""

from __future__ import annotations

ASSERTED = "p-asserted-identity"
PREFERRED = "p-preferred-identity"
ANONYMOUS = "sip:anonymous@anonymous.invalid"
"Address of a sender who is not to be known (RFC 3323 4.1.1)."
INFORMATIVE = frozenset({"call-info", "in-reply-to", "organization", "referred-by", "reply-to", "subject"})
"Headers that tell of a person and that nothing needs (RFC 3323 4.1); `user` takes them away (5.3)."
ROUTING = frozenset(
    {"geolocation", "history-info", "p-access-network-info", "p-charging-vector", "p-visited-network-id"}
)
"Headers that tell of his network; `header` takes them away (RFC 3323 5.1; Via, Contact and Record-Route are ours)."
DONE = frozenset({"header", "history", "id", "session", "user"})
"What we do; a MESSAGE has no session whose addresses could tell anything (RFC 3323 5.2)."

Pairs = list[tuple[str, str]]


def asked(pairs: Pairs) -> frozenset[str]:
    """What a sender wants to be kept private; `none` forbids all of it (RFC 3323 4.2)."""
    values = [value for name, value in pairs if name.lower() == "privacy"]
    wanted = frozenset(word.strip().lower() for value in values for word in value.replace(",", ";").split(";"))
    return frozenset() if "none" in wanted else wanted & DONE


def hides_sender(pairs: Pairs, *, trusted: bool) -> bool:
    """Whether From, and all that stands for him, is to be anonymous."""
    return not trusted and "user" in asked(pairs)


def shown(pairs: Pairs, *, trusted: bool) -> Pairs:
    """The kept headers as the next hop may see them."""
    if trusted:
        return [pair for pair in pairs if pair[0].lower() != PREFERRED]
    wanted = asked(pairs)
    hidden = {ASSERTED, PREFERRED}
    hidden |= INFORMATIVE if "user" in wanted else set()
    hidden |= ROUTING if wanted & {"header", "user"} else set()
    hidden |= {"history-info"} if "history" in wanted else set()
    left = [pair for pair in pairs if pair[0].lower() not in hidden]
    return [pair for pair in (_without(pair, wanted) for pair in left) if pair != DROPPED] if wanted else left


DROPPED = ("privacy", "")


def _without(pair: tuple[str, str], wanted: frozenset[str]) -> tuple[str, str]:
    """A header without what was done of it (RFC 3323 5): `Privacy` with nothing left in it is dropped."""
    name, value = pair
    if name.lower() != "privacy":
        return pair
    words = [word.strip() for word in value.replace(",", ";").split(";")]
    left = [word for word in words if word and word.lower() not in wanted]
    return DROPPED if {word.lower() for word in left} <= {"critical"} else (name, ";".join(left))
