"""The commands as an operator and a script meet them: what they print, where, and with which exit code."""

import base64
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from msilo_lite.box.delivery import State
from msilo_lite.box.message import Turn
from msilo_lite.box.store import Store
from msilo_lite.cli.phone import Phone
from msilo_lite.errors import ConfigError
from msilo_lite.settings.sources import load
from tests.waiting import until

from . import harness
from .harness import Peer, Ran, Serve, on, waiting
from .samples import NOW, message

COMMANDS = ("serve", "list", "show", "dump", "purge", "status", "demo", "config", "config show")


# -- help --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(tmp_path: Path, name: str) -> None:
    ran = harness.run(tmp_path, *name.split(), "--help")
    assert (ran.code, ran.err) == (0, "")
    assert f"Usage: msilo-lite {name}" in ran.out
    if name != "config":
        assert re.search(rf"Example: .*msilo-lite {name}", ran.out), ran.out


def test_the_help_lists_the_commands_and_the_exit_codes(tmp_path: Path) -> None:
    ran = harness.run(tmp_path, "--help")
    assert ran.code == 0
    listed = set(re.findall(r"^│ (\w+) ", ran.out, re.MULTILINE))
    assert {name.split()[0] for name in COMMANDS} <= listed
    assert "0 done · 1 failed · 2 wrong usage or configuration · 3 not found" in " ".join(ran.out.split())


def test_the_version(tmp_path: Path) -> None:
    ran = harness.run(tmp_path, "--version")
    assert ran.code == 0
    assert re.fullmatch(r"msilo-lite \d+(\.\d+)*(\+source)?\n", ran.out)


# -- looking -----------------------------------------------------------------------------------------------------------
def test_list_in_a_pipe_is_one_line_a_message(box: Path, tmp_path: Path) -> None:
    ran = harness.run(tmp_path, "list", *on(box))
    rows = [line.split("\t") for line in ran.out.splitlines()]
    assert (ran.code, ran.err) == (0, "")
    assert [row[:4] for row in rows] == [
        [str(n), f"{who}@home.lan", "<sip:alice@home.lan>", "pending"]
        for n, who in ((2, "bob"), (3, "bob"), (4, "carol"))
    ]
    assert {row[5] for row in rows} == {"no daemon is running; start `msilo-lite serve`"}


def test_list_as_json(box: Path, tmp_path: Path) -> None:
    found = harness.run(tmp_path, "list", "sip:bob@HOME.lan", "--json", *on(box)).json()
    assert [one["id"] for one in found] == [2, 3]
    expected = {
        "id": 3,
        "to": "bob@home.lan",
        "from": "<sip:alice@home.lan>",
        "state": "pending",
        "arrived": "2096-10-02T07:06:40Z",
        "expires": "2096-10-02T08:06:40Z",
        "size": 2,
        "ctype": "application/octet-stream",
        "attempts": 0,
        "last_code": None,
    }
    assert expected.items() <= found[1].items()
    assert found[1]["why"]


def test_list_all_shows_history_as_well(box: Path, tmp_path: Path) -> None:
    found = harness.run(tmp_path, "list", "--all", "--json", *on(box)).json()
    assert [(one["id"], one["state"]) for one in found] == [
        ("h1", "delivered"), (2, "pending"), (3, "pending"), (4, "pending"),
    ]  # fmt: skip
    assert found[0]["to"] == "dave@home.lan"


def test_list_of_nobody_is_empty_and_no_error(box: Path, tmp_path: Path) -> None:
    assert harness.run(tmp_path, "list", "nobody@home.lan", "--json", *on(box)) == Ran(0, "[]\n", "")


