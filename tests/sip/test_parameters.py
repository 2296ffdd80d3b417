"""msilo's parameters as peers see them: what each adds to a replay, keeps from a request, refuses or runs."""

import os
import signal
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.waiting import until

from .conftest import PickUp, StartSilo
from .peers import Silo
from .phone import Phone, Seen

pytestmark = pytest.mark.sip

BOB, CARL = "bob@home.lan", "carl@home.lan"
QUIET = 0.8
"Seconds in which nothing may come."

Start = Callable[..., Silo]


@pytest.fixture
def start(start_silo: StartSilo) -> Start:
    """Start a silo with parameters, for example `start("add_date=1")`; `proxy`: a phone everything goes through."""

    def started(*settings: str, proxy: Phone | None = None) -> Silo:
        words = [word for setting in settings for word in ("--set", setting)]
        way = ("--outbound-proxy", f"sip:127.0.0.1:{proxy.address[1]}") if proxy else ()
        return start_silo(*words, *way)

    return started


def store(alice: Phone, silo: Silo, *texts: str, owner: str = BOB, lines: tuple[str, ...] = ()) -> None:
    for text in texts:
        assert alice.message(silo.address, owner, text.encode(), "text/plain", *lines).code == 202


def register(phone: Phone, silo: Silo, *lines: str, contact: str = "") -> None:
    request = phone.request(
        "REGISTER", f"{phone.user}@home.lan", f"Contact: <{contact or phone.contact}>", "Expires: 300", *lines
    )
    assert phone.ask(request, silo.address).code == 200


def tag(seen: Seen) -> str:
    return seen["From"].rpartition(";tag=")[2]


# ---- use_mode -------------------------------------------------------------------------------------------------------


def test_use_mode_keeps_the_call_id_with_a_tag_of_its_own(start: Start, phone: PickUp) -> None:
    """Two messages of one chat share a Call-ID; no far end may take one for a copy of the other (RFC 3261 8.2.2.2)."""
    silo, alice, bob = start("use_mode=1"), phone("alice"), phone("bob")
    for text in (b"1", b"2"):
        request = alice.request("MESSAGE", BOB, "Content-Type: text/plain", body=text, call_id="the-chat")
        alice.ask(request, silo.address)
    silo.restart()
    bob.register(silo.address)
    first, second = bob.take(), bob.take()
    assert (first.text, second.text) == ("1", "2")
    assert (first["Call-ID"], second["Call-ID"]) == ("the-chat", "the-chat")
    assert tag(first) != tag(second)
    assert "the-chat" not in (tag(first), tag(second))


def test_use_mode_keeps_it_for_another_try(start: Start, phone: PickUp) -> None:
    silo, alice, bob = start("use_mode=1"), phone("alice"), phone("bob")
    alice.ask(alice.request("MESSAGE", BOB, "Content-Type: text/plain", body=b"1", call_id="the-chat"), silo.address)
    bob.register(silo.address)
    first = bob.take(486)
    until(lambda: [row["last_code"] for row in silo.list_json()] == [486], 10, "the failure is on record")
    bob.register(silo.address)
    second = bob.take()
    assert second["Call-ID"] == first["Call-ID"] == "the-chat"
    assert tag(first) != tag(second)
    assert second.all("Via") != first.all("Via")


def test_without_use_mode_a_replay_has_a_call_id_of_its_own(start: Start, phone: PickUp) -> None:
    silo, alice, bob = start(), phone("alice"), phone("bob")
    alice.ask(alice.request("MESSAGE", BOB, "Content-Type: text/plain", body=b"1", call_id="the-chat"), silo.address)
    bob.register(silo.address)
    assert bob.take()["Call-ID"] != "the-chat"


