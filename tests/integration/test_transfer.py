"""`export` and `import`: a whole box from one file to another, also from a Kamailio's, and nothing lost on the way."""

import base64
import hashlib
import json
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from msilo_lite.box.inbox import Inbox
from msilo_lite.box.message import Message, Turn
from msilo_lite.box.store import Store
from msilo_lite.cli.errands import import_from
from msilo_lite.cli.transfer import BadLine, Moved
from msilo_lite.cli.views import progress
from msilo_lite.settings.config import Config
from msilo_lite.sip.address import Aor
from tests.waiting import until

from . import harness
from .harness import Peer, Ran, Serve, on, query, waiting
from .samples import BOB, NOW, message
from .test_kamailio_file import KAMAILIO, KAMAILIO_VERSION

CAROL = Aor("carol", "home.lan")
LATER = 2_000_000_000
"A time far ahead, in UTC seconds."


def sample(body: str | bytes, owner: Aor = BOB, **more: Any) -> Message:
    """A message that msilo's table can hold, in time."""
    return message(body, owner, **{"arrived": LATER, "expires": LATER + 3600, **more})


EVERYTHING = [
    sample("a\r\ntext\r\n", kept="Subject: grüße\r\nX-Two: a: b\r\n", from_='"Alice, B." <sip:alice@home.lan>'),
    sample(b"\x00\xff\xfe no text", ctype="application/octet-stream; a=b"),
    sample("", ctype="", call_id=""),
    sample("odd", kept="Subject: caf\udce9 \udcff\r\n", from_='"Ren\udce9" <sip:rene@x>', src="sip:rene@x"),
    sample("wake up", due=LATER + 300, expires=LATER + 600),
    sample(
        "ring", CAROL, target="sip:desk@office.lan;x=1", dst="sip:desk@office.lan;x=1", to="<sip:desk@office.lan;x=1>"
    ),
    sample("😀 \u2028 \x07", CAROL, ctype="text/plain;charset=utf-8"),
    sample("spaced", Aor("anna maria", "[2001:db8::1]")),
]
"One message of every kind."


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A box with everything in it."""
    file = tmp_path / "old.sqlite"
    with closing(Store(file)) as store:
        store.write(Turn(new=list(EVERYTHING)), NOW)
    return file


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """Where a box is moved to; not there yet."""
    return tmp_path / "silo.sqlite"


def messages(file: Path) -> list[Message]:
    with closing(Inbox(file)) as inbox:
        return [item.message for item in inbox.waiting()]


def bodies(file: Path) -> list[bytes]:
    return [one.body for one in messages(file)]


def line(body: str = "hello", **more: object) -> dict[str, Any]:
    """A line as `export` writes it."""
    return {
        "format": 1, "id": 1, "owner": str(BOB), "from": "<sip:alice@home.lan>", "to": "<sip:bob@home.lan>",
        "src_addr": "sip:alice@home.lan", "dst_addr": "sip:bob@home.lan", "target": None, "ctype": "text/plain",
        "headers": [], "body": body, "arrived": "2026-01-01T00:00:00Z", "expires": "2037-01-01T00:00:00Z", "due": None,
        "call_id": "call-1", "key": hashlib.sha256(body.encode()).hexdigest()[:32], **more,
    }  # fmt: skip


def written(file: Path, *lines: object) -> Path:
    """A file of lines; those that are text stand there as they are."""
    file.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines))
    return file


def took(source: Path, file: Path) -> Moved:
    """An import without the command around it."""
    return import_from(Config.model_validate({"db_url": f"sqlite:///{file}"}), source, [], progress)


# -- there and back ----------------------------------------------------------------------------------------------------
def test_everything_comes_back_the_same(old: Path, new: Path, tmp_path: Path) -> None:
    moved = tmp_path / "box.jsonl"
    assert harness.run(tmp_path, "export", "--output", str(moved), *on(old)) == Ran(
        0, f"Exported 8 messages to {moved}.\n", ""
    )
    assert moved.stat().st_mode & 0o777 == 0o600
    assert harness.run(tmp_path, "import", str(moved), *on(new)) == Ran(0, "Imported 8 messages.\n", "")
    assert messages(new) == messages(old) == EVERYTHING
    assert new.stat().st_mode & 0o777 == 0o600
    known = "Imported 0 messages.\n8 messages known already.\n"
    assert harness.run(tmp_path, "import", str(moved), *on(new)) == Ran(0, known, "")
    assert harness.run(tmp_path, "import", str(moved), *on(old)) == Ran(0, known, "")  # home again
    assert messages(new) == EVERYTHING
    (counted,) = query(new, "SELECT value FROM msilo_counter WHERE name = 'stored_messages'")
    assert counted == (8,)


def test_an_export_in_a_pipe_is_json_lines_and_nothing_else(old: Path, tmp_path: Path) -> None:
    ran = harness.run(tmp_path, "export", *on(old), env={"LC_ALL": "C", "PYTHONIOENCODING": "latin-1"})
    assert (ran.code, ran.err) == (0, "")
    found = [json.loads(one) for one in ran.out.splitlines()]
    assert [one["id"] for one in found] == list(range(1, 9))
    assert ran.out.isascii()  # whatever reads it
    first, second, third, *_ = found
    assert (first["body"], first["headers"]) == ("a\r\ntext\r\n", ["Subject: grüße", "X-Two: a: b"])
    assert (base64.b64decode(second["body_base64"]), "body" in second) == (b"\x00\xff\xfe no text", False)
    assert (third["body"], third["due"], third["target"]) == ("", None, None)
    assert found[4]["due"] == "2033-05-18T03:38:20Z"
    assert found[5]["target"] == "sip:desk@office.lan;x=1"
    some = harness.run(tmp_path, "export", "--to", "carol@home.lan", *on(old))
    assert [json.loads(one)["id"] for one in some.out.splitlines()] == [6, 7]
    assert harness.run(tmp_path, "export", "--to", "nobody@home.lan", *on(old)) == Ran(0, "", "")


def test_an_export_spoils_no_file(old: Path, tmp_path: Path) -> None:
    moved = written(tmp_path / "precious.txt", "mine")
    ran = harness.run(tmp_path, "export", "-o", str(moved), *on(old))
    assert (ran.code, ran.out, moved.read_text()) == (2, "", "mine\n")
    assert ran.sentence == f"msilo-lite: {moved} exists already; name another file"
    nowhere = tmp_path / "no" / "box.jsonl"
    ran = harness.run(tmp_path, "export", "-o", str(nowhere), *on(old))
    assert (ran.code, ran.out) == (1, "")
    assert ran.sentence == f"msilo-lite: cannot write {nowhere}: No such file or directory"
    missing = tmp_path / "missing.sqlite"
    ran = harness.run(tmp_path, "export", "-o", str(tmp_path / "box.jsonl"), *on(missing))
    assert (ran.code, ran.out) == (3, "")
    assert ran.sentence.startswith(f"msilo-lite: there is no database at {missing}; ")
    assert not (tmp_path / "box.jsonl").exists()


def test_an_export_into_a_pipe_that_closes(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    with closing(Store(file)) as store:
        store.write(Turn(new=[sample(f"{n} {'x' * 200}") for n in range(2000)]), NOW)
    argv, pipe = [*harness.COMMAND, "export", *on(file)], subprocess.PIPE
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe, env=harness.environment(tmp_path)) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline().startswith(b'{"format": 1, "id": 1, ')
        child.stdout.close()
        complaint = child.stderr.read()
        assert child.wait(20) == 1
    assert complaint == b""


def test_an_export_onto_a_full_disk_is_a_sentence_and_leaves_no_half(tmp_path: Path) -> None:
    file, moved = tmp_path / "silo.sqlite", tmp_path / "box.jsonl"
    with closing(Store(file)) as store:
        store.write(Turn(new=[sample(f"{n} {'x' * 2000}") for n in range(200)]), NOW)
    with harness.largest_file(100_000):
        ran = harness.run(tmp_path, "export", "-o", str(moved), *on(file))
    assert ran.code == 1
    assert ran.sentence.startswith(f"msilo-lite: cannot write {moved}: ")
    assert not moved.exists()


def test_a_person_sees_progress_and_a_pipe_does_not(old: Path, new: Path, tmp_path: Path) -> None:
    moved = tmp_path / "box.jsonl"
    shown = harness.run_on_terminal(tmp_path, "export", "-o", str(moved), *on(old))
    assert "exporting" in shown.out
    assert shown.out.endswith(f"Exported 8 messages to {moved}.\r\n")
    shown = harness.run_on_terminal(tmp_path, "import", str(moved), *on(new))
    assert "importing" in shown.out
    assert shown.out.endswith("Imported 8 messages.\r\n")


def test_five_thousand_messages(new: Path, tmp_path: Path) -> None:
    old, moved, count = tmp_path / "old.sqlite", tmp_path / "box.jsonl", 5000
    with closing(Store(old)) as store:
        store.write(Turn(new=[sample(f"number {n}", call_id=f"call-{n}") for n in range(count)]), NOW)
    began = time.monotonic()
    assert harness.run(tmp_path, "export", "-o", str(moved), *on(old)).out == f"Exported 5000 messages to {moved}.\n"
    assert harness.run(tmp_path, "import", str(moved), *on(new)) == Ran(0, "Imported 5000 messages.\n", "")
    assert time.monotonic() - began < 20
    assert bodies(new) == [f"number {n}".encode() for n in range(count)]
    with moved.open("a") as file:
        file.write(json.dumps(line("one more")) + "\n")
    again = harness.run(tmp_path, "import", str(moved), *on(new))
    assert again == Ran(0, "Imported 1 message.\n5000 messages known already.\n", "")


# -- what an import refuses --------------------------------------------------------------------------------------------
def test_a_damaged_line_takes_nothing_before_it_along(new: Path, tmp_path: Path) -> None:
    moved = written(tmp_path / "box.jsonl", line("one"), line("two"), '{"broken', line("three"))
    ran = harness.run(tmp_path, "import", str(moved), *on(new))
    assert (ran.code, ran.out) == (1, "")
    assert ran.sentence.startswith("msilo-lite: line 3 is no message as `export` writes it: ")
    assert len(ran.sentence.splitlines()) == 1
    assert bodies(new) == [b"one", b"two"]


def test_a_damaged_line_is_named_and_what_is_mended_goes_on(new: Path, tmp_path: Path) -> None:
    lines: list[object] = [line(f"number {n}") for n in range(600)]
    moved = written(tmp_path / "box.jsonl", *lines[:550], "", "rubbish", *lines[550:])
    ran = harness.run(tmp_path, "import", str(moved), *on(new))
    assert ran.code == 1
    assert ran.sentence.startswith("msilo-lite: line 552 is no message as `export` writes it: ")
    taken = bodies(new)
    assert taken == [f"number {n}".encode() for n in range(len(taken))]
    written(moved, *lines)
    ran = harness.run(tmp_path, "import", str(moved), *on(new))
    assert ran.out == f"Imported {600 - len(taken)} messages.\n{len(taken)} messages known already.\n"
    assert bodies(new) == [f"number {n}".encode() for n in range(600)]


DAMAGED = [
    "[]", "5", "{}", '"text"', json.dumps(line(format=2)), json.dumps(line(owner=5)), json.dumps(line(owner="bob")),
    json.dumps({**line(), "body": 5}), json.dumps({**line(), "body": "\ud800"}), json.dumps({**line(), "body": None}),
    json.dumps(line(arrived="soon")), json.dumps(line(expires=5)), json.dumps(line(key="zz")),
    json.dumps(line())[:-9], json.dumps({key: value for key, value in line(body_base64="A").items() if key != "body"}),
]  # fmt: skip


@pytest.mark.parametrize("damaged", DAMAGED)
def test_a_line_that_is_no_message_is_named(new: Path, tmp_path: Path, damaged: str) -> None:
    with pytest.raises(BadLine, match=r"^line 1 is no message as `export` writes it: "):
        took(written(tmp_path / "box.jsonl", damaged), new)


UNSEEN = [
    json.dumps(line(ctype=5)), json.dumps(line(to=None)), json.dumps(line(call_id=None)), json.dumps(line(target=5)),
    json.dumps(line(call_id="\ud800")), json.dumps(line(due="0001-01-01T00:00:00Z")),
]  # fmt: skip


@pytest.mark.parametrize("damaged", UNSEEN)
def test_a_value_of_another_kind_is_named_too(new: Path, tmp_path: Path, damaged: str) -> None:
    with pytest.raises(BadLine, match=r"^line 1 is no message as `export` writes it: "):
        took(written(tmp_path / "box.jsonl", damaged), new)


SMUGGLED = [
    line(headers=["Subject: a\r\nX-Evil: b"]), line(headers=["X-MSilo-ID: 1-0"]), line(headers=["no colon"]),
    line(headers="Subject: a"), line(**{"from": '"a\r\nX-Evil: b" <sip:alice@home.lan>'}),
    line(to="<sip:bob@home.lan>\r\nX-Evil: b"), line(ctype="text/plain\r\nX-Evil: b"), line(ctype=""),
]  # fmt: skip


@pytest.mark.parametrize("smuggled", SMUGGLED)
def test_a_line_smuggles_nothing_into_a_replay(new: Path, tmp_path: Path, smuggled: dict[str, Any]) -> None:
    with pytest.raises(BadLine):
        took(written(tmp_path / "box.jsonl", smuggled), new)


def test_a_file_that_is_no_text_is_a_sentence(new: Path, tmp_path: Path) -> None:
    moved = tmp_path / "box.jsonl"
    moved.write_bytes(json.dumps(line()).encode() + b"\n\xff\xfe\n")
    ran = harness.run(tmp_path, "import", str(moved), *on(new))
    assert ran.code == 1
    assert ran.sentence.startswith("msilo-lite: line 2 is no message as `export` writes it: ")


def test_a_file_that_is_not_there(new: Path, old: Path, tmp_path: Path) -> None:
    ran = harness.run(tmp_path, "import", "nothing.jsonl", *on(new))
    assert (ran.code, ran.sentence) == (2, "msilo-lite: there is no file nothing.jsonl")
    ran = harness.run(tmp_path, "import", str(tmp_path), *on(new))
    assert (ran.code, ran.sentence) == (2, f"msilo-lite: there is no file {tmp_path}")
    ran = harness.run(tmp_path, "import", str(old), *on(old))
    assert ran.code == 2
    assert ran.sentence == (
        f"msilo-lite: {old} is the file of this silo itself; `serve` uses a Kamailio's file where it is"
    )
    assert not new.exists()


def test_what_can_no_longer_be_sent_is_counted_and_left(new: Path, tmp_path: Path) -> None:
    lines = [line("good"), line("over", expires="2026-01-02T00:00:00Z"), line("x" * 5000)]
    ran = harness.run(tmp_path, "import", str(written(tmp_path / "box.jsonl", *lines)), *on(new))
    said = "Imported 1 message.\n1 message over, not taken.\n1 message too long to be sent, not taken.\n"
    assert ran == Ran(0, said, "")
    assert bodies(new) == [b"good"]


def test_a_line_without_a_name_is_taken_once(new: Path, tmp_path: Path) -> None:
    """Lines that somebody wrote by hand."""
    moved = written(tmp_path / "box.jsonl", line("by hand", key=None), "", line("another", key=None))
    assert took(moved, new) == Moved(taken=2)
    assert took(moved, new) == Moved(known=2)


# -- from a Kamailio ---------------------------------------------------------------------------------------------------
COLUMNS = {"id": "number", "src_addr": "caller", "username": "who", "domain": "realm", "body": "words"}
"As an installation may have renamed them: `sc_mid` and so on."


def kamailio(file: Path, *, renamed: bool = False) -> Path:
    """A file as Kamailio makes and fills it: two messages, a reminder, one that is over, one that is too long."""
    made = KAMAILIO.replace("silo", "inbox", 1) if renamed else KAMAILIO
    for old_name, name in COLUMNS.items() if renamed else ():
        made = made.replace(f"    {old_name} ", f"    {name} ")
    table = "inbox" if renamed else "silo"
    now = int(time.time())
    rows = [
        ("one", now + 600, 0, "text/plain", "Subject: one\r\n"),
        ("two", now + 600, 0, "text/html", ""),
        ("wake up", now + 900, now + 300, "text/plain", ""),
        ("over", now - 1, 0, "text/plain", ""),
        ("x" * 5000, now + 600, 0, "text/plain", ""),
    ]
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(KAMAILIO_VERSION)
        connection.execute(made)
        connection.execute("INSERT INTO version (table_name, table_version) VALUES (?, 8)", (table,))
        for body, end, due, ctype, kept in rows:
            connection.execute(
                f"INSERT INTO {table} VALUES (NULL, 'sip:carol@home.lan', 'sip:bob@home.lan', 'bob', 'home.lan',"
                " ?, ?, ?, ?, CAST(? AS BLOB), ?, 'call-9', 0)",
                (now - 60, end, due, ctype, body, kept),
            )
        connection.commit()
    return file


def test_the_box_of_a_kamailio_is_taken_over_and_its_file_stays_as_it_is(new: Path, tmp_path: Path) -> None:
    source = kamailio(tmp_path / "kamailio.sqlite")
    before = source.read_bytes()
    said = "Imported 3 messages.\n1 message over, not taken.\n1 message too long to be sent, not taken.\n"
    assert harness.run(tmp_path, "import", str(source), *on(new)) == Ran(0, said, "")
    again = harness.run(tmp_path, "import", str(source), *on(new)).out
    assert again.startswith("Imported 0 messages.\n3 messages known already.\n")
    assert source.read_bytes() == before
    assert [one.name for one in sorted(tmp_path.iterdir())] == ["kamailio.sqlite", "silo.sqlite"]
    found = messages(new)
    assert [(one.body, one.ctype, one.kept) for one in found] == [
        (b"one", "text/plain", "Subject: one\r\n"), (b"two", "text/html", ""), (b"wake up", "text/plain", ""),
    ]  # fmt: skip
    assert {(one.owner, one.from_, one.to, one.src, one.call_id) for one in found} == {
        (BOB, "<sip:carol@home.lan>", "<sip:bob@home.lan>", "sip:carol@home.lan", "call-9")
    }
    assert [one.due - one.arrived for one in found if one.due] == [360]


def test_a_kamailio_that_renamed_its_table(new: Path, tmp_path: Path) -> None:
    source = kamailio(tmp_path / "kamailio.sqlite", renamed=True)
    before = source.read_bytes()
    chosen = (
        "db_table=inbox",
        "sc_mid=number",
        "sc_from=caller",
        "sc_uri_user=who",
        "sc_uri_host=realm",
        "sc_body=words",
    )
    words = [word for one in chosen for word in ("--column", one)]
    ran = harness.run(tmp_path, "import", str(source), *words, *on(new))
    assert ran.out.startswith("Imported 3 messages.\n")
    assert bodies(new) == [b"one", b"two", b"wake up"]  # under our own names
    assert source.read_bytes() == before
    ran = harness.run(tmp_path, "import", str(source), *words[:2], *on(new))
    assert ran.code == 1
    assert ran.sentence == (
        "msilo-lite: the table inbox has no column id; db_table and the sc_... settings name table and columns"
    )
    for wrong in ("id=number", "sc_mid="):
        ran = harness.run(tmp_path, "import", str(source), "--column", wrong, *on(new))
        assert ran.code == 2
        name = wrong.partition("=")[0]
        assert ran.sentence == f"msilo-lite: --column {name}: write db_table=NAME or one of the sc_... settings"


def test_a_database_of_somebody_else_is_a_sentence(new: Path, tmp_path: Path) -> None:
    source = tmp_path / "other.sqlite"
    harness.change(source, "CREATE TABLE something (a INTEGER)")
    ran = harness.run(tmp_path, "import", str(source), *on(new))
    assert ran.code == 1
    assert "has no table silo" in ran.sentence
    assert "--column db_table=" in ran.sentence
    assert not waiting(new)


def test_a_table_of_another_version_and_a_damaged_file_are_refused(new: Path, tmp_path: Path) -> None:
    source = kamailio(tmp_path / "kamailio.sqlite")
    harness.change(source, "UPDATE version SET table_version = 7")
    ran = harness.run(tmp_path, "import", str(source), *on(new))
    assert (ran.code, ran.sentence) == (1, "msilo-lite: the table silo is version 7, and msilo-lite knows version 8")
    source.write_bytes(source.read_bytes()[:6000])
    ran = harness.run(tmp_path, "import", str(source), *on(new))
    assert (ran.code, ran.sentence) == (1, f"msilo-lite: cannot read {source}: database disk image is malformed")
    assert waiting(new) == []


def test_a_file_that_kamailio_has_open_in_wal_mode(new: Path, tmp_path: Path) -> None:
    source = kamailio(tmp_path / "kamailio.sqlite")
    with closing(sqlite3.connect(source)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("UPDATE silo SET body = CAST('changed' AS BLOB) WHERE id = 1")
        other.commit()  # only in the log so far
        before = {one: one.read_bytes() for one in tmp_path.glob("kamailio.sqlite*") if not one.name.endswith("-shm")}
        assert harness.run(tmp_path, "import", str(source), *on(new)).out.startswith("Imported 3 messages.\n")
        assert {one: one.read_bytes() for one in before} == before
    assert bodies(new)[0] == b"changed"


def test_an_import_leaves_nothing_beside_its_source(new: Path, tmp_path: Path) -> None:
    source = kamailio(tmp_path / "kamailio.sqlite")
    with closing(sqlite3.connect(source)) as other:
        other.execute("PRAGMA journal_mode = WAL")
    assert harness.run(tmp_path, "import", str(source), *on(new)).code == 0
    assert sorted(one.name for one in tmp_path.iterdir()) == ["kamailio.sqlite", "silo.sqlite"]


def test_the_file_of_another_silo_is_taken_whole_or_not_at_all(old: Path, new: Path, tmp_path: Path) -> None:
    ran = harness.run(tmp_path, "import", str(old), *on(new))
    if ran.code == 0:
        assert [(one.from_, one.target, one.key) for one in messages(new)] == [
            (one.from_, one.target, one.key) for one in EVERYTHING
        ]
    else:
        assert "export" in ran.sentence


# -- beside a daemon ---------------------------------------------------------------------------------------------------
def test_an_import_while_the_daemon_delivers(new: Path, tmp_path: Path) -> None:
    first = written(tmp_path / "first.jsonl", *(line(f"first {n}") for n in range(40)))
    second = written(tmp_path / "second.jsonl", *(line(f"second {n}") for n in range(1200)))
    with (
        Serve(tmp_path, "--settle", "0") as silo,
        Peer("bob", silo.address) as bob,
        Peer("alice", silo.address) as alice,
    ):
        assert harness.run(tmp_path, "import", str(first), *on(new)).out == "Imported 40 messages.\n"
        bob.register()
        argv = [*harness.COMMAND, "import", str(second), *on(new)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, env=harness.environment(tmp_path), text=True) as child:
            seen = bob.take(40, 15)
            alice.write("carol", "not held up")
            said, _ = child.communicate(timeout=20)
        assert (child.returncode, said) == (0, "Imported 1200 messages.\n")
        bob.register()
        seen += bob.take(1200, 60)
        until(lambda: len(waiting(new)) == 1, 5, "only carol's is left")
    assert [one.body.decode() for one in seen] == [f"first {n}" for n in range(40)] + [
        f"second {n}" for n in range(1200)
    ]
    assert len({one.headers["x-msilo-id"] for one in seen}) == 1240


def test_what_is_imported_for_a_registered_user_is_tried_within_a_minute(new: Path, tmp_path: Path) -> None:
    with Serve(tmp_path, "--settle", "0") as silo, Peer("bob", silo.address) as bob:
        bob.register()
        assert harness.run(tmp_path, "import", str(written(tmp_path / "box.jsonl", line())), *on(new)).code == 0
        until(lambda: query(new, "SELECT 1 FROM msilo_recipient WHERE next_try > 0"), 12, "a time for the next attempt")


def test_an_imported_reminder_that_is_over_is_tried_and_arrives_late(new: Path, tmp_path: Path) -> None:
    with Serve(tmp_path, "--settle", "0") as silo, Peer("bob", silo.address) as bob:
        bob.register()
        assert harness.run(tmp_path, "remind", str(BOB), "on time", "--at", "+1s", *on(new)).code == 0
        assert [one.body for one in bob.take(1)] == [b"on time"]
        over = line("late", due="2026-02-01T12:00:00Z")
        assert harness.run(tmp_path, "import", str(written(tmp_path / "box.jsonl", over)), *on(new)).code == 0
        until(lambda: query(new, "SELECT 1 FROM msilo_recipient WHERE next_try > 0"), 12, "a time for the next attempt")
        with subprocess.Popen(
            [*harness.COMMAND, "dump", str(BOB), *on(new)], env=harness.environment(tmp_path)
        ) as dump:
            (late,) = bob.take(1)
            assert dump.wait(10) == 0
    assert late.body == b"late"
    assert int(late.headers["x-msilo-late"]) > 3600


def test_a_backup_puts_back_what_was_purged(new: Path, tmp_path: Path) -> None:
    moved = written(tmp_path / "box.jsonl", line("one"), line("two"))
    assert harness.run(tmp_path, "import", str(moved), *on(new)).code == 0
    assert harness.run(tmp_path, "purge", "--all", "--yes", *on(new)).code == 0
    assert harness.run(tmp_path, "import", str(moved), *on(new)).out == "Imported 2 messages.\n"
    assert bodies(new) == [b"one", b"two"]