def test_list_into_a_pipe_that_closes(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    with closing(Store(file)) as store:
        store.write(Turn(new=[message(str(n)) for n in range(3000)]), NOW)
    argv = [*harness.COMMAND, "list", *on(file)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe, env=harness.environment(tmp_path)) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline().startswith(b"1\tbob@home.lan")
        child.stdout.close()
        complaint = child.stderr.read()
        assert child.wait(20) == 1
    assert complaint == b""


def test_show_prints_headers_and_body(box: Path, tmp_path: Path) -> None:
    ran = harness.run(tmp_path, "show", "2", *on(box))
    assert ran.code == 0
    assert "header: Subject: lunch [1]\n" in ran.out
    assert ran.out.endswith("\n\ngrüße [bold]an[/] alle\n")
    found = harness.run(tmp_path, "show", "2", "--json", *on(box)).json()
    assert (found["body"], found["headers"]) == ("grüße [bold]an[/] alle", ["Subject: lunch [1]"])
    assert re.fullmatch(r"2-[0-9a-f]{16}", found["message_id"])
    binary = harness.run(tmp_path, "show", "3", "--json", *on(box)).json()
    assert base64.b64decode(binary["body_base64"]) == b"\x00\xff"
    assert "body" not in binary


@pytest.mark.parametrize("number", ["1", "99", "99999999999999999999"])
def test_show_of_a_message_that_is_not_there(box: Path, tmp_path: Path, number: str) -> None:
    ran = harness.run(tmp_path, "show", number, *on(box))
    assert ran.code == 3
    assert f"no message {number} is waiting" in ran.sentence


def test_status_without_a_daemon(box: Path, tmp_path: Path) -> None:
    found = harness.run(tmp_path, "status", "--json", *on(box)).json()
    assert found["daemon"] == "not running"
    assert (found["waiting"], found["waiting_for"]) == (3, {"bob@home.lan": 2, "carol@home.lan": 1})
    assert found["troubled"] == {"carol@home.lan": "480 Away"}
    assert found["file"] == str(box)
    assert "waiting\t3\n" in harness.run(tmp_path, "status", *on(box)).out


# -- purging -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("words", "left"), [(["2", "4", "2"], [3]), (["--to", "bob@home.lan"], [4]), (["--all"], [])])
def test_purge(box: Path, tmp_path: Path, words: list[str], left: list[int]) -> None:
    gone = 3 - len(left)
    assert harness.run(tmp_path, "purge", *words, "--yes", *on(box)) == Ran(0, f"Purged {gone} messages.\n", "")
    assert waiting(box) == left
    ended = harness.query(box, "SELECT count(*) FROM msilo_ledger WHERE state = ? AND settled > 0", State.CANCELLED)
    assert ended == [(gone,)]


def test_purge_asks_first_and_where_it_cannot_ask_it_refuses(box: Path, tmp_path: Path) -> None:
    assert harness.run(tmp_path, "purge", "--all", "--dry-run", *on(box)) == Ran(0, "Would purge 3 messages.\n", "")
    refused = harness.run(tmp_path, "purge", "--all", *on(box))
    assert refused.code == 2
    assert "--yes" in refused.sentence
    assert waiting(box) == [2, 3, 4]
    nothing = harness.run(tmp_path, "purge", "--to", "nobody@home.lan", *on(box))
    assert nothing == Ran(0, "Nothing waits.\n", "")


def test_purge_of_an_id_that_is_not_there_takes_nothing(box: Path, tmp_path: Path) -> None:
    ran = harness.run(tmp_path, "purge", "2", "99", "--yes", *on(box))
    assert ran.code == 3
    assert "no message 99" in ran.sentence
    assert waiting(box) == [2, 3, 4]


@pytest.mark.parametrize("words", [[], ["--all", "--to", "bob@home.lan"]])
def test_purge_wants_exactly_one_choice(box: Path, tmp_path: Path, words: list[str]) -> None:
    ran = harness.run(tmp_path, "purge", "--yes", *words, *on(box))
    assert ran.code == 2
    assert "one of them" in ran.sentence
    assert waiting(box) == [2, 3, 4]


# -- wrong use and wrong settings --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["serve", "--bind", "ws:127.0.0.1:0"], ["bind", "flag --bind", "only udp, tcp, tls"]),
        (["list", "--db-url", "mysql://x"], ["db_url", "flag --db-url", "sqlite:///FILE"]),
        (["list", "--config", "missing.toml"], ["missing.toml", "does not exist"]),
        (["dump", "home.lan"], ["home.lan", "names no user"]),
        (["show", "two"], ["is no id"]),
        (["serve", "--colour"], ["--colour"]),
        (["sing"], ["sing"]),
        (["dump"], ["Missing argument"]),
    ],
)
def test_wrong_words_are_a_sentence_and_exit_2(tmp_path: Path, words: list[str], named: list[str]) -> None:
    ran = harness.run(tmp_path, *words)
    assert (ran.code, ran.out) == (2, ""), ran
    for name in named:
        assert name in ran.sentence


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("trusted", ("192.168.1.1/8",), "host bits"),
        ("outbound_proxy", "http://x", "SIP URI"),
        ("expire_time", 0, "greater than or equal to 1"),
        ("log_level", "loud", "debug"),
    ],
)
def test_a_wrong_flag_is_named(tmp_path: Path, key: str, value: object, words: str) -> None:
    (tmp_path / "empty.toml").touch()
    with pytest.raises(ConfigError, match=rf"^{key} = .*\(from flag --{key.replace('_', '-')}\): .*{words}"):
        load(tmp_path / "empty.toml", {key: value})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("settle = 'soon'", ["settle", "'soon'"]),
        ("settle = -1", ["settle", "-1"]),
        ("trustd = ['::1']", ["trustd", "did you mean trusted?"]),
        ("colour = 1", ["colour", "config show"]),
        ("bind = []", ["bind", "names no address"]),
        ("bind = 5070", ["bind", "5070"]),
        ("bind = ['udp:127.0.0.1:99999']", ["bind", "99999"]),
        ("bind = ['udp:home.lan:5070']", ["bind", "not an IP address"]),
        ("trusted = [5]", ["trusted", "5"]),
        ("domain = ['']", ["domain", "not a host name"]),
        ("log_level = 'loud'", ["log_level", "debug"]),
        ("settle = ", ["cannot be read"]),
        ("\x00", ["cannot be read"]),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, named: list[str]) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    for name in ["wrong.toml", *named]:
        assert name in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_wrong_file_is_a_sentence_and_exit_2(tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text("settle = 'soon'\n")
    ran = harness.run(tmp_path, "config", "show", "--config", str(file))
    assert (ran.code, ran.out) == (2, "")
    assert ran.sentence.startswith(f"msilo-lite: settle = 'soon' (from {file}): ")
    assert len(ran.sentence.splitlines()) == 1


@pytest.mark.parametrize(("key", "value"), [("SETTLE", "soon"), ("BIND", "udp:nowhere")])
def test_a_wrong_variable_is_named(tmp_path: Path, key: str, value: str) -> None:
    ran = harness.run(tmp_path, "config", "show", env={f"MSILO_{key}": value})
    assert (ran.code, ran.out) == (2, "")
    assert f"{key.lower()} = " in ran.sentence
    assert f"environment MSILO_{key}" in ran.sentence


def test_config_show_names_the_source_of_every_value(tmp_path: Path) -> None:
    file = tmp_path / "silo.toml"
    file.write_text("settle = 2\nexpire_time = 60\ndomain = ['Home.LAN']\n")
    env = {"MSILO_EXPIRE_TIME": "70", "MSILO_TRUSTED": "10.0.0.0/8, ::1", "MSILO_CONFIG": str(file)}
    found = harness.run(tmp_path, "config", "show", "--json", "--db-url", "sqlite:////x/y", env=env).json()
    assert found["settle"] == {"value": 2.0, "from": str(file)}
    assert found["expire_time"] == {"value": 70, "from": "environment MSILO_EXPIRE_TIME"}
    assert found["trusted"] == {"value": ["10.0.0.0/8", "::1/128"], "from": "environment MSILO_TRUSTED"}
    assert found["db_url"] == {"value": "sqlite:////x/y", "from": "flag --db-url"}
    assert found["domain"]["value"] == ["home.lan"]
    assert found["check_time"]["from"] == "default"
    plain = harness.run(tmp_path, "config", "show", env=env).out
    assert f"settle\t2.0\t{file}\n" in plain


@pytest.mark.parametrize("words", [["list"], ["dump", "bob@home.lan"]])
def test_no_database_is_not_found_and_none_is_made(tmp_path: Path, words: list[str]) -> None:
    file = tmp_path / "nowhere" / "silo.sqlite"
    ran = harness.run(tmp_path, *words, *on(file))
    assert (ran.code, ran.out) == (3, "")
    assert f"there is no database at {file}" in ran.sentence
    assert not file.parent.exists()


@pytest.mark.parametrize("content", [b"", b"no database, only text " * 100])
def test_a_file_that_is_not_ours(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "silo.sqlite"
    file.write_bytes(content)
    ran = harness.run(tmp_path, "list", *on(file))
    assert (ran.code, ran.out) == (1, "")
    assert str(file) in ran.sentence


# -- with a daemon -----------------------------------------------------------------------------------------------------
def test_the_commands_beside_a_running_daemon(tmp_path: Path) -> None:
    with Serve(tmp_path, "--outbound-proxy", "sip:127.0.0.1:9") as silo, Peer("alice", silo.address) as alice:
        for n in range(3):
            alice.write("bob", f"number {n}")
        status = harness.run(tmp_path, "status", "--json", *on(silo.file)).json()
        assert (status["daemon"], status["pid"], status["waiting"]) == ("running", silo.pid, 3)
        assert status["listening"] == silo.ready_line.split()[1:]
        found = harness.run(tmp_path, "list", "--json", *on(silo.file)).json()
        assert {one["why"].partition(";")[0] for one in found} == {"nobody saw its owner yet"}
        assert {one["why"].partition(", ")[2] for one in found} == {"or when bob@home.lan registers"}
        assert harness.run(tmp_path, "show", "1", *on(silo.file)).out.endswith("\n\nnumber 0\n")
        assert harness.run(tmp_path, "purge", "1", "--yes", *on(silo.file)).out == "Purged 1 message.\n"
        alice.write("bob", "number 3")  # the daemon goes on above what it has given out
        assert waiting(silo.file) == [2, 3, 4]
        silo.stop()


@contextmanager
def taking(phone: Phone, count: int) -> Iterator[None]:
    """Let a phone answer in the background; at the end it must have taken so many."""
    thread = threading.Thread(target=phone.take, args=(count, 15))
    thread.start()
    try:
        yield
    finally:
        thread.join(16)
    assert len(phone.received) == count


@pytest.mark.parametrize("up", [True, False])
def test_dump_delivers(tmp_path: Path, up: bool) -> None:
    with Serve(tmp_path, "--settle", "0") as silo, closing(Phone("bob", silo.address)) as bob:
        assert bob.register() == 200  # with an empty box: nothing is sent, but its place is remembered
        until(lambda: harness.query(silo.file, "SELECT 1 FROM msilo_contact"), 5, "the binding on disk")
        if not up:
            silo.stop()
        insert = "INSERT INTO silo (src_addr, dst_addr, username, domain, inc_time, exp_time, body) VALUES"
        row = f"('sip:a@home.lan', 'sip:bob@home.lan', 'bob', 'home.lan', {NOW}, {NOW + 9}"
        harness.change(silo.file, *(f"{insert} {row}, CAST('text {n}' AS BLOB))" for n in range(3)))
        with taking(bob, 3):
            ran = harness.run(tmp_path, "dump", "bob@home.lan", *on(silo.file), "--set", "add_date=0")
        assert ran == Ran(0, "Delivered 3 of 3 messages to bob@home.lan.\n", "")
        assert [one.body for one in bob.received] == [b"text 0", b"text 1", b"text 2"]
        assert waiting(silo.file) == []
        again = harness.run(tmp_path, "dump", "bob@home.lan", *on(silo.file))
        assert again == Ran(0, "Nothing waits for bob@home.lan.\n", "")


def test_dump_with_nobody_there_says_why(tmp_path: Path) -> None:
    with Serve(tmp_path) as silo, Peer("alice", silo.address) as alice:
        alice.write("bob", "hello")
        beside = harness.run(tmp_path, "dump", "bob@home.lan", *on(silo.file))
        silo.stop()
        alone = harness.run(tmp_path, "dump", "bob@home.lan", *on(silo.file))
    for ran in (beside, alone):
        assert (ran.code, ran.out) == (1, "Delivered 0 of 1 message to bob@home.lan.\n")
        assert ran.sentence == "msilo-lite: 1 stays: not registered, and no outbound_proxy is set"
    assert harness.query(silo.file, "SELECT state FROM msilo_ledger") == [(State.PENDING,)]


def test_dump_can_be_interrupted(tmp_path: Path) -> None:
    with Serve(tmp_path) as silo, Peer("bob", silo.address) as bob:
        bob.register()
        bob.write("bob", "to myself, and I do not answer")
        silo.kill()
        argv = [*harness.COMMAND, "dump", "bob@home.lan", *on(silo.file)]
        with subprocess.Popen(
            argv,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=harness.environment(tmp_path),
            text=True,
            # a test run in the background of a shell script inherits an ignored SIGINT, a person at a terminal does not
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as child:
            first = bob.receive(10)
            child.send_signal(signal.SIGINT)
            _, complaint = child.communicate(timeout=10)
        assert child.returncode in (1, 130)
        assert "Traceback" not in complaint
        with Serve(tmp_path, "--settle", "0.1"):  # the attempt that was cut off is made again
            assert bob.take(1)[0].headers["x-msilo-id"] == first.headers["x-msilo-id"]


def test_dump_counts_only_what_was_delivered(tmp_path: Path) -> None:
    """What was purged while it was on its way is no delivery."""
    with Serve(tmp_path) as silo, Peer("bob", silo.address) as bob:
        bob.register()
        bob.write("bob", "to myself")
        argv = [*harness.COMMAND, "dump", "bob@home.lan", *on(silo.file)]
        with subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=harness.environment(tmp_path), text=True
        ) as child:
            request = bob.receive(10)
            purged = harness.run(tmp_path, "purge", "1", "--yes", *on(silo.file))
            bob.reply(request, 486)
            said, complaint = child.communicate(timeout=10)
    assert purged.out == "Purged 1 message. 1 message on the way may still arrive.\n"
    assert (child.returncode, said) == (1, "Delivered 0 of 1 message to bob@home.lan.\n")
    assert "1 left the box in another way" in complaint


def test_show_tells_what_became_of_a_message(box: Path, tmp_path: Path) -> None:
    assert harness.run(tmp_path, "purge", "2", "--yes", *on(box)).code == 0
    (past,) = [
        one for one in harness.run(tmp_path, "list", "--all", "--json", *on(box)).json() if one["state"] == "purged"
    ]
    ran = harness.run(tmp_path, "show", past["id"], *on(box))
    assert "state: purged" in ran.out
    assert harness.run(tmp_path, "show", "h999", *on(box)).code == 3


def test_no_lock_is_left_beside_a_file_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    ran = harness.run(tmp_path, "serve", "--bind", "udp:127.0.0.1:0", "--db-url", f"sqlite:///{tmp_path}/passwd")
    assert (ran.code, "is no SQLite database" in ran.sentence) == (1, True)
    assert [file.name for file in tmp_path.iterdir()] == ["passwd"]


def test_an_empty_user_is_nobody(box: Path, tmp_path: Path) -> None:
    assert harness.run(tmp_path, "list", "", *on(box)).code == 2
