"""What a sender sees when it hands a MESSAGE to the silo, and what then is in the box."""

import signal
import sqlite3
from collections import Counter
from contextlib import closing

import pytest

from tests.waiting import until

from .conftest import PickUp, StartSilo
from .peers import Silo, Sipp, SippRun

pytestmark = pytest.mark.sip

HELLO = b"Hello, Bob"


def codes(run: SippRun) -> list[int]:
    return [seen.code for seen in run.received]


# ---- taken ----------------------------------------------------------------------------------------------------------


def test_plain_text_is_taken(silo: Silo, sipp: Sipp) -> None:
    run = sipp.run("store", silo.address, keys={"text": "Hello, Bob"})
    assert codes(run) == [202]
    (waiting,) = silo.list_json()
    assert waiting["to"] == "bob@home.lan"
    assert "alice@home.lan" in waiting["from"]
    assert waiting["size"] == len(HELLO)


def test_answer_belongs_to_the_request(silo: Silo, sipp: Sipp) -> None:
    """RFC 3261 8.2.6: Via, From, Call-ID and CSeq come back, To gets a tag."""
    run = sipp.run("store", silo.address, keys={"text": "Hello, Bob"})
    (request,), (answer,) = run.sent, run.received
    assert answer["Via"].split(";branch=")[1].split(";")[0] == request["Via"].split(";branch=")[1]
    assert [answer[name] for name in ("From", "Call-ID", "CSeq")] == [
        request[name] for name in ("From", "Call-ID", "CSeq")
    ]
    assert answer["To"].startswith(request["To"])
    assert ";tag=" in answer["To"]


def test_utf8_with_emoji_is_counted_in_bytes(silo: Silo, sipp: Sipp) -> None:
    sipp.run("store_utf8", silo.address)
    (waiting,) = silo.list_json()
    assert waiting["size"] == len("Grüße, 你好, 😀👍🏽".encode())
    assert waiting["ctype"] == "text/plain;charset=utf-8"


def test_raw_bytes_and_nul_are_taken(silo: Silo, phone: PickUp) -> None:
    body = bytes(range(256))
    answer = phone("alice").message(silo.address, "bob@home.lan", body, "application/octet-stream")
    assert answer.code == 202
    assert [waiting["size"] for waiting in silo.list_json()] == [256]


def test_empty_body_is_taken(silo: Silo, sipp: Sipp) -> None:
    sipp.run("store_empty", silo.address)
    assert [waiting["size"] for waiting in silo.list_json()] == [0]


def test_no_content_length_means_the_rest_of_the_datagram(silo: Silo, phone: PickUp) -> None:
    """RFC 3261 18.3 for transports of datagrams."""
    alice = phone("alice")
    request = alice.request("MESSAGE", "bob@home.lan", "Content-Type: text/plain", body=HELLO)
    assert alice.ask(request.replace(b"Content-Length: 10\r\n", b""), silo.address).code == 202
    assert [waiting["size"] for waiting in silo.list_json()] == [len(HELLO)]


def test_longer_than_1300_bytes_is_taken(silo: Silo, sipp: Sipp) -> None:
    sipp.run("store", silo.address, keys={"text": "x" * 1400})
    assert [waiting["size"] for waiting in silo.list_json()] == [1400]


def test_ipv6(start_silo: StartSilo, sipp: Sipp) -> None:
    silo = start_silo(bind=("udp:127.0.0.1:0", "udp:[::1]:0"))
    v4, v6 = silo.addresses
    sipp.run("store", v6, host="::1", keys={"text": "over IPv6"})
    sipp.run("store", v4, keys={"text": "over IPv4"})
    assert [waiting["size"] for waiting in silo.list_json()] == [len("over IPv6"), len("over IPv4")]


def test_options_is_answered(silo: Silo, sipp: Sipp) -> None:
    sipp.run("options", silo.address)


@pytest.mark.parametrize(
    ("uri", "to", "code", "owner"),
    [
        ("bob@home.lan", "carol@home.lan", 202, "bob@home.lan"),
        ("bob@127.0.0.1:{port}", "bob@127.0.0.1", 202, "bob@home.lan"),
        ("bob@elsewhere.example", "carol@home.lan", 202, "carol@home.lan"),
        ("home.lan", "carol@home.lan", 202, "carol@home.lan"),
        ("bob@elsewhere.example", "carol@elsewhere.example", 404, ""),
    ],
    ids=["Request-URI first", "our address means our domain", "else To", "no user in the Request-URI", "neither"],
)
def test_whose_box(start_silo: StartSilo, phone: PickUp, uri: str, to: str, code: int, owner: str) -> None:
    silo, alice = start_silo("--domain", "home.lan"), phone("alice")
    request = alice.request("MESSAGE", to, "Content-Type: text/plain", body=HELLO)
    target = uri.format(port=silo.address[1])
    answer = alice.ask(request.replace(f"MESSAGE sip:{to} ".encode(), f"MESSAGE sip:{target} ".encode()), silo.address)
    assert answer.code == code
    assert [row["to"] for row in silo.list_json()] == ([owner] if owner else [])


