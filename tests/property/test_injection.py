"""Nothing that anybody writes becomes a header of ours: from whatever side it comes, and as the wire shows it.

Each message that is taken is sent by the real stack to a socket, and read again strictly: exactly the headers that were
meant, each on one line, and the body byte for byte. What is refused cannot hurt.
"""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from msilo_lite.api import Box
from msilo_lite.box.message import Waiting
from msilo_lite.box.policy import Policy
from msilo_lite.box.schema import Names
from msilo_lite.box.silo import Places, Reading, Silo, Source
from msilo_lite.box.store import Store
from msilo_lite.cli.transfer import Fit, imported
from msilo_lite.errors import BadRequest, MsiloError, Rejected, SipError
from msilo_lite.outbound.bindings import Bindings
from msilo_lite.outbound.compose import Dress, replay
from msilo_lite.outbound.notice import Notices, Wording
from msilo_lite.settings.control import orders_of
from msilo_lite.settings.pseudo import Subject, Template
from msilo_lite.settings.terms import extra_lines
from msilo_lite.sip.address import Aor, Endpoint
from msilo_lite.sip.agent import Agent
from msilo_lite.sip.lines import octets
from msilo_lite.sip.wire import Answer, Incoming, Outgoing
from tests.unit.kit import read

NOW = 1_800_000_000
BOB = Aor("bob", "home.lan")
FIXED = {"via", "max-forwards", "from", "to", "call-id", "cseq", "user-agent", "content-length", "content-type", "date",
         "x-msilo-id", "x-msilo-late", "reply-to", "contact"}  # fmt: skip
FRAGMENTS = [
    "\r\nInjected: 1", "\nInjected: 1", "\rInjected: 1", "\r\n\r\nInjected: 1", "\r\n Injected: 1", "\x00Injected: 1",
    "\x0bInjected: 1", "\x0cInjected: 1", "\x85Injected: 1", "\u2028Injected: 1", "%0d%0aInjected: 1",
    "\\r\\nInjected: 1",
    '"', "<", ">", ";", ",", "@", ":", "sip:", "\\", " ", "\t", "a", "home.lan", "é", "😀", "\udcff", "?Injected=1",
]  # fmt: skip
nasty = st.lists(st.sampled_from(FRAGMENTS), max_size=5).map("".join) | st.text(max_size=12)
bodies = st.binary(max_size=60) | nasty.map(octets)
names = st.sampled_from(["Subject", "X-App", "Priority", "Reply-To", "P-Asserted-Identity", "Privacy"]) | nasty
PLAIN = Dress("msilo-lite/test", add_date=False)
FULL = Dress("msilo-lite/test", add_date=False, add_contact=True, reminder="sip:reminder@home.lan", keep_call_id=True)
DRESS = (PLAIN, FULL)
quick = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