def test_no_call_id_can_start_a_header(start: Start, phone: PickUp) -> None:
    """A lone carriage return is the end of a line to some, and part of the value to others."""
    silo, alice, bob = start("use_mode=1"), phone("alice"), phone("bob")
    request = alice.request("MESSAGE", BOB, "Content-Type: text/plain", body=b"1")
    evil = request.replace(b"\r\nCSeq:", b"\rX-Evil: 1\r\nCSeq:", 1)
    assert b"\rX-Evil: 1\r\nCSeq" in evil
    alice.send(evil, silo.address)
    alice.glance(1)
    store(alice, silo, "2")
    bob.register(silo.address)
    while (seen := bob.take()).text != "2":
        assert "\r" not in seen["Call-ID"]
        assert not seen.all("X-Evil")


# ---- add_contact, add_date ------------------------------------------------------------------------------------------


def test_add_contact(start: Start, phone: PickUp) -> None:
    silo, bob = start("add_contact=1"), phone("bob")
    store(phone("alice"), silo, "Hello")
    bob.register(silo.address)
    assert bob.take()["Contact"] == "<sip:alice@home.lan>;msilo=yes"


def test_add_contact_of_a_reminder(start: Start, phone: PickUp) -> None:
    settings = ("add_contact=1", "send_time=1", "snd_time_avp=$hdr(X-Send-At)", "reminder=sip:reminder@home.lan")
    silo, bob = start(*settings), phone("bob")
    bob.register(silo.address)
    store(phone("alice"), silo, "Dentist", lines=("X-Send-At: +1s",))
    assert bob.take()["Contact"] == "<sip:reminder@home.lan>;msilo=yes"


def test_add_date(start: Start, phone: PickUp) -> None:
    silo, alice, bob = start("add_date=1"), phone("alice"), phone("bob")
    bodies = {
        "text/plain": b"Hello",
        "text/plain;charset=utf-8": "Zoë 🥛".encode(),
        "text/plain; charset=iso-8859-1": b"x" * 2000,
        "text/html": b"<p>Hello",
        "message/cpim": b"From: <sip:a@b>\r\n\r\nHello",
        "text/plain;charset=utf-16": b"\xff\xfeH\x00",
        'multipart/mixed;boundary="x"': b"--x--",
    }
    for ctype, body in bodies.items():
        assert alice.message(silo.address, BOB, body, ctype).code == 202
    bob.register(silo.address)
    for number, (ctype, body) in enumerate(bodies.items()):
        seen = bob.take()
        assert seen["Content-Type"] == ctype
        at = parsedate_to_datetime(seen["Date"]).timestamp()
        words = f"[Offline message - {time.ctime(at)}] ".encode()
        assert len(words) == 45
        assert seen.body == (words if number < 3 else b"") + body


def test_add_date_keeps_off_encoded_bodies(start: Start, phone: PickUp) -> None:
    silo, bob = start("add_date=1"), phone("bob")
    store(phone("alice"), silo, "not really gzip", lines=("e: gzip",))
    bob.register(silo.address)
    seen = bob.take()
    assert (seen.text, seen["Content-Encoding"]) == ("not really gzip", "gzip")


# ---- extra_hdrs -----------------------------------------------------------------------------------------------------

EXTRA = "extra_hdrs=X-Agent: $hdr(User-Agent)\r\nX-From: $si\r\n"


def test_extra_lines_come_from_the_register(start: Start, phone: PickUp) -> None:
    silo, bob = start(EXTRA), phone("bob")
    store(phone("alice"), silo, "Hello", lines=("User-Agent: alice's", "Subject: Hi"))
    register(bob, silo, "User-Agent: bob's phone/1.0")
    seen = bob.take()
    assert (seen["X-Agent"], seen["X-From"], seen["Subject"]) == ("bob's phone/1.0", "127.0.0.1", "Hi")
    names = [name for name, _ in seen.headers]
    assert names.index("x-agent") < names.index("subject")