# ---- once only ------------------------------------------------------------------------------------------------------


def test_retransmission_is_answered_again_and_stored_once(silo: Silo, phone: PickUp) -> None:
    alice = phone("alice")
    request = alice.request("MESSAGE", "bob@home.lan", "Content-Type: text/plain", body=HELLO)
    assert [alice.ask(request, silo.address).code for _ in range(3)] == [202, 202, 202]
    assert len(silo.list_json()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_retransmission_after_a_restart_is_stored_once(silo: Silo, phone: PickUp, number: signal.Signals) -> None:
    alice = phone("alice")
    request = alice.request("MESSAGE", "bob@home.lan", "Content-Type: text/plain", body=HELLO)
    assert alice.ask(request, silo.address).code == 202
    silo.restart(number)
    assert alice.ask(request, silo.address).code == 202
    assert len(silo.list_json()) == 1


def test_same_text_twice_is_two_messages(silo: Silo, phone: PickUp) -> None:
    alice = phone("alice")
    assert [alice.message(silo.address, "bob@home.lan", HELLO).code for _ in range(2)] == [202, 202]
    assert len(silo.list_json()) == 2


def test_every_202_of_a_storm_survives_sigkill_exactly_once(silo: Silo, sipp: Sipp) -> None:
    storm = sipp.start("store_numbered", silo.address, "-r", "1500", "-l", "100", "-max_retrans", "10", calls=4000)
    until(lambda: len(storm.received) > 1000, 20, "a thousand answers")
    silo.kill()
    stored_by_then = {seen["Call-ID"] for seen in storm.received if seen.code == 202}
    assert len(stored_by_then) < 4000
    assert _stored(silo).keys() >= stored_by_then
    silo.start()
    storm.passes(60)
    answered = {seen["Call-ID"] for seen in storm.received if seen.code == 202}
    assert len(answered) == 4000
    assert _stored(silo) == Counter(answered)


def _stored(silo: Silo) -> Counter[str]:
    """How often each Call-ID is in the file, in msilo's own table and column."""
    with closing(sqlite3.connect(silo.database)) as database:
        return Counter(call_id for (call_id,) in database.execute("SELECT callid FROM silo"))


# ---- not taken ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scenario",
    ["typing", "expires_zero", "no_user", "tel", "length_too_big", "max_forwards", "require"],
)
def test_answered_and_not_stored(silo: Silo, sipp: Sipp, scenario: str) -> None:
    sipp.run(scenario, silo.address)
    assert silo.list_json("--all") == []


def test_cseq_of_another_method_is_refused(silo: Silo, phone: PickUp) -> None:
    """RFC 3261 8.1.1.5. (SIPp takes no answer whose CSeq differs from its request.)"""
    alice = phone("alice")
    request = alice.request("MESSAGE", "bob@home.lan", "Content-Type: text/plain", body=HELLO)
    assert alice.ask(request.replace(b"CSeq: 1 MESSAGE", b"CSeq: 1 INVITE"), silo.address).code == 400
    assert silo.list_json("--all") == []


@pytest.mark.parametrize("size", [3_900, 20_000])
def test_too_large_is_refused(silo: Silo, sipp: Sipp, size: int) -> None:
    sipp.run("too_large", silo.address, keys={"text": "x" * size})
    assert silo.list_json("--all") == []


def test_untrusted_source_is_refused(start_silo: StartSilo, sipp: Sipp) -> None:
    silo = start_silo("--trusted", "127.0.0.9/32")
    sipp.run("untrusted", silo.address)
    assert silo.list_json("--all") == []
    sipp.run("store", silo.address, host="127.0.0.9", keys={"text": "from the one that is trusted"})
    assert len(silo.list_json()) == 1


@pytest.mark.parametrize(
    "junk",
    [
        b"\x00\xff" * 50,
        b"MESSAGE sip:bob@home.lan SIP/2.0\r\n\r\n",
        b"MESSAGE sip:bob@home.lan SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKx\r\nCSeq: x\r\n\r\n",
        b"SIP/2.0 200 OK\r\n\r\n",
        b"\r\n\r\n",
        b"",
    ],
    ids=["binary", "no headers", "broken headers", "stray answer", "keep-alive", "empty"],
)
def test_what_is_not_sip_gets_no_answer_and_does_no_harm(silo: Silo, phone: PickUp, junk: bytes) -> None:
    alice = phone("alice")
    alice.send(junk, silo.address)
    assert alice.message(silo.address, "bob@home.lan", HELLO).code == 202
    assert alice.glance(0.2) is None
    assert len(silo.list_json()) == 1


def test_malformed_is_counted(silo: Silo, phone: PickUp) -> None:
    phone("alice").send(b"MESSAGE sip:bob@home.lan SIP/2.0\r\nVia: broken\r\n\r\n", silo.address)
    until(lambda: silo.status_json()["counters"]["malformed"] == 1, 10, "the counter of malformed requests")
