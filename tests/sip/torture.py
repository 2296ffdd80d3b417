"""The torture messages of RFC 4475, built from what the RFC says of each, and what the silo does with them.

An INVITE of the RFC is a MESSAGE here wherever the point is the syntax, since INVITE would get 405 whatever is in it.
`python -m tests.sip.torture` prints docs/rfc4475.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import count

_serial = count(1)
BODY = b"torture"


class Fate(Enum):
    """What becomes of a message, beside an answer."""

    STORED = "stored, comes out as it went in"
    ANSWERED = "answered, nothing stored"
    DROPPED = "dropped unanswered and counted: PJSIP's parser refuses it"
    IGNORED = "ignored: nobody asked for this response"


@dataclass(frozen=True, slots=True)
class Torture:
    """One message of the RFC."""

    section: str
    name: str
    "As the RFC names its file."
    about: str
    asks: str
    "What the RFC wants of an element that is no proxy."
    raw: bytes
    "With PLACE where the sender's host and port belong."
    code: int
    "The answer; 0 for none."
    fate: Fate
    call_id: str


PLACE = b"@PLACE@"


def built(
    start: str, *lines: str, body: bytes = BODY, length: str | None = "", ctype: str | None = "text/plain", **own: str
) -> tuple[bytes, str]:
    """A request with what it must have; `own` replaces a header (`from_`), `lines` come behind, `length` "" is true."""
    number = next(_serial)
    method = start.split()[0]
    call_id = own.pop("call_id", f"torture-{number}")
    named = {
        "Via": f"SIP/2.0/UDP {PLACE.decode()};rport;branch=z9hG4bKtorture{number}",
        "Max-Forwards": "70",
        "From": f"<sip:alice@home.lan>;tag=t{number}",
        "To": "<sip:bob@home.lan>",
        "Call-ID": call_id,
        "CSeq": f"{number} {method}",
        **({"Content-Type": ctype} if ctype and body else {}),
    }
    named |= {key.rstrip("_").title().replace("_", "-").replace("Cseq", "CSeq"): value for key, value in own.items()}
    head = [start, *(f"{name}: {value}" for name, value in named.items() if value), *lines]
    if length is not None:
        head.append(f"Content-Length: {length or len(body)}")
    return "\r\n".join([*head, "", ""]).encode("utf-8", "surrogateescape") + body, call_id


TO_BOB = "MESSAGE sip:bob@home.lan SIP/2.0"


def _wsinv() -> tuple[bytes, str]:
    """Every kind of odd white space, folding, compact forms, case and order at once."""
    number = next(_serial)
    lines = [
        TO_BOB,
        "TO :",
        ' "Bob \\"the builder\\"" <sip:bob@home.lan>  ;  other = "a;b"',
        'from   : "J Rosenberg \\\\\\""       <sip:alice@home.lan>',
        "  ;",
        f"  tag = 98asjd8{number}",
        "MaX-fOrWaRdS: 0068",
        f"Call-ID: wsinv.{number}@192.0.2.1",
        "Content-Length   : 7",
        "cseq: 0009",
        "  MESSAGE",
        "Via  : SIP  /   2.0",
        " /UDP",
        f"    {PLACE.decode()};rport;branch=z9hG4bK39{number}",
        "s :",
        "NewFangledHeader:   newfangled value",
        " continued newfangled value",
        "UnknownHeaderWithUnusualValue: ;;,,;;,;",
        "Content-Type: text/plain",
        "v:  SIP  / 2.0  / TCP     spindle.example.com   ;",
        "  branch  =   z9hG4bK9ikj8  ,",
        " SIP  /    2.0   / UDP  192.168.255.111   ; branch=",
        " z9hG4bK30239",
        'm:"Quoted string \\"\\"" <sip:jdrosen@example.com> ; newparam =',
        "      newvalue ;",
        "  secondparam ; q = 0.33",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + BODY, f"wsinv.{number}@192.0.2.1"


def _long() -> tuple[bytes, str]:
    """Long values in as many places as fit into what the silo takes."""
    name, tag = "u" + "n" * 200, "l" * 200
    return built(
        TO_BOB,
        f"Unknown-{'L' * 100}: {'v' * 300}",
        f"Via: SIP/2.0/TCP {'a' * 120}.example.com",
        from_=f'"{"I have a user name of " + "extreme " * 20}proportion" <sip:{name}@home.lan>;tag={tag}',
        call_id=f"longreq.{'one' * 80}",
    )  # fmt: skip


def _double() -> tuple[bytes, str]:
    """A whole second request behind the Content-Length of the first (RFC 3261 18.3: octets beyond it are dropped)."""
    first, call_id = built("OPTIONS sip:bob@home.lan SIP/2.0", body=b"")
    second, _ = built(TO_BOB)
    return first + second, call_id


CASES: tuple[Torture, ...]
_cases: list[Torture] = []


def case(section: str, name: str, about: str, asks: str, code: int, fate: Fate, message: tuple[bytes, str]) -> None:
    _cases.append(Torture(section, name, about, asks, message[0], code, fate, message[1]))


case(
    "3.1.1.1",
    "wsinv",
    "every legal oddity of white space, folding, case and compact forms",
    "understand it",
    202,
    Fate.STORED,
    _wsinv(),
)
case(
    "3.1.1.2",
    "intmeth",
    "a method and values of all the characters that tokens may have",
    "405 or 501: a method nobody knows",
    405,
    Fate.ANSWERED,
    built(
        "!interesting-Method0123456789_*+`.%indeed'~ "
        "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@home.lan "
        "SIP/2.0",
        body=b"",
    ),
)
case(
    "3.1.1.3",
    "esc01",
    "escapes in a user part",
    "decode them to compare",
    202,
    Fate.STORED,
    built("MESSAGE sip:sips%3Auser%40example.com@home.lan SIP/2.0", to="<sip:%75se%72@home.lan>"),
)
case(
    "3.1.1.4",
    "escnull",
    "escaped NULs in a URI",
    "a registrar keeps them apart",
    200,
    Fate.ANSWERED,
    built(
        "REGISTER sip:home.lan SIP/2.0",
        "Contact: <sip:%00@host5.home.lan>",
        "Contact: <sip:%00%00@host5.home.lan>",
        "L:0",
        to="sip:null-%00-null@home.lan",
        from_="sip:null-%00-null@home.lan;tag=839923423",
        body=b"",
        length=None,
    ),
)
case(
    "3.1.1.5",
    "esc02",
    "% where it is no escape: in a method, in a display name",
    "405: a method nobody knows",
    405,
    Fate.ANSWERED,
    built(
        "RE%47IST%45R sip:home.lan SIP/2.0",
        "Contact: <sip:alias1@host1.home.lan>",
        to='"%Z%45" <sip:resource@home.lan>',
        body=b"",
    ),
)
case(
    "3.1.1.6",
    "lwsdisp",
    "no space between a display name and <",
    "understand it",
    200,
    Fate.ANSWERED,
    built("OPTIONS sip:bob@home.lan SIP/2.0", from_="caller<sip:caller@home.lan>;tag=323", body=b""),
)
case("3.1.1.7", "longreq", "long values wherever there can be one", "understand it", 202, Fate.STORED, _long())
case(
    "3.1.1.8",
    "dblreq",
    "a second request in the same datagram",
    "take the first, drop the rest",
    200,
    Fate.ANSWERED,
    _double(),
)
case(
    "3.1.1.9",
    "semiuri",
    "semicolons in a user part",
    "they belong to the user, not to the URI",
    200,
    Fate.ANSWERED,
    built("OPTIONS sip:user;par=u%40home.lan@home.lan SIP/2.0", to="sip:j_user@home.lan", body=b""),
)
case(
    "3.1.1.10",
    "transports",
    "unknown transports in Via",
    "understand it",
    200,
    Fate.ANSWERED,
    built(
        "OPTIONS sip:bob@home.lan SIP/2.0",
        "Via: SIP/2.0/SCTP t2.home.lan;branch=z9hG4bKzzxdiwo34sw",
        "Via: SIP/2.0/TLS t3.home.lan;branch=z9hG4bK2;received=192.0.2.1",
        "Via: SIP/2.0/UNKNOWN t4.home.lan;branch=z9hG4bKasd0f3en",
        body=b"",
    ),
)
case(
    "3.1.1.11",
    "mpart01",
    "a multipart body with binary parts",
    "understand it",
    202,
    Fate.STORED,
    built(
        TO_BOB,
        body=b"--7a9cbec02ceef655\r\nContent-Type: text/plain\r\n\r\nHello\r\n--7a9cbec02ceef655\r\n"
        b"Content-Type: application/octet-stream\r\n\r\n\x00\x01\xff\xfe0\x82\r\n--7a9cbec02ceef655--\r\n",
        ctype='multipart/mixed;boundary="7a9cbec02ceef655"',
    ),
)
RESPONSE = (
    "Via: SIP/2.0/UDP 127.0.0.9:5060;branch=z9hG4bKnobody",
    "From: <sip:a@home.lan>;tag=1",
    "To: <sip:b@home.lan>;tag=2",
    "Call-ID: nobody",
    "CSeq: 35 MESSAGE",
    "Content-Length: 0",
)


def response(start: str, *lines: str) -> tuple[bytes, str]:
    return "\r\n".join([start, *(lines or RESPONSE), "", ""]).encode(), "nobody"


case(
    "3.1.1.12",
    "unreason",
    "a reason phrase of UTF-8 and odd characters",
    "understand it",
    0,
    Fate.IGNORED,
    response("SIP/2.0 200 = 2**3 * 5**2 но сто девяносто девять - простое"),
)
case("3.1.1.13", "noreason", "no reason phrase", "understand it", 0, Fate.IGNORED, response("SIP/2.0 100 "))
case(
    "3.1.2.1",
    "badinv01",
    "stray separators in Via and Contact",
    "400, or be liberal",
    0,
    Fate.DROPPED,
    built(TO_BOB, 'Contact: "Joe" <sip:joe@home.lan>;;;;', via=f"SIP/2.0/UDP {PLACE.decode()};;,;,,"),
)
case(
    "3.1.2.2",
    "clerr",
    "Content-Length larger than the datagram",
    "400",
    400,
    Fate.ANSWERED,
    built(TO_BOB, length="9999"),
)
case("3.1.2.3", "ncl", "a negative Content-Length", "400", 0, Fate.DROPPED, built(TO_BOB, length="-999"))
case(
    "3.1.2.4",
    "scalar02",
    "numbers that overflow in CSeq, Max-Forwards, Expires",
    "400",
    0,
    Fate.DROPPED,
    built(
        "REGISTER sip:home.lan SIP/2.0",
        "Expires: 10000000000000000000000000000000000000000000000",
        "Contact: <sip:user@host129.home.lan>;expires=280297596632815",
        cseq="36893488147419103232 REGISTER",
        max_forwards="300",
        body=b"",
    ),
)
case(
    "3.1.2.5",
    "scalarlg",
    "numbers that overflow in a response",
    "drop it",
    0,
    Fate.IGNORED,
    response(
        "SIP/2.0 503 Service Unavailable",
        *RESPONSE[:4],
        "CSeq: 9292394834772304023312 OPTIONS",
        "Retry-After: 949302838503028349304023988",
        'Warning: 1812 overture "In Progress"',
        "Content-Length: 0",
    ),
)
case(
    "3.1.2.6",
    "quotbal",
    "a quote that is never closed in To",
    "400, or be liberal",
    0,
    Fate.DROPPED,
    built(TO_BOB, to='"Mr. J. User <sip:j.user@home.lan>'),
)
case(
    "3.1.2.7",
    "ltgtruri",
    "<> around the Request-URI",
    "400, or be liberal",
    0,
    Fate.DROPPED,
    built("MESSAGE <sip:bob@home.lan> SIP/2.0"),
)
case(
    "3.1.2.8",
    "lwsruri",
    "white space inside the Request-URI",
    "400",
    0,
    Fate.DROPPED,
    built("MESSAGE sip:bob@home.lan; lr SIP/2.0"),
)
case(
    "3.1.2.9",
    "lwsstart",
    "two spaces in the request line",
    "400, or be liberal",
    400,
    Fate.ANSWERED,
    built("MESSAGE  sip:bob@home.lan  SIP/2.0"),
)
case(
    "3.1.2.10",
    "trws",
    "spaces behind the request line",
    "400, or be liberal",
    400,
    Fate.ANSWERED,
    built("OPTIONS sip:bob@home.lan SIP/2.0  ", body=b""),
)
case(
    "3.1.2.11",
    "escruri",
    "a header escaped in the Request-URI",
    "400, or ignore it",
    202,
    Fate.STORED,
    built("MESSAGE sip:bob@home.lan?Route=%3Csip:home.lan%3E SIP/2.0"),
)
case(
    "3.1.2.12",
    "baddate",
    "a Date in no time zone of RFC 3261",
    "400, or be liberal",
    202,
    Fate.STORED,
    built(TO_BOB, "Date: Fri, 01 Jan 2010 16:00:00 EST"),
)
case(
    "3.1.2.13",
    "regbadct",
    "a Contact with URI parameters and no <>",
    "400, or take them for header parameters",
    0,
    Fate.DROPPED,
    built(
        "REGISTER sip:home.lan SIP/2.0",
        "Contact: sip:user@home.lan?Route=%3Csip:sip.home.lan%3E",
        to="sip:user@home.lan",
        body=b"",
    ),
)
case(
    "3.1.2.14",
    "badaspec",
    "spaces inside the <> of To",
    "400, or be liberal",
    202,
    Fate.STORED,
    built(TO_BOB, to='"Watson, Thomas" < sip:t.watson@home.lan >'),
)
case(
    "3.1.2.15",
    "baddn",
    "a display name that needs quotes and has none",
    "be liberal",
    202,
    Fate.STORED,
    built(TO_BOB, from_="Bell, Alexander <sip:a.g.bell@home.lan>;tag=43"),
)
case(
    "3.1.2.16",
    "badvers",
    "an unknown version of SIP",
    "505",
    0,
    Fate.DROPPED,
    built("MESSAGE sip:bob@home.lan SIP/7.0"),
)
case(
    "3.1.2.17",
    "mismatch01",
    "CSeq names another method",
    "400",
    400,
    Fate.ANSWERED,
    built("OPTIONS sip:bob@home.lan SIP/2.0", cseq="8 INVITE", body=b""),
)
case(
    "3.1.2.18",
    "mismatch02",
    "an unknown method, and CSeq names another",
    "501 or 400",
    405,
    Fate.ANSWERED,
    built("NEWMETHOD sip:bob@home.lan SIP/2.0", cseq="8 INVITE", body=b""),
)
case(
    "3.1.2.19",
    "bigcode",
    "a response code of four digits",
    "drop it",
    0,
    Fate.IGNORED,
    response("SIP/2.0 4294967301 better not break the receiver"),
)
case(
    "3.2.1",
    "badbranch",
    "a branch of the magic cookie alone",
    "work without it",
    200,
    Fate.ANSWERED,
    built("OPTIONS sip:bob@home.lan SIP/2.0", via=f"SIP/2.0/UDP {PLACE.decode()};rport;branch=z9hG4bK", body=b""),
)
case(
    "3.3.1",
    "insuf",
    "no Call-ID, From or To",
    "400",
    0,
    Fate.DROPPED,
    (
        b"MESSAGE sip:bob@home.lan SIP/2.0\r\nCSeq: 193942 MESSAGE\r\nVia: SIP/2.0/UDP "
        + PLACE
        + b";branch=z9hG4bKkdj.insuf\r\nContent-Length: 7\r\n\r\n"
        + BODY,
        "insuf",
    ),
)
case(
    "3.3.2",
    "unkscm",
    "a Request-URI of a scheme nobody knows",
    "416",
    0,
    Fate.DROPPED,
    built("OPTIONS nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0", body=b""),
)
case(
    "3.3.3",
    "novelsc",
    "a Request-URI of a known scheme that is not SIP",
    "416",
    0,
    Fate.DROPPED,
    built("OPTIONS soap.beep://192.0.2.103:3002 SIP/2.0", body=b""),
)
case(
    "3.3.4",
    "unksm2",
    "unknown schemes in To, From and Contact",
    "a registrar: 400 or ignore it",
    416,
    Fate.ANSWERED,
    built(
        "REGISTER sip:home.lan SIP/2.0",
        "Contact: <name:John_Smith>",
        to="isbn:2983792873",
        from_="<http://www.example.com>;tag=3234233",
        body=b"",
    ),
)
case(
    "3.3.5",
    "bext01",
    "extensions that nobody has in Require and Proxy-Require",
    "420 with Unsupported",
    420,
    Fate.ANSWERED,
    built(
        "OPTIONS sip:bob@home.lan SIP/2.0",
        "Require: nothingSupportsThis",
        "Require: nothingSupportsThisEither",
        "Proxy-Require: noProxiesSupportThis, norDoAnyProxiesSupportThis",
        body=b"",
    ),
)
case(
    "3.3.6",
    "invut",
    "a Content-Type nobody knows",
    "415 of one who must show it; a store need not",
    202,
    Fate.STORED,
    built(TO_BOB, body=b'<audio>\r\n <pcmu port="443"/>\r\n</audio>\r\n', ctype="application/unknownformat"),
)
case(
    "3.3.7",
    "regaut01",
    "an Authorization scheme nobody knows",
    "as if it were not there",
    0,
    Fate.DROPPED,
    built(
        "REGISTER sip:home.lan SIP/2.0",
        "Contact: <sip:j.user@host.home.lan>",
        "Authorization: NoOneKnowsThisScheme opaque-data=here",
        to="sip:j.user@home.lan",
        body=b"",
    ),
)
case(
    "3.3.8",
    "multi01",
    "headers twice that may be there once",
    "400",
    400,
    Fate.ANSWERED,
    built(
        TO_BOB,
        "CSeq: 59 MESSAGE",
        "Call-ID: other",
        "Max-Forwards: 5",
        "From: <sip:eve@home.lan>;tag=9",
        "To: <sip:carol@home.lan>",
        "Content-Type: text/html",
    ),
)
case(
    "3.3.9",
    "mcl01",
    "two different Content-Length",
    "400",
    400,
    Fate.ANSWERED,
    built(
        "OPTIONS sip:bob@home.lan SIP/2.0",
        "Content-Length: 5",
        body=b"There's no way to know how many octets are supposed to be here.",
    ),
)
case(
    "3.3.10",
    "bcast",
    "a response whose Via has a broadcast address",
    "drop it",
    0,
    Fate.IGNORED,
    response(
        "SIP/2.0 200 OK",
        "Via: SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923",
        "Via: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bK1saber23",
        *RESPONSE[1:],
    ),
)
case(
    "3.3.11",
    "zeromf",
    "Max-Forwards of zero",
    "answer OPTIONS as its last hop; anything else 483",
    200,
    Fate.ANSWERED,
    built("OPTIONS sip:bob@home.lan SIP/2.0", max_forwards="0", body=b""),
)
case(
    "3.3.12",
    "cparam01",
    "an unknown parameter of a Contact",
    "take it",
    200,
    Fate.ANSWERED,
    built(
        "REGISTER sip:home.lan SIP/2.0",
        "Contact: sip:+19725552222@gw1.home.lan;unknownparam",
        to="sip:watson@home.lan",
        body=b"",
    ),
)
case(
    "3.3.13",
    "cparam02",
    "an unknown parameter of the URI in a Contact",
    "take it, it belongs to the URI",
    200,
    Fate.ANSWERED,
    built(
        "REGISTER sip:home.lan SIP/2.0",
        "Contact: <sip:+19725552222@gw1.home.lan;unknownparam>",
        to="sip:watson@home.lan",
        body=b"",
    ),
)
case(
    "3.3.14",
    "regescrt",
    "a header escaped in the URI of a Contact",
    "take it",
    200,
    Fate.ANSWERED,
    built(
        "REGISTER sip:home.lan SIP/2.0",
        "Contact: <sip:user@home.lan?Route=%3Csip:sip.home.lan%3E>",
        to="sip:user@home.lan",
        body=b"",
    ),
)
case(
    "3.3.15",
    "sdp01",
    "an Accept that leaves us nothing to answer with",
    "406 of one who answers with a body; we have none",
    202,
    Fate.STORED,
    built(TO_BOB, "Accept: text/nobodyKnowsThis"),
)
case(
    "3.4.1",
    "inv2543",
    "a request as RFC 2543 had it: no branch, no Max-Forwards, no tag",
    "understand it",
    202,
    Fate.STORED,
    built(TO_BOB, via=f"SIP/2.0/UDP {PLACE.decode()}", max_forwards="", from_="sip:alice@home.lan"),
)
CASES = tuple(_cases)


PREFACE = """\
# The torture messages of RFC 4475

What the silo does with each of them, as `tests/sip/test_torture.py` sees it from outside: it sends the message to a
running silo, looks at the answer and into the box, and asks for a sign of life. An INVITE of the RFC is a MESSAGE here
wherever the point is the syntax. PJSIP's parser also refuses a display name without quotes that is folded before its
`<`. This page is made by `make docs`.

| section | name | what is in it | the RFC | the silo |
|---|---|---|---|---|
"""


def page() -> str:
    """docs/rfc4475.md."""
    rows = []
    for one in CASES:
        said = f"{one.code}, {one.fate.value}" if one.code else one.fate.value
        rows.append(f"| {one.section} | {one.name} | {one.about} | {one.asks} | {said} |\n")
    return PREFACE + "".join(rows)


if __name__ == "__main__":
    import sys

    sys.stdout.write(page())