def test_extra_lines_of_the_phone_that_gets_it(start: Start, phone: PickUp) -> None:
    silo, alice, desk, mobile = start(EXTRA), phone("alice"), phone("bob"), phone("bob")
    register(desk, silo, "User-Agent: desk")
    register(mobile, silo, "User-Agent: mobile")
    store(alice, silo, "1")
    silo.dump(BOB)
    assert mobile.take()["X-Agent"] == "mobile"
    mobile.register(silo.address, expires=0)
    store(alice, silo, "2")
    silo.dump(BOB)
    assert desk.take()["X-Agent"] == "desk"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_extra_lines_survive_a_restart(start: Start, phone: PickUp, number: signal.Signals) -> None:
    silo, bob = start(EXTRA), phone("bob")
    register(bob, silo, "User-Agent: bob's")
    silo.restart(number)
    store(phone("alice"), silo, "Hello")
    silo.dump(BOB)
    assert bob.take()["X-Agent"] == "bob's"


def test_extra_lines_through_the_proxy(start: Start, phone: PickUp) -> None:
    proxy, alice, bob = phone("proxy"), phone("alice"), phone("bob")
    silo = start("extra_hdrs=X-Agent: $hdr(User-Agent)", proxy=proxy)
    store(alice, silo, "1")
    register(bob, silo, "User-Agent: bob's")
    assert proxy.take()["X-Agent"] == "bob's"
    store(alice, silo, "2", owner=CARL)  # of carl no REGISTER is known
    silo.dump(CARL)
    assert not proxy.take().all("X-Agent")


def test_fixed_extra_lines_need_no_register(start: Start, phone: PickUp) -> None:
    proxy = phone("proxy")
    silo = start("extra_hdrs=X-Offline: yes\r\nX-Via: silo\r\n", proxy=proxy)
    store(phone("alice"), silo, "Hello")
    silo.dump(BOB)
    seen = proxy.take()
    assert (seen["X-Offline"], seen["X-Via"]) == ("yes", "silo")


def test_extra_lines_are_not_for_reminders(start: Start, phone: PickUp) -> None:
    """As in the original."""
    silo, bob = start(EXTRA, "send_time=1", "snd_time_avp=$hdr(X-Send-At)"), phone("bob")
    register(bob, silo, "User-Agent: bob's")
    store(phone("alice"), silo, "Dentist", lines=("X-Send-At: +1s",))
    seen = bob.take()
    assert seen.text == "Dentist"
    assert not seen.all("X-Agent")


def test_a_phone_cannot_write_headers_by_its_register(start: Start, phone: PickUp) -> None:
    silo, bob = start("extra_hdrs=X-Agent: $hdr(User-Agent)\r\n$hdr(X-Lines)"), phone("bob")
    store(phone("alice"), silo, "Hello")
    register(bob, silo, "User-Agent: a", "X-Lines: Contact: <sip:evil@home.lan>", "X-Lines: From: <sip:boss@home.lan>")
    seen = bob.take()
    assert seen["X-Agent"] == "a"
    assert seen["From"].startswith("<sip:alice@home.lan>")


# ---- extra_hdrs_avp -------------------------------------------------------------------------------------------------


def test_what_is_kept_by_expression(start: Start, phone: PickUp) -> None:
    silo, bob = start("extra_hdrs_avp=X-Subject: $hdr(Subject)\r\nX-Source: $si\r\n"), phone("bob")
    store(phone("alice"), silo, "Hello", lines=("Subject: Hi", "X-Private: 1"))
    silo.restart()
    bob.register(silo.address)
    seen = bob.take()
    assert (seen["X-Subject"], seen["X-Source"]) == ("Hi", "127.0.0.1")
    assert not seen.all("Subject")
    assert not seen.all("X-Private")


def test_without_an_expression_the_headers_are_the_senders(start: Start, phone: PickUp) -> None:
    silo, bob = start("extra_hdrs_avp=$hdr(X-Keep)"), phone("bob")
    store(phone("alice"), silo, "1", lines=("X-Keep: X-Other: 7", "Subject: Hi"))
    store(phone("alice"), silo, "2", lines=("Subject: Hi",))
    bob.register(silo.address)
    first, second = bob.take(), bob.take()
    assert (first.all("X-Other"), first.all("Subject")) == (["7"], [])
    assert (second.all("X-Other"), second.all("Subject")) == ([], ["Hi"])


