"""`store` and `remind`: messages that a person or a script leaves by hand, without a daemon and beside one."""

import re
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from msilo_lite.box.delivery import State
from msilo_lite.box.policy import sip_date
from msilo_lite.cli.errands import Letter, put, when
from msilo_lite.cli.phone import Phone
from msilo_lite.errors import BadRequest, ConfigError, MsiloError, StoreError
from msilo_lite.outbound.bindings import USUAL_CONTACT
from msilo_lite.settings.config import Config
from tests.waiting import until

from . import harness
from .harness import Peer, Ran, Serve, on, query, waiting

BOB = "bob@home.lan"
STORED = f"Stored for {BOB}; `msilo-lite list {BOB}` tells when it goes.\n"
RAW = b"caf\xe9 \x00\xff\r\n.\r\n\r\n last line without an end"
OVER = 2_000_000_000
"A due time far ahead, in UTC seconds: Wednesday 18 May 2033, 03:33:20."


def piped(folder: Path, data: bytes, *words: str) -> Ran:
    """Run a command with something to read."""
    argv, env = [*harness.COMMAND, *words], harness.environment(folder)
    ended = subprocess.run(argv, cwd=folder, env=env, input=data, capture_output=True, timeout=20, check=False)
    return Ran(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def settings(file: Path, **more: object) -> Config:
    return Config.model_validate({"db_url": f"sqlite:///{file}", **more})


def letter(body: bytes = b"hello", **more: Any) -> Letter:
    """A message to bob, as `store` makes it."""
    plain: dict[str, Any] = {"owner": BOB, "src": "", "to": "", "dst": "", "ctype": "text/plain", "headers": ()}
    return Letter(body=body, **{**plain, **more})


# -- store -------------------------------------------------------------------------------------------------------------
def test_store_needs_no_file_no_daemon_and_no_configuration(tmp_path: Path) -> None:
    assert harness.run(tmp_path, "store", f"sip:{BOB}", "Dinner is ready") == Ran(0, STORED, "")
    file = tmp_path / ".local" / "share" / "msilo-lite" / "silo.sqlite"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [one.name for one in file.parent.iterdir()] == [file.name]
    (found,) = harness.run(tmp_path, "list", BOB, "--json").json()
    assert (found["from"], found["state"], found["ctype"]) == (f"<sip:{BOB}>", "pending", "text/plain;charset=utf-8")
    assert found["why"] == "no daemon is running; start `msilo-lite serve`"
    shown = harness.run(tmp_path, "show", "1", "--json").json()
    assert (shown["body"], shown["headers"], shown["to_header"]) == ("Dinner is ready", [], f"<sip:{BOB}>")


def test_store_keeps_what_it_is_given(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    words = ["--from", '"Alice, at home" <sip:alice@home.lan>', "--to", "Robert <sip:bob@work.lan>"]
    words += ["--type", "text/html; charset=iso-8859-1", "--header", "Subject: Essen: grüße", "--header", "X-Empty:"]
    assert harness.run(tmp_path, "store", BOB, "<b>hi</b>", *words, *on(file)) == Ran(0, STORED, "")
    found = harness.run(tmp_path, "show", "1", "--json", *on(file)).json()
    assert {key: found[key] for key in ("from", "to", "to_header", "ctype", "headers", "body")} == {
        "from": '"Alice, at home" <sip:alice@home.lan>',
        "to": BOB,
        "to_header": "Robert <sip:bob@work.lan>",
        "ctype": "text/html; charset=iso-8859-1",
        "headers": ["Subject: Essen: grüße", "X-Empty: "],
        "body": "<b>hi</b>",
    }


def test_a_user_without_a_host_is_one_of_the_first_domain(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    ran = harness.run(tmp_path, "store", "bob", "hello", *on(file), "--set", "domain=home.lan,other.lan")
    assert ran == Ran(0, STORED, "")
    refused = harness.run(tmp_path, "store", "bob", "hello", *on(file))
    assert (refused.code, refused.out) == (2, "")
    assert refused.sentence == "msilo-lite: 'bob' names no user; write USER@HOST, such as bob@home.lan"
    assert waiting(file) == [1]


NO_HEADER = r"is not a (header that can be \w+|Content-Type)"
WRONG = [
    ({"headers": ("Subject",)}, r"'Subject' is not of the form 'Name: value'"),
    ({"headers": (": nameless",)}, f".*nameless.* {NO_HEADER}"),
    ({"headers": ("two words: a",)}, f".*two words.* {NO_HEADER}"),
    ({"headers": ("Sub\r\nject: a",)}, f".*ject.* {NO_HEADER}"),
    ({"headers": ("Subject: a\r\nX-Evil: b",)}, f".*Subject.* {NO_HEADER}"),
    ({"headers": ("Subject: a\nb",)}, f".*Subject.* {NO_HEADER}"),
    ({"headers": ("X-MSilo-Owner: sip:eve@home.lan",)}, f".*X-MSilo-Owner.* {NO_HEADER}"),
    ({"headers": ("x-msilo-id: 1-0",)}, f".*x-msilo-id.* {NO_HEADER}"),
    ({"headers": ("Date: now",)}, f".*Date.* {NO_HEADER}"),
    ({"headers": ("CONTENT-LENGTH: 1",)}, f".*CONTENT-LENGTH.* {NO_HEADER}"),
    ({"headers": ("Content-Type: text/html",)}, f".*Content-Type.* {NO_HEADER}"),
    ({"headers": ("v: SIP/2.0/UDP 192.0.2.1",)}, f".*192.0.2.1.* {NO_HEADER}"),
    ({"headers": ("l: 1",)}, f".*l.* {NO_HEADER}"),
    ({"headers": ("f: <sip:eve@home.lan>",)}, f".*eve.* {NO_HEADER}"),
    ({"headers": ("c: text/html",)}, f".*text/html.* {NO_HEADER}"),
    ({"ctype": "text/plain\r\nX-Evil: b"}, rf".*'text/plain\\r\\nX-Evil: b' {NO_HEADER}"),
    ({"ctype": "text"}, f".*'text' {NO_HEADER}"),
    ({"ctype": ""}, f".*'' {NO_HEADER}"),
    ({"src": '"a\r\nX-Evil: b" <sip:alice@home.lan>'}, ".* is not an address"),
    ({"to": '"a\nX-Evil: b" <sip:bob@home.lan>'}, ".* is not an address"),
    ({"src": "alice"}, "'alice' is not an address"),
    ({"src": "sip:alice@home.lan>\r\nX-Evil: b"}, ".* is not an address"),
    ({"dst": "tel:+3912"}, "the URI scheme tel is not served"),
    ({"owner": "sip:home.lan"}, "'sip:home.lan' names no user; write USER@HOST, such as bob@home.lan"),
    ({"owner": "bob @home.lan"}, "'sip:bob @home.lan' is not a SIP URI"),
]


@pytest.mark.parametrize(("given", "words"), WRONG)
def test_what_no_request_could_carry_is_refused_in_one_sentence(
    tmp_path: Path, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        put(settings(tmp_path / "silo.sqlite"), letter(**given))
    assert re.fullmatch(words, str(caught.value)), str(caught.value)  # the dot takes no line end: one sentence


def test_what_is_refused_is_exit_2_and_makes_no_message(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    ran = harness.run(tmp_path, "store", BOB, "hello", "--header", "X-MSilo-Flags: 1", *on(file))
    assert (ran.code, ran.out) == (2, "")
    assert re.fullmatch(f"msilo-lite: .*X-MSilo-Flags.* {NO_HEADER}", ran.sentence)
    ran = piped(tmp_path, b"x" * 5000, "store", BOB, "-", *on(file))
    assert (ran.code, ran.out) == (2, "")
    assert re.fullmatch(r"msilo-lite: its replay could have 5\d\d\d bytes, more than fit", ran.sentence)
    assert waiting(file) == []


def longest(config: Config) -> int:
    """Bytes of the longest body that is taken."""
    low, high = 0, 4000
    while high - low > 1:
        middle = (low + high) // 2
        try:
            put(config, letter(b"x" * middle))
        except BadRequest:
            high = middle
        else:
            low = middle
    return low


def test_accepted_means_that_it_can_be_sent(tmp_path: Path) -> None:
    most = longest(settings(tmp_path / "scratch.sqlite", add_date=0))
    put(settings(tmp_path / "silo.sqlite", add_date=0), letter(b"x" * most))
    with Serve(tmp_path, "--settle", "0") as silo, Peer("bob", silo.address) as bob:
        token = "t" * (USUAL_CONTACT - 100)  # as phones with push have it (RFC 8599)
        contact = f"Contact: <sip:bob@{bob.host}:{bob.port};pn-prid={token}>"
        assert bob.ask(bob.request("REGISTER", "bob", contact, "Expires: 600")).code == 200
        assert len(bob.take(1)[0].body) == most


def test_a_file_that_is_locked_or_somebody_elses_is_a_sentence(tmp_path: Path) -> None:
    file, other = tmp_path / "silo.sqlite", tmp_path / "passwd"
    put(settings(file), letter())
    with harness.locked(file):
        ran = harness.run(tmp_path, "store", BOB, "later", *on(file))
    assert (ran.code, ran.out) == (1, "")
    assert ran.sentence == "msilo-lite: cannot write: database is locked"
    assert waiting(file) == [1]
    other.write_text("root:x:0:0:root:/root:/bin/bash\n" * 40)
    with pytest.raises(StoreError, match=f"^cannot open {other}: file is not a database$"):
        put(settings(other), letter())
    assert other.read_text() == "root:x:0:0:root:/root:/bin/bash\n" * 40


# -- store, and a daemon -----------------------------------------------------------------------------------------------
def test_what_was_stored_by_hand_arrives_byte_for_byte_and_in_order(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    before = int(time.time())
    assert harness.run(tmp_path, "store", BOB, "before the daemon", *on(file)).code == 0  # and before the file
    with Serve(tmp_path, "--settle", "0") as silo, Peer("bob", silo.address) as bob:
        words = [
            "--from",
            '"Alice" <sip:alice@home.lan>',
            "--type",
            "application/x-raw; a=b",
            "--header",
            "Subject: raw",
        ]
        assert piped(tmp_path, RAW, "store", BOB, "-", *words, *on(file)) == Ran(0, STORED, "")
        (_, second) = harness.run(tmp_path, "list", "--json", *on(file)).json()
        assert (second["size"], second["why"]) == (len(RAW), f"waits until {BOB} registers")
        bob.register()
        first, second = bob.take(2)
        until(lambda: not waiting(file), 5, "the box is empty")
        counters = harness.run(tmp_path, "stats", "--json", *on(file)).json()
    assert (first.body, first.headers["from"].partition(";")[0]) == (b"before the daemon", f"<sip:{BOB}>")
    assert second.body == RAW
    assert (second.headers["content-type"], second.headers["subject"]) == ("application/x-raw; a=b", "raw")
    assert second.headers["from"].partition(";")[0] == '"Alice" <sip:alice@home.lan>'
    assert second.headers["to"].partition(";")[0] == f"<sip:{BOB}>"
    assert second.headers["date"] in [sip_date(at) for at in range(before, before + 30)]
    assert re.fullmatch(r"2-[0-9a-f]{16}", second.headers["x-msilo-id"])
    assert (counters["stored_messages"], counters["dumped_messages"]) == (2, 2)


def test_a_phone_takes_what_was_stored_by_hand(tmp_path: Path) -> None:
    with Serve(tmp_path, "--settle", "0") as silo, closing(Phone("bob", silo.address)) as bob:
        assert harness.run(tmp_path, "store", BOB, "grüße", *on(silo.file)).code == 0
        assert bob.register() == 200
        bob.take(1)
        assert [one.body.decode() for one in bob.received] == ["grüße"]


def test_m_store_addrs_goes_to_its_own_address_by_way_of_the_proxy(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    addresses = ["--src", "sip:door@gate.lan", "--dst", "<sip:desk@office.lan;x=1>"]
    assert harness.run(tmp_path, "store", BOB, "ring", *addresses, *on(file)) == Ran(0, STORED, "")
    ((src, dst),) = query(file, "SELECT src_addr, dst_addr FROM silo")
    assert (src, dst) == ("sip:door@gate.lan", "sip:desk@office.lan;x=1")
    with (
        Peer("proxy", ("127.0.0.1", 9)) as proxy,
        Serve(tmp_path, "--outbound-proxy", f"sip:127.0.0.1:{proxy.port}", "--settle", "0") as silo,
        Peer("bob", silo.address) as bob,
    ):
        bob.register()
        (request,) = proxy.take(1)
    assert request.first == "MESSAGE sip:desk@office.lan;x=1 SIP/2.0"
    assert request.headers["from"].startswith("<sip:door@gate.lan>;tag=")
    assert request.headers["to"] == "<sip:desk@office.lan;x=1>"


def test_a_message_for_a_registered_user_is_tried_within_a_minute(tmp_path: Path) -> None:
    with Serve(tmp_path, "--settle", "0") as silo, Peer("bob", silo.address) as bob:
        bob.register()
        assert harness.run(tmp_path, "store", BOB, "are you there?", *on(silo.file)).code == 0
        until(lambda: query(silo.file, "SELECT 1 FROM msilo_recipient"), 5, "the daemon has seen it")
        (found,) = harness.run(tmp_path, "list", "--json", *on(silo.file)).json()
        told = re.fullmatch(
            rf"it came while its owner was registered; next attempt in (\d+) s, or when {BOB} registers", found["why"]
        )
        assert told is not None
        assert 50 <= int(told[1]) <= 60
        assert harness.query(silo.file, "SELECT count(*) FROM msilo_wish WHERE done = 0") == [(0,)]


# -- remind ------------------------------------------------------------------------------------------------------------
def test_remind_needs_no_configuration_and_not_the_word_add(tmp_path: Path) -> None:
    words = ["sip:bob@home", "Take the pizza out", "--at", "2033-05-18 05:33:20", "--tz", "Europe/Rome"]
    said = "bob@home will be reminded at Wednesday 2033-05-18 05:33:20 CEST.\n"
    assert harness.run(tmp_path, "remind", *words) == Ran(0, said, "")
    assert harness.run(tmp_path, "remind", "add", *words[:-2], "--set", "timezone=Europe/Rome") == Ran(0, said, "")
    file = tmp_path / ".local" / "share" / "msilo-lite" / "silo.sqlite"
    assert (
        query(file, "SELECT snd_time, exp_time, src_addr, username, domain, body FROM silo")
        == [(OVER, OVER + 259200, "sip:bob@home", "bob", "home", b"Take the pizza out")] * 2
    )  # the life of a reminder begins when it is due


def test_remind_tomorrow_at_nine_in_rome(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    ran = harness.run(tmp_path, "remind", BOB, "call back", "--at", "tomorrow 9:00", "--tz", "Europe/Rome", *on(file))
    assert ran.code == 0
    told = re.fullmatch(rf"{BOB} will be reminded at \w+day (\d{{4}}-\d\d-\d\d) 09:00:00 CES?T\.\n", ran.out)
    assert told is not None
    ((due,),) = query(file, "SELECT snd_time FROM silo")
    assert time.time() < due < time.time() + 48 * 3600
    (found,) = harness.run(tmp_path, "remind", "list", "--json", *on(file)).json()
    assert found["due"].startswith(told[1])
    assert found["due"].endswith(("T07:00:00Z", "T08:00:00Z"))


def test_the_life_of_a_reminder_counts_from_its_time(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    put(settings(file, expire_time=60), letter(due=OVER))
    assert query(file, "SELECT snd_time, exp_time FROM silo") == [(OVER, OVER + 60)]


SENSELESS = [
    ("yesterday", r"--at: 'yesterday' is already over, it was 86400 seconds ago; name a time to come"),
    ("2020-01-01 12:00", r"--at: '2020-01-01 12:00' is already over, it was \d+ seconds ago; name a time to come"),
    ("an hour ago", r"--at: 'an hour ago' is already over, it was 3600 seconds ago; name a time to come"),
    ("may", r"--at: 'may' is not plainly a time; write for example: tomorrow 9:00, .*, or \+90m"),
    ("tomorow 9", r"--at: 'tomorow 9' is not plainly a time; write for example: .*"),
    ("", r"--at: '' is not plainly a time; write for example: .*"),
    ("tomorrow 25:00", r"--at: 'tomorrow 25:00' is not plainly a time; write for example: .*"),
    ("2027-02-30 12:00", r"--at: '2027-02-30 12:00' does not exist \(day is out of range for month\); write .*"),
    ("202705181200", r"--at: '202705181200' is not the 14 digits of a date and time .*"),
    ("in 100 years", r"--at: 'in 100 years' is too late, a reminder can be due until 2038-01-19 03:14:07 UTC"),
]


@pytest.mark.parametrize(("text", "words"), SENSELESS)
def test_a_time_that_makes_no_sense_is_refused_in_one_sentence(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        when(text, "UTC")
    assert re.fullmatch(words, str(caught.value)), str(caught.value)


def test_a_refused_reminder_is_exit_2_and_makes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    ran = harness.run(tmp_path, "remind", BOB, "hello", "--at", "yesterday", *on(file))
    assert (ran.code, ran.out) == (2, "")
    assert (
        ran.sentence == "msilo-lite: --at: 'yesterday' is already over, it was 86400 seconds ago; name a time to come"
    )
    ran = harness.run(tmp_path, "remind", BOB, "hello", "--at", "tomorrow 9:00", "--tz", "Europe/Rom", *on(file))
    assert (ran.code, ran.out) == (2, "")
    assert ran.sentence == (
        "msilo-lite: --at: 'Europe/Rom' is not a known time zone; the nearest: Europe/Rome, Europe/Kirov, Europe/Riga"
    )
    assert not file.exists()


def test_a_minute_ago_is_over_as_well(tmp_path: Path) -> None:
    with pytest.raises(MsiloError, match=r"^--at: '30 seconds ago' is already over"):
        put(settings(tmp_path / "silo.sqlite"), letter(due=when("30 seconds ago", "UTC")))


def test_a_reminder_that_is_taken_lives_longer_than_its_time(tmp_path: Path) -> None:
    config = settings(tmp_path / "silo.sqlite")
    try:
        put(config, letter(due=when("2038-01-19T03:14:07Z", "UTC")))
    except MsiloError:
        return
    ((due, end),) = query(config.db_file, "SELECT snd_time, exp_time FROM silo")
    assert due < end


def test_a_reminder_is_scheduled_listed_and_cancelled(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    config = settings(file)
    for due in (OVER, 0, OVER + 60):
        put(config, letter(due=due))
    reminders = harness.run(tmp_path, "remind", "list", "--json", *on(file)).json()
    assert [(one["id"], one["state"], one["due"]) for one in reminders] == [
        (1, "scheduled", "2033-05-18T03:33:20Z"), (3, "scheduled", "2033-05-18T03:34:20Z"),
    ]  # fmt: skip
    rows = [line.split("\t") for line in harness.run(tmp_path, "list", *on(file)).out.splitlines()]
    assert [row[3] for row in rows] == ["scheduled", "pending", "scheduled"]
    assert re.fullmatch(r"a reminder, due in \d{3,4} d", rows[0][5])
    assert "due: 2033-05-18T03:33:20Z\n" in harness.run(tmp_path, "show", "1", *on(file)).out

    no = harness.run(tmp_path, "remind", "cancel", "1", "2", *on(file))
    assert (no.code, no.out) == (3, "")
    assert no.sentence == "msilo-lite: 2 is no reminder; `msilo-lite purge 2` takes any message away"
    unknown = harness.run(tmp_path, "remind", "cancel", "1", "99", *on(file))
    assert (unknown.code, unknown.out) == (3, "")
    assert unknown.sentence == "msilo-lite: no message 99 is waiting; `msilo-lite list` shows those that are"
    assert waiting(file) == [1, 2, 3]  # all or nothing

    assert harness.run(tmp_path, "remind", "cancel", "3", *on(file)) == Ran(0, "Cancelled 1 reminder.\n", "")
    assert harness.run(tmp_path, "remind", "cancel", "1", *on(file)) == Ran(0, "Cancelled 1 reminder.\n", "")
    assert harness.run(tmp_path, "remind", "list", *on(file)) == Ran(0, "", "")
    assert waiting(file) == [2]
    past = harness.run(tmp_path, "list", "--all", "--json", *on(file)).json()
    assert [one["state"] for one in past] == ["purged", "purged", "pending"]


def test_a_person_sees_when_a_reminder_is_due(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    assert harness.run(tmp_path, "store", BOB, "no reminder", *on(file)).code == 0
    assert harness.run_on_terminal(tmp_path, "remind", "list", *on(file)).out.strip() == "No reminders wait."
    put(settings(file), letter(due=int(time.time()) + 90 * 60))
    ran = harness.run_on_terminal(tmp_path, "remind", "list", *on(file), columns=60)
    plain = re.sub(r"\x1b\[[\d;]*m", "", ran.out)
    assert re.search(rf"^ *2 +{BOB} +a reminder, due in (90|89) min", plain, re.MULTILINE)


def test_cancel_wants_an_id(tmp_path: Path) -> None:
    for words in (["cancel"], ["cancel", "two"], [BOB, "text"]):
        ran = harness.run(tmp_path, "remind", *words)
        assert (ran.code, ran.out) == (2, ""), words
        assert "Traceback" not in ran.err


# -- remind, and a daemon ----------------------------------------------------------------------------------------------
def arrival(phone: Peer, seconds: float = 6) -> tuple[float, harness.Sip]:
    """When a MESSAGE came, and which."""
    (seen,) = phone.take(1, seconds)
    return time.time(), seen


def nothing_new(phone: Peer, *known: harness.Sip, seconds: float = 0.3) -> None:
    """Nothing comes but what is known and repeated, because its answer was slow."""
    while (seen := phone.glance(seconds)) is not None:
        assert seen.call_id in {one.call_id for one in known}


def test_a_reminder_arrives_when_it_is_due(tmp_path: Path) -> None:
    """With send_time = 0, which only forbids the reminders of requests."""
    with Serve(tmp_path, "--settle", "0") as silo, Peer("bob", silo.address) as bob:
        bob.register()
        words = [BOB, "pizza!", "--from", '"Alice" <sip:alice@home.lan>', "--header", "Priority: urgent"]
        assert harness.run(tmp_path, "remind", *words, "--at", "+6s", *on(silo.file)).code == 0
        ((due,),) = query(silo.file, "SELECT snd_time FROM silo")
        put(settings(silo.file), letter(b"no, not that one", due=due))
        assert harness.run(tmp_path, "remind", "cancel", "2", *on(silo.file)).code == 0
        assert harness.run(tmp_path, "dump", BOB, *on(silo.file)).out == f"Nothing waits for {BOB}.\n"
        at, seen = arrival(bob)
        until(lambda: not waiting(silo.file), 5, "the box is empty")
        nothing_new(bob, seen)
        counters = harness.run(tmp_path, "stats", "--json", *on(silo.file)).json()
    assert due <= at < due + 2.5
    assert (seen.body, seen.headers["priority"]) == (b"pizza!", "urgent")
    assert seen.headers["from"].partition(";")[0] == '"Alice" <sip:alice@home.lan>'
    assert seen.headers["date"] == sip_date(due)
    assert "x-msilo-late" not in seen.headers
    assert {name: counters[name] for name in ("dumped_reminders", "dumped_messages", "failed_reminders")} == {
        "dumped_reminders": 1, "dumped_messages": 0, "failed_reminders": 0,
    }  # fmt: skip


def test_a_reminder_for_somebody_away_waits_for_the_phone(tmp_path: Path) -> None:
    with Serve(tmp_path, "--settle", "0") as silo, Peer("bob", silo.address) as bob:
        assert harness.run(tmp_path, "remind", BOB, "early", "--at", "+1s", *on(silo.file)).code == 0
        put(settings(silo.file), letter(b"far ahead", due=OVER))
        tried = "SELECT 1 FROM msilo_recipient WHERE reason LIKE 'not registered%'"
        until(lambda: query(silo.file, tried), 6, "the daemon has tried")
        first, _ = harness.run(tmp_path, "remind", "list", "--json", *on(silo.file)).json()
        assert (first["state"], first["why"]) == (
            "pending", f"not registered, and no outbound_proxy is set; waits until {BOB} registers",
        )  # fmt: skip
        bob.register()
        early = bob.take(1)
        assert [one.body for one in early] == [b"early"]
        nothing_new(bob, *early)  # what is not due yet stays
        assert waiting(silo.file) == [2]


def test_a_reminder_that_fell_due_without_a_daemon_arrives_late_and_says_so(tmp_path: Path) -> None:
    with Serve(tmp_path, "--settle", "0") as silo, Peer("bob", silo.address) as bob:
        bob.register()
        until(lambda: query(silo.file, "SELECT 1 FROM msilo_contact"), 5, "the binding on disk")
        silo.stop()
        put(settings(silo.file), letter(b"in the night", due=OVER))
        put(settings(silo.file), letter(b"a moment ago", due=int(time.time()) + 1))
        over = int(time.time()) - 3600
        harness.change(silo.file, f"UPDATE silo SET snd_time = {over} WHERE id = 1")  # while the machine was off
        until(lambda: time.time() > query(silo.file, "SELECT max(snd_time) FROM silo")[0][0], 5, "both are over")
        with Serve(tmp_path, "--settle", "0"):
            late, now = bob.take(2)
    assert (late.body, late.headers["date"]) == (b"in the night", sip_date(over))
    assert 3600 <= int(late.headers["x-msilo-late"]) < 3620
    assert now.body == b"a moment ago"
    assert "x-msilo-late" not in now.headers


def test_a_reminder_survives_a_power_cut_between_its_time_and_the_answer(tmp_path: Path) -> None:
    with Serve(tmp_path, "--settle", "0") as silo, Peer("bob", silo.address) as bob:
        bob.register()
        assert harness.run(tmp_path, "remind", BOB, "once more", "--at", "+1s", *on(silo.file)).code == 0
        first = bob.receive(6)  # it left, and its answer never comes
        silo.kill()
        assert query(silo.file, "SELECT state FROM msilo_ledger") == [(State.SENDING,)]
        with Serve(tmp_path, "--settle", "0") as again:
            until(lambda: again.ready_line, 5, "ready")
            (second,) = bob.take(1)
            until(lambda: not waiting(silo.file), 5, "the box is empty")
    assert second.body == b"once more"
    assert [one.headers["x-msilo-id"] for one in (first, second)] == [first.headers["x-msilo-id"]] * 2
    assert first.headers["date"] == second.headers["date"]


def test_a_reminder_survives_a_power_cut_before_it_left(tmp_path: Path) -> None:
    with Serve(tmp_path, "--settle", "0") as silo, Peer("bob", silo.address) as bob:
        bob.register()
        until(lambda: query(silo.file, "SELECT 1 FROM msilo_contact"), 5, "the binding on disk")
        put(settings(silo.file), letter(b"still here", due=int(time.time()) + 2))
        silo.kill()
        until(lambda: time.time() > query(silo.file, "SELECT snd_time FROM silo")[0][0] + 1, 5, "its time is over")
        assert bob.glance(0.1) is None
        with Serve(tmp_path, "--settle", "0"):
            assert [one.body for one in bob.take(1)] == [b"still here"]


def test_reminders_of_many_users_are_due_in_one_second(tmp_path: Path) -> None:
    with (
        Serve(tmp_path, "--settle", "0") as silo,
        Peer("bob", silo.address) as bob,
        Peer("carol", silo.address) as carol,
    ):
        bob.register()
        carol.register()
        due, config = int(time.time()) + 2, settings(silo.file)
        for n in range(3):
            for owner in (BOB, "carol@home.lan"):
                put(config, letter(f"{n}".encode(), owner=owner, due=due))
        for phone in (bob, carol):
            assert [one.body for one in phone.take(3)] == [b"0", b"1", b"2"]
        until(lambda: not waiting(silo.file), 5, "the box is empty")


def test_a_full_box_and_a_foreign_domain_are_refused_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    limit = (*on(file), "--set", "max_messages=1", "--set", "domain=home.lan")
    assert harness.run(tmp_path, "store", "bob", "one", *limit).code == 0
    full = harness.run(tmp_path, "store", "bob", "two", *limit)
    assert (full.code, full.sentence) == (
        1, "msilo-lite: the box of bob@home.lan is full (max_messages = 1)"
    )  # fmt: skip
    foreign = harness.run(tmp_path, "store", "bob@elsewhere.lan", "three", *limit)
    assert foreign.code == 2
    assert foreign.sentence.startswith("msilo-lite: elsewhere.lan is not a domain of ours (home.lan)")
    assert len(waiting(file)) == 1


def test_a_sender_may_be_written_like_a_user(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    assert harness.run(tmp_path, "store", BOB, "one", "--from", "alice@home.lan", *on(file)).code == 0
    assert query(file, "SELECT src_addr FROM silo") == [("sip:alice@home.lan",)]