class Wire:
    """The real stack on one side, a socket on the other."""

    def __init__(self) -> None:
        self._agent = Agent((Endpoint("127.0.0.1", 0),), self, "msilo-lite/test")
        self._token = 0
        self.renew()

    def renew(self) -> None:
        """A peer that nobody has sent anything to."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port = int(self._socket.getsockname()[1])

    def hears(self, host: str) -> bool:
        return True

    def received(self, request: Incoming) -> None:
        self._agent.answer(request.handle, 500)

    def answered(self, token: int, answer: Answer) -> None:
        pass

    def dropped(self, reason: str) -> None:
        pass

    def counted(self, name: str, number: int) -> None:
        pass

    def carry(self, what: Outgoing) -> bytes:
        """What the peer sees of a request; raises SipError where the stack refuses it."""
        self._token += 1
        self._agent.send(self._token, what)
        try:
            for _ in range(1000):
                with suppress(BlockingIOError):
                    raw, source = self._socket.recvfrom(65535)
                    self._socket.sendto(_ok(raw), source)
                    self._agent.poll(1, 10)
                    return raw
                self._agent.poll(1, 10)
            pytest.fail("nothing came")
        finally:
            self._socket.close()
            self.renew()

    def close(self) -> None:
        self._agent.close()
        self._socket.close()


def _ok(raw: bytes) -> bytes:
    """The 200 to a request, as far as the stack looks at it."""
    lines = raw.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    kept = [line for line in lines if line.lower().startswith((b"via:", b"from:", b"to:", b"call-id:", b"cseq:"))]
    return b"\r\n".join([b"SIP/2.0 200 OK", *kept, b"Content-Length: 0", b"", b""])


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with closing(Wire()) as made:
        yield made


def judge(raw: bytes, meant: set[str], body: bytes) -> None:
    """Strictly by RFC 3261 7: nobody reads another header in it, and no other body."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    assert rest == body
    start, *lines = head.split(b"\r\n")
    assert re.fullmatch(rb"MESSAGE \S+ SIP/2\.0", start)
    seen = []
    for line in lines:
        name, colon, value = line.partition(b":")
        assert colon
        assert re.fullmatch(rb"[A-Za-z0-9.!%*_+`'~-]+", name), line
        assert not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value), line
        seen.append(name.decode().lower())
    assert "injected" not in set(seen) - meant
    assert set(seen) <= FIXED | meant
    for once in ("from", "to", "call-id", "cseq", "content-length", "max-forwards", "x-msilo-id", "date"):
        assert seen.count(once) == 1, once
    lengths = [int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length")]
    assert lengths == [len(body)]


def deliver(wire: Wire, item: Waiting, meant: set[str], *, extra: str = "", trusted: bool = True) -> None:
    """Send a stored message every way it may be dressed; what the stack refuses reaches nobody."""
    for dress in DRESS:
        target = f"sip:bob@127.0.0.1:{wire.port}"
        what = replay(item, target, (), dress, call_id="c@msilo-lite", trusted=trusted, now=NOW + 100, extra=extra)
        with suppress(SipError):
            judge(wire.carry(what), meant, item.message.body)


def stored(store: Store, owner: Aor = BOB) -> list[Waiting]:
    return store.pending(owner, 0, 1000, 2**40)


def sane(name: str) -> set[str]:
    return {name.strip().lower()} if re.fullmatch(r"[A-Za-z0-9.!%*_+`'~-]+", name.strip()) else set()


# -- from the wire ---------------------------------------------------------------------------------------------------
@quick
@given(display=nasty, user=nasty, header=names, value=nasty, ctype=nasty, call_id=nasty, body=bodies, own=st.booleans())
@example('"\\"\r\nInjected: 1', "a", "X", "y", "text/plain", "c", b"", False)
def test_a_request(
    wire: Wire, display: str, user: str, header: str, value: str, ctype: str, call_id: str, body: bytes, own: bool
) -> None:
    lines = [f"From: {display} <sip:alice{user}@home.lan>;tag=1", f"To: {display}<sip:bob@home.lan>",
             f"{header}: {value}",
             f"Call-ID: c{call_id}", "CSeq: 1 MESSAGE", f"Content-Type: text/{ctype}", f"X-App: {value}"]  # fmt: skip
    raw = octets("\r\n".join(["MESSAGE sip:bob@home.lan SIP/2.0", *lines])) + b"\r\n\r\n" + body
    with tempfile.TemporaryDirectory() as folder, closing(Store(Path(folder) / "silo.sqlite")) as store:
        reading = Reading(headers=Template.parse_lines("X-Kept: $hdr(X-App) $fn\r\n")) if own else None
        silo = Silo(store, Policy(), Places((), frozenset()), FULL, reading=reading)
        try:
            request = read(raw)
            message = silo.accept(request, NOW)
        except (BadRequest, Rejected):
            return
        assert message is not None
        silo.commit(NOW)
        # what was injected into the request is a header of the request, which its sender may send: that is no injection
        meant = {name for name, _ in request.headers}
        for item in stored(store, message.owner):
            if "injected" not in meant:
                deliver(wire, item, meant | {"x-kept"})


@quick
@given(which=st.sampled_from(["X-MSilo-Src", "X-MSilo-Dst", "X-MSilo-Owner"]), address=nasty, name=nasty, body=bodies)
def test_the_orders_of_a_control_peer(wire: Wire, which: str, address: str, name: str, body: bytes) -> None:
    """Their values become From, To and the Request-URI."""
    value = re.sub(r"[\r\n]", "", f"{name} <sip:bob{address}@home.lan>")
    head = ["MESSAGE sip:bob@home.lan SIP/2.0", "From: <sip:alice@home.lan>;tag=1", "To: <sip:bob@home.lan>",
            "Call-ID: c", "CSeq: 1 MESSAGE", "Content-Type: text/plain", f"{which}: {value}"]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, closing(Store(Path(folder) / "silo.sqlite")) as store:
        silo = Silo(store, Policy(), Places((), frozenset()), FULL)
        try:
            message = silo.accept(read(octets("\r\n".join(head)) + b"\r\n\r\n" + body), NOW, Source(control=True))
        except (BadRequest, Rejected):
            return
        assert message is not None
        silo.commit(NOW)
        for item in stored(store, message.owner):
            deliver(wire, item, set())


# -- from a command, a program, a file, another program ----------------------------------------------------------------
@quick
@given(
    src=nasty, owner=nasty, to=nasty, ctype=nasty, header=names, value=nasty, body=bodies, addrs=st.booleans(),
    late=st.booleans(),
)  # fmt: skip
def test_store_and_remind(
    wire: Wire, src: str, owner: str, to: str, ctype: str, header: str, value: str, body: bytes, addrs: bool, late: bool
) -> None:
    """What `store`, `remind` and the programs of others give: the same door, `api.Box`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "silo.sqlite"
        who, text = f"sip:bob{owner}@home.lan", f"text/{ctype}"
        more: dict[str, Any] = {"ctype": text, "headers": [(header, value)]}
        with closing(Box(file)) as box:
            try:
                if addrs:
                    box.m_store_addrs(body, owner=who, srcaddr=f"sip:a{src}@h", dstaddr=f"{to}<sip:x@y>", **more)
                else:
                    box.m_store(body, from_=f"{src}<sip:a@h>", owner=who, to=f"sip:b{to}@h", **more)
            except (BadRequest, Rejected):
                return
        with closing(Store(file)) as store:
            (owner_of,) = store.owners(10, NOW)
            for item in stored(store, owner_of):
                deliver(wire, item, sane(header), extra="")


@quick
@given(field=st.sampled_from(["from", "to", "ctype", "call_id", "owner", "target", "headers"]), value=nasty, body=nasty)
def test_an_import(wire: Wire, field: str, value: str, body: str) -> None:
    line: dict[str, Any] = {
        "format": 1, "owner": "bob@home.lan", "from": "<sip:a@h>", "to": "<sip:bob@h>", "target": None,
        "ctype": "text/plain", "headers": ["X-App: 1"], "arrived": "2027-01-15T08:00:00Z",
        "expires": "2037-01-01T00:00:00Z", "due": None, "call_id": "c", "key": None, "body": body,
    }  # fmt: skip
    if field == "headers":
        line["headers"] = [f"X-App: {value}", value]
    else:
        line[field] = {"from": "{}<sip:a@h>", "to": "<sip:b{}@h>", "owner": "bob{}@home.lan"}.get(field, "a/{}").format(
            value
        )
    with tempfile.TemporaryDirectory() as folder, closing(Store(Path(folder) / "silo.sqlite")) as store:
        source = Path(folder) / "in.jsonl"
        source.write_text(json.dumps(line) + "\n", "utf-8")
        with suppress(MsiloError):
            imported(source, store, Fit(PLAIN, 400, 3600), NOW, Names(), lambda _: None)
        for owner in store.owners(10, NOW):
            for item in stored(store, owner):
                deliver(wire, item, {"x-app"} | sane(value.partition(":")[0]))


@quick
@given(
    st.dictionaries(
        st.sampled_from(["src_addr", "dst_addr", "username", "domain", "ctype", "extra_hdrs", "callid"]),
        nasty,
        max_size=4,
    ),
    bodies,
    st.booleans(),
)
@example({"src_addr": "sip:a@h>\r\nInjected: 1\r\nX: <"}, b"x", False)
@example({"dst_addr": "sip:a@h\nInjected: 1"}, b"x", False)
@example({"ctype": "text/plain\r\nInjected: 1"}, b"x", False)
@example({"callid": "c\r\nInjected: 1"}, b"x", True)
@example({"extra_hdrs": "Content-Length: 0\r\nVia: x\r\nX-MSilo-ID: 1\r\nCall-ID: 7\r\n"}, b"x", False)
@example({"extra_hdrs": "Subject: a\r\n\r\nInjected: 1\r\n"}, b"x", False)
def test_rows_of_another_program(wire: Wire, columns: dict[str, str], body: bytes, due: bool) -> None:
    """A Kamailio, or anything else that can open the file, writes what it likes."""
    row: dict[str, Any] = {"src_addr": "sip:a@h", "dst_addr": "sip:bob@home.lan", "username": "bob"}
    row |= {"domain": "home.lan", "ctype": "text/plain", "extra_hdrs": "", "callid": "c"}
    row |= {name: octets(value) if re.search("[\udc80-\udcff]", value) else value for name, value in columns.items()}
    lines = re.split(r"\r?\n", columns.get("extra_hdrs", ""))  # whoever writes the row may name any header there
    kept = {name for line in lines for name in sane(line.partition(":")[0])}
    row |= {"body": body, "inc_time": NOW, "exp_time": NOW + 9999, "snd_time": NOW if due else 0}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "silo.sqlite"
        with closing(Store(file)) as store:
            with closing(sqlite3.connect(file)) as other:
                marks = ", ".join("?" * len(row))
                other.execute(f"INSERT INTO silo ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))
                other.commit()
            for owner in store.owners(10, NOW):
                for item in stored(store, owner):
                    deliver(wire, item, kept)


# -- from templates ----------------------------------------------------------------------------------------------------
WORDING = Wording(
    from_address=Template.parse("sip:$rU@home.lan"),
    body=Template.parse("$rU is away: $rb"),
    ctype=Template.parse_lines("Content-Type: text/plain\r\nX-About: $hdr(Subject) $fn $ct\r\n"),
    contact=Template.parse_lines("Contact: <sip:$fU@home.lan>\r\n"),
    use_contact=False, skip_flag=-1, interval=0, automatic=frozenset(),
)  # fmt: skip


@quick
@given(display=nasty, user=nasty, subject=nasty, ctype=nasty, body=bodies)
def test_a_notice_and_the_extra_headers(
    wire: Wire, display: str, user: str, subject: str, ctype: str, body: bytes
) -> None:
    """Templates take words out of a request, folded lines and all."""
    lines = [f"From: {display} <sip:alice{user}@127.0.0.1:{wire.port}>;tag=1", "To: <sip:bob@home.lan>",
             f"Subject: {subject}", "Call-ID: c", "CSeq: 1 MESSAGE", f"Content-Type: text/{ctype}"]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, closing(Store(Path(folder) / "silo.sqlite")) as store:
        silo = Silo(store, Policy(), Places((), frozenset()), PLAIN)
        try:
            request = read(octets("\r\n".join(["MESSAGE sip:bob@home.lan SIP/2.0", *lines])) + b"\r\n\r\n" + body)
            message = silo.accept(request, NOW)
            assert message is not None
            subject_of = Subject(request, "127.0.0.1", 5080, NOW)
            notice = Notices(WORDING, Bindings([]), None).about(message, subject_of, orders_of(request), "notice-1")
        except (BadRequest, Rejected):
            return
        silo.commit(NOW)
        if notice is not None:
            with suppress(SipError):
                judge(wire.carry(notice), {"auto-submitted", "x-about"}, notice.body)
        extra = extra_lines(Template.parse_lines("X-Extra: $hdr(Subject) $fn\r\n"), subject_of)
        for item in stored(store, message.owner):
            if "injected" not in {name for name, _ in request.headers}:
                deliver(wire, item, {name for name, _ in request.headers} | {"x-extra"}, extra=extra)