# ---- ignored_types --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "codes"),
    [
        ("ignored_types=text/x-noise, Application/X", [200, 200, 202, 202]),
        ("ignored_types=", [202, 202, 202, 202]),
        ("log_level=warning", [202, 202, 200, 202]),
    ],
)
def test_types_to_forget(start: Start, phone: PickUp, setting: str, codes: list[int]) -> None:
    silo, alice, bob = start(setting), phone("alice"), phone("bob")
    types = ["Text/X-Noise;v=1", "application/x", "application/im-iscomposing+xml", "text/plain"]
    assert [alice.message(silo.address, BOB, b"x", ctype).code for ctype in types] == codes
    bob.register(silo.address)
    kept = [ctype for ctype, code in zip(types, codes, strict=True) if code == 202]
    assert [bob.take()["Content-Type"] for _ in kept] == kept
    assert bob.glance(QUIET) is None


# ---- max_messages, expire_time --------------------------------------------------------------------------------------


def test_a_full_box(start: Start, phone: PickUp) -> None:
    silo, alice, bob = start("max_messages=2"), phone("alice"), phone("bob")
    first = alice.request("MESSAGE", BOB, "Content-Type: text/plain", body=b"1")
    assert alice.ask(first, silo.address).code == 202
    store(alice, silo, "2")
    refusal = alice.message(silo.address, BOB, b"3")
    assert (refusal.code, int(refusal["Retry-After"]) > 0) == (480, True)
    assert alice.ask(first, silo.address).code == 202  # repeated, since the 202 was lost
    store(alice, silo, "4", owner=CARL)
    silo.restart()
    assert alice.message(silo.address, BOB, b"5").code == 480
    bob.register(silo.address)
    assert [bob.take().text, bob.take().text] == ["1", "2"]
    until(lambda: [row["to"] for row in silo.list_json()] == [CARL], 10, "bob's box is empty")
    store(alice, silo, "6")
    bob.register(silo.address)
    assert bob.take().text == "6"


def test_what_is_over_leaves_room(start: Start, phone: PickUp) -> None:
    silo, alice = start("max_messages=1", "expire_time=2"), phone("alice")
    store(alice, silo, "1")
    assert alice.message(silo.address, BOB, b"2").code == 480
    until(lambda: alice.message(silo.address, BOB, b"3").code == 202, 5, "the first is over")


def test_a_message_and_its_repeat_take_the_room_of_one(start: Start, phone: PickUp) -> None:
    """The daemon is held up, so that all come together."""
    silo, alice = start("max_messages=2"), phone("alice")
    first = alice.request("MESSAGE", BOB, "Content-Type: text/plain", body=b"1")
    second = alice.request("MESSAGE", BOB, "Content-Type: text/plain", body=b"2")
    os.kill(silo.process.pid, signal.SIGSTOP)
    for request in (first, first, second):
        alice.send(request, silo.address)
    os.kill(silo.process.pid, signal.SIGCONT)
    assert [alice.receive().code for _ in range(3)] == [202, 202, 202]
    assert len(silo.list_json()) == 2


# ---- everything at once ---------------------------------------------------------------------------------------------

ALL = ("use_mode=1", "add_contact=1", "add_date=1", "reminder=sip:reminder@home.lan", "send_time=1")
TIMED = "snd_time_avp=$hdr(X-Send-At)"


def longest(alice: Phone, silo: Silo, *lines: str) -> int:
    """Bytes of the longest body that is taken; leaves that message, and no other, in bob's box."""
    low, high = 2000, 4000
    while high - low > 1:
        middle = (low + high) // 2
        code = alice.message(silo.address, CARL, b"x" * middle, "text/plain", *lines).code
        assert code in (202, 513)
        low, high = (middle, high) if code == 202 else (low, middle)
    store(alice, silo, "x" * low, lines=lines)
    return low


