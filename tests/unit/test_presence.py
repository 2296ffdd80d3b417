"""Presence and registration documents: the RFCs' shapes, those of real PBXes, and hostile ones."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_lite.errors import BadRequest
from msilo_lite.pbx.presence import MOST_CONTACTS, RegAor, RegContact, RegInfo, RegTable, read_pidf, read_reginfo

PIDF = 'xmlns="urn:ietf:params:xml:ns:pidf"'
REG = 'xmlns="urn:ietf:params:xml:ns:reginfo"'
# RFC 3863 4.3, in our words
RFC_3863 = """<?xml version="1.0" encoding="UTF-8"?>
<impp:presence xmlns:impp="urn:ietf:params:xml:ns:pidf" xmlns:local="urn:example-com:pidf-status-type"
    entity="pres:someone@example.com">
  <impp:tuple id="ub93s3">
    <impp:status><impp:basic>{basic}</impp:basic><local:location>home</local:location></impp:status>
    <impp:contact priority="0.8">im:someone@example.com</impp:contact>
    <impp:note xml:lang="en">Don't Disturb Please!</impp:note>
    <impp:timestamp>2001-10-27T16:49:29Z</impp:timestamp>
  </impp:tuple>
  <impp:note>I'll be in Tokyo next week</impp:note>
</impp:presence>"""
ASTERISK = """<?xml version="1.0" encoding="UTF-8"?>
<presence entity="sip:bob@192.168.1.10:5060" xmlns="urn:ietf:params:xml:ns:pidf"
 xmlns:pp="urn:ietf:params:xml:ns:pidf:person"
 xmlns:es="urn:ietf:params:xml:ns:pidf:rpid:status:rpid-status"
 xmlns:ep="urn:ietf:params:xml:ns:pidf:rpid:rpid-person">
 <note>{note}</note>
 <pp:person><status/></pp:person>
 <tuple id="bob">
  <note>{note}</note>
  <contact priority="1">sip:bob@192.168.1.10:5060</contact>
  <status><basic>{basic}</basic></status>
 </tuple>
</presence>
"""
FREESWITCH = """<?xml version='1.0' encoding='ISO-8859-1'?>\r
<presence xmlns='urn:ietf:params:xml:ns:pidf'\r
xmlns:dm='urn:ietf:params:xml:ns:pidf:data-model'\r
xmlns:rpid='urn:ietf:params:xml:ns:pidf:rpid'\r
xmlns:c='urn:ietf:params:xml:ns:pidf:cipid' entity='sip:bob@home.lan'>\r
 <tuple id='t6a5ed77e'><status><basic>{basic}</basic></status></tuple>\r
 <dm:person id='p06360c4a'><rpid:activities/><dm:note>{note}</dm:note></dm:person>\r
</presence>\r
"""
KAMAILIO = """<?xml version="1.0"?>
<presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model" entity="sip:bob@home.lan">
  <tuple xmlns="urn:ietf:params:xml:ns:pidf" id="0x7f"><status><basic>{basic}</basic></status></tuple>
