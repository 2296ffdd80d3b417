"""What a sender sees who wrote to somebody who is away: one notice, once in a while, and never a loop."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.waiting import until

from .conftest import PickUp, StartSilo
from .peers import Kamailio, Silo
from .phone import Phone, Seen
from .process import free_port

pytestmark = pytest.mark.sip

BOB = "bob@home.lan"
CONTROL = 'peer=[{"address": "127.0.0.2", "control": true}]'
OPTIONS = (
    "from_address=sip:silo@home.lan",
    "offline_message=$rU is away",
    "content_type_hdr=Content-Type: text/plain\r\n",
    "skip_notification_flag=5",
    CONTROL,
)
SET = [word for option in OPTIONS for word in ("--set", option)]
QUIET = 1.0
"Seconds in which nothing may come."

StartNotifying = Callable[..., Silo]


@pytest.fixture
def start(start_silo: StartSilo, proxy: Phone) -> StartNotifying:
    """Start a silo that sends everything through `proxy`, for example `start("use_contact=0")`."""

    def started(*options: str) -> Silo:
        more = [word for option in options for word in ("--set", option)]
        return start_silo(*SET, *more, "--outbound-proxy", f"sip:127.0.0.1:{proxy.address[1]}")

    return started


@pytest.fixture
def silo(start: StartNotifying) -> Silo:
    return start()


@pytest.fixture
def start_behind(tmp_path: Path, ends: ExitStack, start_silo: StartSilo) -> Callable[..., Kamailio]:
    """Start the example Kamailio in front of a silo that tells senders."""

    def started(*options: str) -> Kamailio:
        port = free_port()
        more = [word for option in options for word in ("--set", option)]
        silo = start_silo(*SET, *more, "--outbound-proxy", f"sip:127.0.0.1:{port}")
        kamailio = Kamailio(tmp_path, silo, port=port, defines=("PHONE_TIMEOUT=1000",))
        return ends.enter_context(closing(kamailio)).start()

    return started


def write(alice: Phone, silo: Silo, text: str = "Hello", *more: str, owner: str = BOB) -> int:
    return alice.message(silo.address, owner, text.encode(), "text/plain", *more).code


def counts(silo: Silo, name: str, number: int) -> None:
    """Wait until a counter has a value."""
    until(lambda: silo.status_json()["counters"].get(name) == number, 10, f"{name} is {number}")


def back(proxy: Phone, notice: Seen, *lines: str) -> bytes:
    """A notice as the failure route of a proxy sends it to the silo: same From, To and body."""
    request = proxy.request("MESSAGE", "alice@home.lan", "Content-Type: text/plain", *lines, body=notice.body)
    return request.replace(b"From: <sip:proxy@home.lan>;tag=", b"From: <sip:silo@home.lan>;tag=", 1)


# ---- what the sender sees -------------------------------------------------------------------------------------------


def test_a_notice_through_the_proxy(silo: Silo, proxy: Phone, phone: PickUp) -> None:
    before = int(time.time())
    assert write(phone("alice"), silo) == 202
    notice = proxy.take()
    assert notice.uri == "sip:alice@home.lan"
    assert notice["From"].startswith("<sip:silo@home.lan>;tag=")
    assert notice["To"] == "<sip:alice@home.lan>"
    assert notice.text == "bob is away"
    assert notice["Content-Type"] == "text/plain"
    assert notice["Auto-Submitted"].startswith("auto-replied")
    assert before <= parsedate_to_datetime(notice["Date"]).timestamp() <= time.time()
    assert not notice.all("Route")
    assert not notice.all("Contact")
    counts(silo, "sent_notices", 1)
    assert [row["to"] for row in silo.list_json("--all")] == [BOB]


def test_all_its_words_are_settings(start: StartNotifying, proxy: Phone, phone: PickUp) -> None:
    silo = start(
        'from_address="$tU" <sip:$rU@$rd>',
        "offline_message=Liebe $fU, $tU ist weg: $hdr(Subject) 🥛",
        "content_type_hdr=Content-Type: text/plain;charset=utf-8\r\nX-About: $ci\r\n",
        "contact_hdr=Contact: <sip:null@$rd>\r\n",
    )
    alice = phone("alice")
    lines = ("Content-Type: text/plain", "Subject: Milch")
    assert alice.ask(alice.request("MESSAGE", BOB, *lines, body=b"x", call_id="the-call"), silo.address).code == 202
    notice = proxy.take()
    assert notice["From"].startswith('"bob" <sip:bob@home.lan>;tag=')
    assert notice.text == "Liebe alice, bob ist weg: Milch 🥛"
    assert notice["Content-Type"] == "text/plain;charset=utf-8"
    assert notice["X-About"] == "the-call"
    assert notice["Contact"] == "<sip:null@home.lan>"


@pytest.mark.parametrize("scheme", ["sip", "SIP"])
def test_to_the_contact_of_the_message(silo: Silo, proxy: Phone, phone: PickUp, scheme: str) -> None:
    contact = f"{scheme}:alice@192.0.2.7:5099;x=y"
    assert write(phone("alice"), silo, "Hello", f"Contact: <{contact}>") == 202
    notice = proxy.take()
    assert notice.uri.lower() == contact.lower()
    assert notice["To"] == "<sip:alice@home.lan>"


def test_a_contact_that_cannot_be_used_does_not_count(silo: Silo, proxy: Phone, phone: PickUp) -> None:
    """A sips: one would need TLS."""
    for number, contact in enumerate(("*", "<tel:+4930>", "<sips:alice@192.0.2.7>")):
        alice = phone(f"alice{number}")
        assert write(alice, silo, "Hello", f"Contact: {contact}") == 202
        assert proxy.take().uri == f"sip:alice{number}@home.lan"


def test_without_use_contact_to_from(start: StartNotifying, proxy: Phone, phone: PickUp) -> None:
    silo = start("use_contact=0")
    assert write(phone("alice"), silo, "Hello", "Contact: <sip:alice@192.0.2.7:5099>") == 202
    assert proxy.take().uri == "sip:alice@home.lan"


def test_straight_to_a_registered_sender(start_silo: StartSilo, phone: PickUp) -> None:
    silo, alice = start_silo(*SET), phone("alice")
    alice.register(silo.address)
    assert write(alice, silo) == 202
    notice = alice.take()
    assert (notice.uri, notice.text, notice["To"]) == (alice.contact, "bob is away", "<sip:alice@home.lan>")
    counts(silo, "sent_notices", 1)


def test_straight_to_the_contact_of_the_message(start_silo: StartSilo, phone: PickUp) -> None:
    silo, alice, other = start_silo(*SET), phone("alice"), phone("alice")
    assert write(alice, silo, "Hello", f"Contact: <{other.contact}>") == 202
    assert other.take().text == "bob is away"


def test_straight_to_nobody_who_cannot_be_reached(start_silo: StartSilo, phone: PickUp) -> None:
    """The message is stored all the same, and at once: no name is looked up."""
    silo, alice = start_silo(*SET), phone("alice")
    start = time.monotonic()
    assert write(alice, silo, "one") == 202
    assert write(alice, silo, "two", "Contact: <sip:alice@no-such-host.invalid>") == 202
    assert time.monotonic() - start < 2
    assert alice.glance(QUIET) is None
    assert len(silo.list_json()) == 2
    counts(silo, "failed_notices", 2)


# ---- once in a while ------------------------------------------------------------------------------------------------


def test_one_for_many_messages_to_the_same_reader(silo: Silo, proxy: Phone, phone: PickUp) -> None:
    alice = phone("alice")
    for text in ("one", "two", "three"):
        assert write(alice, silo, text) == 202
    assert write(alice, silo, "four", owner="carl@home.lan") == 202
    assert sorted(proxy.take().text for _ in range(2)) == ["bob is away", "carl is away"]
    assert proxy.glance(QUIET) is None
    assert len(silo.list_json()) == 4


def test_another_one_after_the_interval(start: StartNotifying, proxy: Phone, phone: PickUp) -> None:
    silo, alice = start("notice_interval=2"), phone("alice")
    assert write(alice, silo) == 202
    told = time.time()
    assert proxy.take().text == "bob is away"
    assert write(alice, silo) == 202
    until(lambda: time.time() > told + 3.1, 5, "the interval is over")
    assert proxy.glance() is None
    assert write(alice, silo) == 202
    assert proxy.take().text == "bob is away"


def test_a_repeated_message_is_told_of_once(start: StartNotifying, proxy: Phone, phone: PickUp) -> None:
    silo, alice = start("notice_interval=0"), phone("alice")
    same = alice.request("MESSAGE", BOB, "Content-Type: text/plain", body=b"Hello")
    assert [alice.ask(same, silo.address).code for _ in range(3)] == [202] * 3
    assert proxy.take().text == "bob is away"
    assert proxy.glance(QUIET) is None


def test_a_message_and_its_repeat_that_wait_together(silo: Silo, proxy: Phone, phone: PickUp) -> None:
    """The daemon is held up, by its disk say, so that the sender repeats the message before it is read."""
    alice = phone("alice")
    same = alice.request("MESSAGE", BOB, "Content-Type: text/plain", body=b"Hello")
    os.kill(silo.process.pid, signal.SIGSTOP)
    for _ in range(2):
        alice.send(same, silo.address)
    os.kill(silo.process.pid, signal.SIGCONT)
    assert [alice.receive().code, alice.receive().code] == [202, 202]
    assert proxy.take().text == "bob is away"
    assert proxy.glance(QUIET) is None
    assert len(silo.list_json()) == 1


# ---- about nothing else ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "Auto-Submitted: auto-replied",
        "Auto-Submitted: auto-generated; x=y",
        "X-MSilo-ID: 7-0123456789abcdef",
        "From",
    ],
)
def test_what_no_person_wrote_is_stored_and_not_told_of(silo: Silo, proxy: Phone, phone: PickUp, line: str) -> None:
    alice = phone("silo" if line == "From" else "alice")
    assert write(alice, silo, "Hello", *([] if line == "From" else [line])) == 202
    assert proxy.glance(QUIET) is None
    assert len(silo.list_json()) == 1
    # and the next one that a person wrote is told of
    assert write(phone("zoe"), silo) == 202
    assert proxy.take().uri == "sip:zoe@home.lan"


def test_a_reminder_is_not_told_of(start: StartNotifying, proxy: Phone, phone: PickUp) -> None:
    silo = start("send_time=1", "snd_time_avp=$hdr(X-Send-At)")
    assert write(phone("alice"), silo, "Dentist", "X-Send-At: +2s") == 202
    seen = proxy.take(480)  # bob is away
    assert seen.text == "Dentist"
    assert proxy.glance(QUIET) is None


def test_a_replay_and_one_that_comes_back_are_not_told_of(silo: Silo, proxy: Phone, phone: PickUp) -> None:
    alice, bob = phone("alice"), phone("bob")
    assert write(alice, silo) == 202
    assert proxy.take().text == "bob is away"
    bob.register(silo.address)
    replay = proxy.receive()
    assert replay.text == "Hello"
    returned = alice.request("MESSAGE", BOB, f"X-MSilo-ID: {replay['X-MSilo-ID']}", "Content-Type: text/plain")
    assert alice.ask(returned, silo.address).code == 480
    proxy.answer(replay, 480)
    assert proxy.glance(QUIET) is None
    assert len(silo.list_json("--all")) == 1


def test_what_was_not_stored_is_not_told_of(start: StartNotifying, proxy: Phone, phone: PickUp) -> None:
    silo, alice = start("max_messages=1"), phone("alice")
    assert write(alice, silo, "Hello", "Expires: 0") == 480
    assert alice.message(silo.address, BOB, b"<x/>", "application/im-iscomposing+xml").code == 200
    assert write(phone("zoe"), silo) == 202
    assert proxy.take().uri == "sip:zoe@home.lan"
    assert write(alice, silo) == 480
    assert proxy.glance(QUIET) is None


def test_the_flag_of_a_peer_with_control_skips_it(silo: Silo, proxy: Phone, phone: PickUp) -> None:
    alice, pbx = phone("alice"), phone("alice", "127.0.0.2")
    assert write(pbx, silo, "Hello", "X-MSilo-Flags: 1, 5") == 202
    assert proxy.glance(QUIET) is None
    assert write(alice, silo, "Hello", "X-MSilo-Flags: 5") == 202
    assert proxy.take().text == "bob is away"
    assert len(silo.list_json()) == 2


# ---- no loop (W6: the original makes 837 rows of one message) -------------------------------------------------------


def test_a_notice_that_the_proxy_brings_back_is_refused(silo: Silo, proxy: Phone, phone: PickUp) -> None:
    assert write(phone("alice"), silo) == 202
    notice = proxy.receive()
    for _ in range(2):
        assert proxy.ask(back(proxy, notice, f"X-MSilo-ID: {notice['X-MSilo-ID']}"), silo.address).code == 480
    proxy.answer(notice, 480)
    assert proxy.glance(QUIET) is None
    assert [row["to"] for row in silo.list_json("--all")] == [BOB]
    counts(silo, "failed_notices", 1)


@pytest.mark.parametrize("lines", [("Auto-Submitted: auto-replied",), ()])
def test_a_notice_that_comes_back_without_its_mark_starts_nothing(
    silo: Silo, proxy: Phone, phone: PickUp, lines: tuple[str, ...]
) -> None:
    """A proxy that takes X-MSilo-* away, or every header it does not know."""
    assert write(phone("alice"), silo) == 202
    notice = proxy.take()
    assert proxy.ask(back(proxy, notice, *lines), silo.address).code == 202
    assert proxy.glance(QUIET) is None
    assert len(silo.list_json("--all")) == 2


def test_two_who_are_away_and_a_proxy_that_takes_every_mark_away(
    start: StartNotifying, proxy: Phone, phone: PickUp
) -> None:
    """The worst case: each notice has the From of the reader, and comes back as if a person had written it."""
    silo = start("from_address=sip:$rU@home.lan")
    assert write(phone("alice"), silo) == 202
    rounds = 0
    while (notice := proxy.glance(QUIET)) is not None:
        assert notice.method == "MESSAGE"
        rounds += 1
        assert rounds < 4
        user = notice["From"].split(":")[1].split("@")[0]
        owner = notice["To"].split(":")[1].rstrip(">")
        returned = proxy.request("MESSAGE", owner, "Content-Type: text/plain", body=notice.body)
        returned = returned.replace(b"From: <sip:proxy@", f"From: <sip:{user}@".encode(), 1)
        proxy.answer(notice, 480)
        proxy.ask(returned, silo.address)
    assert rounds == 2
    assert len(silo.list_json("--all")) == 3


def test_the_loop_stays_at_one_row_behind_a_real_kamailio(start_behind: Callable[..., Kamailio], phone: PickUp) -> None:
    """Sender and reader are away, and every message is told of."""
    kamailio = start_behind("notice_interval=0")
    assert phone("alice").message(kamailio.address, BOB, b"Hello").code == 202
    counts(kamailio.silo, "failed_notices", 1)
    until_ = time.monotonic() + 2
    while time.monotonic() < until_:
        assert len(kamailio.silo.list_json("--all")) == 1
    assert kamailio.silo.status_json()["counters"].get("sent_notices", 0) == 0


def test_the_sender_reads_it_through_a_real_kamailio(start_behind: Callable[..., Kamailio], phone: PickUp) -> None:
    kamailio, alice, bob = start_behind(), phone("alice"), phone("bob")
    alice.register(kamailio.address)
    assert alice.message(kamailio.address, BOB, b"Hello").code == 202
    notice = alice.take()
    assert (notice.uri, notice.text) == (alice.contact, "bob is away")
    assert notice["From"].startswith("<sip:silo@home.lan>;tag=")
    counts(kamailio.silo, "sent_notices", 1)
    assert alice.glance(QUIET) is None
    bob.register(kamailio.address)
    assert bob.take().text == "Hello"
    kamailio.silo.empties()
    assert alice.glance(QUIET) is None


# ---- restarts, silence ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_while_a_notice_is_under_way(silo: Silo, proxy: Phone, phone: PickUp, number: signal.Signals) -> None:
    """It is never repeated, a stop does not wait for it, and what comes back afterwards starts nothing."""
    assert write(phone("alice"), silo) == 202
    notice = proxy.receive()
    start = time.monotonic()
    code = silo.process.stop(number)
    assert time.monotonic() - start < 5
    if number == signal.SIGTERM:
        assert code == 0
    assert "Traceback" not in silo.process.errors
    while proxy.glance():  # repeats of the same request
        pass
    silo.start()
    assert [row["to"] for row in silo.list_json("--all")] == [BOB]
    assert proxy.ask(back(proxy, notice, f"X-MSilo-ID: {notice['X-MSilo-ID']}"), silo.address).code in (202, 480)
    assert proxy.glance(QUIET) is None
    assert len(silo.list_json("--all")) <= 2


def test_a_silent_sender_keeps_nobody_waiting(silo: Silo, proxy: Phone, phone: PickUp) -> None:
    assert write(phone("alice"), silo) == 202
    assert proxy.receive().text == "bob is away"  # and no answer
    phone("bob").register(silo.address)
    for seen in proxy.during(5):
        if seen.text == "Hello":
            proxy.answer(seen, 200)
            break
    else:
        pytest.fail("the replay waits for the answer to the notice")
    silo.empties()


def test_a_notice_too_long_to_be_sent_costs_nothing_else(start: StartNotifying, proxy: Phone, phone: PickUp) -> None:
    silo = start("offline_message=You wrote: $rb, and again $rb", "notice_interval=0")
    alice = phone("alice")
    assert write(alice, silo, "x" * 2500) == 202
    counts(silo, "failed_notices", 1)
    assert write(alice, silo, "y") == 202
    assert proxy.take().text == "You wrote: y, and again y"
    assert len(silo.list_json()) == 2
    assert "Traceback" not in silo.process.errors