@pytest.mark.parametrize("lines", [(), ("X-Send-At: +1s",)], ids=["message", "reminder"])
@pytest.mark.parametrize("by_proxy", [False, True])
def test_the_longest_that_is_taken_arrives_whole(
    start: Start, phone: PickUp, lines: tuple[str, ...], by_proxy: bool
) -> None:
    """With everything that the parameters add, and a Contact as long as push phones have."""
    proxy, alice, bob = phone("proxy"), phone("alice"), phone("bob")
    silo = start(*ALL, TIMED, EXTRA, proxy=proxy if by_proxy else None)
    size = longest(alice, silo, "Subject: Hi", *lines)
    until(lambda: time.time() % 1 < 0.2, 3, "a second has begun")
    time_due = time.time() + 1.2
    until(lambda: time.time() > time_due, 5, "it is due")
    register(bob, silo, "User-Agent: bob's", contact=f"{bob.contact};x=".ljust(390, "x"))
    there = proxy if by_proxy else bob
    seen = there.receive()
    while not seen.body.endswith(b"x" * size):
        there.answer(seen, 200)
        seen = there.receive()
    there.answer(seen, 200)
    assert seen.body == seen.body[: 46 if lines else 45] + b"x" * size
    assert seen["Subject"] == "Hi"
    until(lambda: BOB not in [row["to"] for row in silo.list_json()], 10, "bob's box is empty")


def test_extra_lines_give_way_to_a_long_contact(start: Start, phone: PickUp) -> None:
    """A message that was taken leaves, whatever a phone says when it registers."""
    silo, alice, bob = start("extra_hdrs=X-Agent: $hdr(User-Agent)"), phone("alice"), phone("bob")
    size = longest(alice, silo)
    store(alice, silo, "y" * (size - 150))
    store(alice, silo, "z")
    register(bob, silo, "User-Agent: " + "u" * 250, contact=f"{bob.contact};x=".ljust(390, "x"))
    seen = [bob.take() for _ in range(3)]
    assert [len(one.body) for one in seen] == [size, size - 150, 1]
    assert seen[2]["X-Agent"] == "u" * 250
    until(lambda: BOB not in [row["to"] for row in silo.list_json()], 10, "bob's box is empty")


def test_other_names_for_table_and_columns(start: Start, phone: PickUp) -> None:
    settings = ("db_table=offline", "sc_body=content", "sc_snd_time=at", "sc_stored_hdrs=headers", "sc_uri_user=who")
    silo, bob = start(*settings), phone("bob")
    store(phone("alice"), silo, "Hello", lines=("Subject: Hi",))
    silo.restart(signal.SIGKILL)
    bob.register(silo.address)
    seen = bob.take()
    assert (seen.text, seen["Subject"]) == ("Hello", "Hi")


# ---- store_hook -----------------------------------------------------------------------------------------------------


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    """Write a script of shell and give the setting that runs it."""

    def written(lines: str) -> str:
        path = tmp_path / "hook.sh"
        path.write_text(f"#!/bin/sh\ncd {tmp_path}\n{lines}\n")
        return f"store_hook=/bin/sh {path} 'one word'"

    return written


LOG_EACH = 'echo "$MSILO_OWNER $MSILO_FROM $MSILO_TYPE $MSILO_SIZE $MSILO_DUE. $1" >> calls'


def calls(folder: Path, count: int) -> list[str]:
    """The lines of the script, once there are so many."""
    file = folder / "calls"
    until(lambda: file.exists() and len(file.read_text().splitlines()) >= count, 10, f"{count} runs of the hook")
    return file.read_text().splitlines()


def test_the_hook_runs_for_each_message_that_is_new(
    start: Start, phone: PickUp, script: Callable[[str], str], tmp_path: Path
) -> None:
    silo, alice, bob = start(script(LOG_EACH), "max_messages=3"), phone("alice"), phone("bob")
    same = alice.request("MESSAGE", BOB, "Content-Type: text/plain", body=b"Hello")
    for _ in range(2):
        assert alice.ask(same, silo.address).code == 202
    assert alice.message(silo.address, CARL, b"<p>", "text/html;charset=utf-8").code == 202
    assert alice.message(silo.address, BOB, b"<x/>", "application/im-iscomposing+xml").code == 200
    assert alice.message(silo.address, BOB, b"x", "text/plain", "Expires: 0").code == 480
    bob.register(silo.address)
    assert bob.take().text == "Hello"
    store(alice, silo, "last")
    assert sorted(calls(tmp_path, 3)) == sorted(
        [
            f"{BOB} sip:alice@home.lan text/plain 5 . one word",
            f"{CARL} sip:alice@home.lan text/html;charset=utf-8 3 . one word",
            f"{BOB} sip:alice@home.lan text/plain 4 . one word",
        ]
    )