</presence>
"""  # noqa: E501
DOCUMENTS = [RFC_3863, ASTERISK, FREESWITCH, KAMAILIO]


def tuples(*basics: str) -> bytes:
    inside = "".join(f"<tuple id='t{number}'>{basic}</tuple>" for number, basic in enumerate(basics))
    return f"<presence {PIDF} entity='sip:bob@home.lan'>{inside}</presence>".encode()


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize(("basic", "is_open"), [("open", True), ("closed", False), (" OPEN\n", True), ("busy", False)])
def test_the_documents_of_real_servers(document: str, basic: str, is_open: bool) -> None:
    assert read_pidf(document.format(basic=basic, note="Ready").encode()) is is_open


OPEN, CLOSED = "<status><basic>open</basic></status>", "<status><basic>closed</basic></status>"


@pytest.mark.parametrize(
    ("basics", "is_open"),
    [
        ((), False),
        ((CLOSED, OPEN), True),
        ((OPEN, CLOSED), True),
        ((CLOSED, CLOSED), False),
        (("",), False),
        (("<status/>",), False),
        (("<status><basic/></status>",), False),
        # only a status of a tuple counts
        (("<note>open</note>" + CLOSED,), False),
        (("<basic>open</basic>",), False),
        ((f"<device>{OPEN}</device>",), False),
        (('<status><basic xmlns="urn:other">open</basic></status>',), False),
    ],
)
def test_one_open_tuple_is_enough(basics: tuple[str, ...], is_open: bool) -> None:
    assert read_pidf(tuples(*basics)) is is_open


def test_a_note_in_another_charset() -> None:
    document = FREESWITCH.format(basic="open", note="Verfügbar")
    assert read_pidf(document.encode("iso-8859-1"))
    with pytest.raises(BadRequest):
        read_pidf(document.replace("ISO-8859-1", "UTF-8").encode("iso-8859-1"))


def test_white_space_before_the_declaration_and_a_missing_namespace_are_forgiven() -> None:
    assert read_pidf(b"\r\n " + KAMAILIO.format(basic="open").encode())
    assert read_pidf(tuples(OPEN).replace(PIDF.encode(), b""))


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 9))
HOSTILE = [
    b"",
    b"open",
    b"<presence",
    b"<presence/>x",
    b"<other/>",
    b'<presence xmlns="urn:other"/>',
    b"<pp:presence/>",
    b"<a><b></a></b>",
    b"\xff\xfe<",
    b'<?xml version="1.0" encoding="no-such"?><presence/>',
    b'<?xml version="1.0" encoding="utf-7"?><presence/>',
    b'<?xml version="1.0" encoding="cp037"?><presence/>',
    b'<?xml version="1.0" encoding="idna"?><presence/>',
    tuples("&nbsp;"),
    f'<!DOCTYPE presence [<!ENTITY l0 "ha">{LAUGHS}]><presence {PIDF}>&l8;</presence>'.encode(),
    f'<!DOCTYPE presence [<!ENTITY x SYSTEM "file:///etc/passwd">]><presence {PIDF}>&x;</presence>'.encode(),
    b'<!DOCTYPE presence SYSTEM "http://127.0.0.1/x.dtd">' + tuples(OPEN),
    f"<presence {PIDF}><!DOCTYPE x></presence>".encode(),
    f"<!DOCTYPE presence><presence {PIDF}/>".encode("utf-16"),
    f"<presence {PIDF}/>".encode("utf-16"),
    f"<presence {PIDF}/>".encode("utf-32"),
    tuples(OPEN + " " * 70_000),
]


@pytest.mark.parametrize("body", HOSTILE)
def test_what_is_no_document_is_refused(body: bytes) -> None:
    for read in (read_pidf, read_reginfo):
        with pytest.raises(BadRequest) as caught:
            read(body)
        assert caught.value.status == 400


MANY_ATTRIBUTES = " ".join(f"a{n}='x'" for n in range(500))
MANY_NAMESPACES = " ".join(f"xmlns:a{n}='x{n}'" for n in range(200))


@pytest.mark.parametrize(
    "body",
    [
        b"<a>" * 1300,
        b"<a>" * 570 + b"</a>" * 570,
        f"<presence {PIDF} {MANY_ATTRIBUTES}/>".encode(),
        f"<presence {PIDF} {MANY_NAMESPACES}/>".encode(),
        tuples(*["<a/>"] * 200),
        tuples("&lt;" * 900),
    ],
)
def test_a_body_that_fits_in_a_datagram_is_read_in_no_time(body: bytes) -> None:
    began = time.perf_counter()
    try:
        assert not read_pidf(body)
    except BadRequest as refusal:
        assert refusal.status == 400  # noqa: PT017 (refusing is as good as reading)
    assert time.perf_counter() - began < 0.05


@given(st.binary(max_size=200) | st.text(alphabet="<>/!ab='\"&; []?-", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for read in (read_pidf, read_reginfo):
        try:
            read(body)
        except BadRequest as refusal:
            assert refusal.status == 400  # noqa: PT017 (the only error there may be)


# RFC 3680 5.3, in our words
RFC_3680 = f"""<?xml version="1.0"?>
<reginfo {REG} xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" version="1" state="partial">
  <registration aor="sip:joe@example.com" id="a7" state="active">
    <contact id="76" state="active" event="registered" duration-registered="7322" q="0.8">
      <uri>sip:joe@pc887.example.com</uri>
    </contact>
    <contact id="77" state="terminated" event="expired" duration-registered="3600" q="0.5">
      <uri> sip:joe@university.edu </uri>
    </contact>
  </registration>