def test_the_hook_runs_once_for_a_message_and_its_repeat_that_come_together(
    start: Start, phone: PickUp, script: Callable[[str], str], tmp_path: Path
) -> None:
    silo, alice = start(script(LOG_EACH)), phone("alice")
    same = alice.request("MESSAGE", BOB, "Content-Type: text/plain", body=b"Hello")
    os.kill(silo.process.pid, signal.SIGSTOP)
    for _ in range(2):
        alice.send(same, silo.address)
    os.kill(silo.process.pid, signal.SIGCONT)
    assert [alice.receive().code, alice.receive().code] == [202, 202]
    store(alice, silo, "last")
    assert sorted(line.split()[3] for line in calls(tmp_path, 2)) == ["4", "5"]  # they run side by side


def test_a_push_that_wakes_the_phone_brings_the_message(
    start: Start, phone: PickUp, script: Callable[[str], str], tmp_path: Path
) -> None:
    """What it is for: the command makes the phone register."""
    silo, bob = start(script("touch woken")), phone("bob")
    store(phone("alice"), silo, "Hello")
    until((tmp_path / "woken").exists, 10, "the push went out")
    bob.register(silo.address)
    assert bob.take().text == "Hello"


def test_a_slow_hook_keeps_nobody_waiting_and_a_stop_ends_it(
    start: Start, phone: PickUp, script: Callable[[str], str], tmp_path: Path
) -> None:
    silo, alice, bob = start(script("echo $$ >> calls; sleep 300; echo late >> calls")), phone("alice"), phone("bob")
    begin = time.monotonic()
    store(alice, silo, *map(str, range(8)))
    assert time.monotonic() - begin < 3
    pids = list(map(int, calls(tmp_path, 4)))
    bob.register(silo.address)
    assert [bob.take().text for _ in range(8)] == list(map(str, range(8)))
    assert len(calls(tmp_path, 4)) == 4  # at once, and the others wait
    begin = time.monotonic()
    assert silo.stop() == 0
    assert time.monotonic() - begin < 5
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 5, "nothing is left of it")
    assert "Traceback" not in silo.process.errors


@pytest.mark.parametrize("command", ["/no/such/program --at all", "/etc/passwd", "/bin/false"])
def test_a_hook_that_cannot_run_is_nobodys_trouble(start: Start, phone: PickUp, command: str) -> None:
    silo, bob = start(f"store_hook={command}"), phone("bob")
    store(phone("alice"), silo, "1", "2")
    bob.register(silo.address)
    assert [bob.take().text, bob.take().text] == ["1", "2"]
    silo.empties()
    assert ("hook.not_started" in silo.process.errors) == (command != "/bin/false")
    assert "Traceback" not in silo.process.errors
    assert silo.stop() == 0


def test_a_restart_runs_no_hook_again(
    start: Start, phone: PickUp, script: Callable[[str], str], tmp_path: Path
) -> None:
    silo, alice = start(script(LOG_EACH)), phone("alice")
    same = alice.request("MESSAGE", BOB, "Content-Type: text/plain", body=b"Hello")
    assert alice.ask(same, silo.address).code == 202
    assert len(calls(tmp_path, 1)) == 1
    silo.restart(signal.SIGKILL)
    assert alice.ask(same, silo.address).code == 202
    store(alice, silo, "last")
    assert sorted(line.split()[3] for line in calls(tmp_path, 2)) == ["4", "5"]  # they run side by side