</reginfo>"""
KAMAILIO_REG = f"""<?xml version="1.0"?>
<reginfo {REG} version="0" state="full"><registration aor="sip:bob@home.lan" id="0xb33f" state="active">
<contact id="0xb994" state="active" event="created" expires="3600" q="1.000" callid="x" cseq="2" received="" path="">
<uri>sip:bob@127.0.0.1:5090</uri><unknown-param name="+g.3gpp.smsip"></unknown-param></contact></registration></reginfo>
"""


def test_the_example_of_the_rfc() -> None:
    assert read_reginfo(RFC_3680.encode()) == RegInfo(
        1,
        False,
        (
            RegAor(
                "a7",
                "sip:joe@example.com",
                "active",
                (
                    RegContact("76", "sip:joe@pc887.example.com", "active", "registered"),
                    RegContact("77", "sip:joe@university.edu", "terminated", "expired"),
                ),
            ),
        ),
    )


def test_what_kamailio_publishes() -> None:
    info = read_reginfo(KAMAILIO_REG.encode())
    assert (info.version, info.full) == (0, True)
    assert info.registrations[0].contacts == (RegContact("0xb994", "sip:bob@127.0.0.1:5090", "active", "created"),)


def test_prefixes_are_free() -> None:
    document = f'<r:reginfo {REG.replace("xmlns", "xmlns:r")} version="007" state="FULL"><r:registration id="1" state="init"/></r:reginfo>'  # noqa: E501
    assert read_reginfo(document.encode()) == RegInfo(7, True, (RegAor("1", "", "init", ()),))


@pytest.mark.parametrize(
    "document",
    [
        f'<reginfo {REG} state="full"/>',
        f'<reginfo {REG} version="-1" state="full"/>',
        f'<reginfo {REG} version="x" state="full"/>',
        f'<reginfo {REG} version="1"/>',
        f'<reginfo {REG} version="1" state="some"/>',
        f'<reginfo {REG} version="1" state="full"><registration id="1" aor="x"/></reginfo>',
        f'<reginfo {REG} version="1" state="full"><registration id="1" state="on"/></reginfo>',
        f'<reginfo {REG} version="1" state="full"><registration id="1" state="active"><contact id="2"/></registration></reginfo>',  # noqa: E501
        KAMAILIO.format(basic="open"),
    ],
)
def test_a_reginfo_without_what_it_needs_is_refused(document: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_reginfo(document.encode())
    assert caught.value.status == 400


def info(version: int, *contacts: str, full: bool = False, state: str = "active", aor: str = "1") -> RegInfo:
    """`+1` is an active contact, `-1` one that ended."""
    rows = tuple(
        RegContact(one[1:], "sip:x", "active" if one[0] == "+" else "terminated", "registered") for one in contacts
    )
    return RegInfo(version, full, (RegAor(aor, "sip:bob@home.lan", state, rows),))


@pytest.mark.parametrize(
    ("documents", "is_open", "asks"),
    [
        ([], False, []),
        ([info(0, full=True)], False, [False]),
        ([info(0, "+1", full=True)], True, [False]),
        ([info(0, "-1", full=True)], False, [False]),
        ([info(0, "+1", full=True, state="terminated")], False, [False]),
        ([info(0, "+1", full=True, state="init")], False, [False]),
        # in order
        ([info(0, "+1", full=True), info(1, "-1")], False, [False, False]),
        ([info(0, "+1", full=True), info(1, "+2"), info(2, "-1")], True, [False, False, False]),
        ([info(0, "+1", full=True), info(1, "+2"), info(2, "-1"), info(3, "-2")], False, [False] * 4),
        ([info(0, "+1", full=True), info(1, state="terminated")], False, [False, False]),
        ([info(0, "+1", full=True), info(1, state="terminated", aor="other")], True, [False, False]),
        # old or repeated
        ([info(4, "+1", full=True), info(4, "-1")], True, [False, False]),
        ([info(4, "+1", full=True), info(3, "-1")], True, [False, False]),
        # one is missing, or the first one was: what is there counts, and full state is asked for once
        ([info(0, "+1", full=True), info(2, "-1")], False, [False, True]),
        ([info(0, full=True), info(5, "+1"), info(6, "+2")], True, [False, True, False]),
        ([info(3, "+1")], True, [True]),
        # a full one always counts, since some servers say version 0 in each
        ([info(0, "+1", full=True), info(0, full=True)], False, [False, False]),
        ([info(9, full=True), info(0, "+1", full=True)], True, [False, False]),
        ([info(0, "+1", full=True), info(3, "+2"), info(4, "-1", full=True)], False, [False, True, False]),
    ],
)
def test_documents_make_a_state(documents: list[RegInfo], is_open: bool, asks: list[bool]) -> None:
    table = RegTable()
    assert [table.take(one) for one in documents] == asks
    assert table.open is is_open


def test_a_server_that_only_ever_adds_does_not_fill_the_memory() -> None:
    table = RegTable()
    table.take(info(0, full=True))
    asked = [table.take(info(version, *[f"+{version}-{n}" for n in range(100)])) for version in range(1, 50)]
    assert any(asked)
    assert table.open
    assert len(table._active) <= MOST_CONTACTS
    assert not table.take(info(0, *[f"+{n}" for n in range(MOST_CONTACTS + 1)], full=True))
    assert table.take(info(1, "-0"))  # what is missing is asked for
