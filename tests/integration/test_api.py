"""The Python API as its documentation shows it: programs of somebody else, beside a daemon and alone."""

import re
import textwrap
import time
from contextlib import closing
from pathlib import Path

import pytest

import msilo_lite.api
from msilo_lite.api import Box
from msilo_lite.box.policy import sip_date
from msilo_lite.box.schema import Names
from msilo_lite.box.store import Store
from msilo_lite.errors import BadRequest, NotFound, StoreError
from tests.waiting import until

from . import harness
from .harness import Peer, Ran, Serve, on, query, waiting

BOB = "sip:bob@home.lan"


def program(folder: Path, script: str, *words: object) -> Ran:
    """Run a program that uses the API; it ended well and said nothing on stderr."""
    ran = harness.python(
        folder, "import sys\nfrom msilo_lite.api import Box\n" + textwrap.dedent(script), *map(str, words)
    )
    assert (ran.code, ran.err) == (0, "")
    return ran


# -- beside a daemon ---------------------------------------------------------------------------------------------------
def test_the_example_of_the_documentation_delivers(tmp_path: Path) -> None:
    """Word for word, but for the place of the file."""
    documented = textwrap.dedent((msilo_lite.api.__doc__ or "").partition("\n\n")[2].partition("\n\nThe daemon")[0])
    with Serve(tmp_path, "--settle", "0") as silo, Peer("bob", silo.address) as bob:
        bob.register()
        ran = harness.python(tmp_path, documented.replace("/var/lib/msilo-lite/silo.sqlite", str(silo.file)))
        assert ran == Ran(0, "", "")
        (seen,) = bob.take(1, 2)  # at once: m_dump does not wait for the next REGISTER
        until(lambda: not waiting(silo.file), 5, "the box is empty")
    assert seen.body == b"Dinner is ready"
    assert seen.headers["from"].startswith("<sip:alice@home.lan>;tag=")
    assert seen.headers["content-type"] == "text/plain;charset=utf-8"


def test_every_argument_reaches_the_phone(tmp_path: Path) -> None:
    script = r"""
    with Box(sys.argv[1]) as box:
        print(box.m_store(b"\x00\xff", from_='"Door" <sip:door@home.lan>', owner="sip:bob@HOME.lan", to="sip:robert@x",
                          ctype="application/x-raw", headers={"Subject": "gr\u00fc\u00dfe", "Priority": "urgent"}))
        print(box.m_store("zwei \u20ac", from_="sip:door@home.lan", owner="bob@home.lan",
                          headers=[("X-A", "1"), ("X-A", "2")]))
    """
    with Serve(tmp_path, "--settle", "0") as silo, Peer("bob", silo.address) as bob:
        assert program(tmp_path, script, silo.file).out == "bob@home.lan\nbob@home.lan\n"
        bob.register()
        first, second = bob.take(2)
    assert (first.body, first.headers["content-type"]) == (b"\x00\xff", "application/x-raw")
    assert (first.headers["subject"], first.headers["priority"]) == ("grüße", "urgent")
    assert first.headers["from"].startswith('"Door" <sip:door@home.lan>;tag=')
    assert first.headers["to"] == "<sip:robert@x>"
    assert (second.body.decode(), second.headers["x-a"]) == ("zwei €", "1")


def test_a_reminder_for_now_and_one_for_soon(tmp_path: Path) -> None:
    script = """
    import time
    with Box(sys.argv[1]) as box:
        now = int(time.time())
        box.m_store("now", from_="sip:clock@home.lan", owner="bob@home.lan", due=now)
        box.m_store("soon", from_="sip:clock@home.lan", owner="bob@home.lan", due=now + 2)
        print(now)
    """
    with Serve(tmp_path, "--settle", "0") as silo, Peer("bob", silo.address) as bob:
        bob.register()
        began = int(program(tmp_path, script, silo.file).out)
        now, soon = bob.take(2, 6)
        assert time.time() >= began + 2
    assert [(one.body, one.headers["date"]) for one in (now, soon)] == [
        (b"now", sip_date(began)), (b"soon", sip_date(began + 2)),
    ]  # fmt: skip


def test_m_store_addrs_goes_to_its_address_by_the_proxy(tmp_path: Path) -> None:
    script = """
    with Box(sys.argv[1]) as box:
        addresses = {"srcaddr": "sip:door@gate.lan", "dstaddr": "sip:desk@office.lan"}
        print(box.m_store_addrs("ring", owner="bob@home.lan", **addresses))
        print(box.m_dump("bob@home.lan", most=1))
    """
    with (
        Peer("proxy", ("127.0.0.1", 9)) as proxy,
        Serve(tmp_path, "--outbound-proxy", f"sip:127.0.0.1:{proxy.port}") as silo,
    ):
        owner, wish = program(tmp_path, script, silo.file).out.split()
        (request,) = proxy.take(1)
        until(lambda: query(silo.file, f"SELECT done FROM msilo_wish WHERE id = {wish}") == [(1,)], 5, "granted")
    assert owner == "bob@home.lan"
    assert request.first == "MESSAGE sip:desk@office.lan SIP/2.0"
    assert request.headers["from"].startswith("<sip:door@gate.lan>;tag=")


def test_many_programs_write_at_once(tmp_path: Path) -> None:
    script = """
    import threading
    def write(name):
        with Box(sys.argv[1]) as box:
            for n in range(20):
                box.m_store(f"{name} {n}", from_="sip:alice@home.lan", owner="bob@home.lan")
    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    """
    with Serve(tmp_path, "--settle", "0") as silo, Peer("bob", silo.address) as bob:
        assert program(tmp_path, script, silo.file) == Ran(0, "", "")
        bob.register()
        seen = [one.body.decode() for one in bob.take(80, 15)]
    assert sorted(seen) == sorted(f"{name} {n}" for name in range(4) for n in range(20))
    for name in range(4):  # each in its own order
        assert [one for one in seen if one.startswith(f"{name} ")] == [f"{name} {n}" for n in range(20)]


# -- alone -------------------------------------------------------------------------------------------------------------
def test_without_a_daemon_it_is_on_disk_when_the_call_returns(tmp_path: Path) -> None:
    script = """
    import os, signal
    box = Box(sys.argv[1], expire_time=60)
    box.m_store("kept", from_="sip:alice@home.lan", owner="bob@home.lan")
    print(box.m_dump("bob@home.lan"), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    file = tmp_path / "folder" / "silo.sqlite"
    prelude = "import sys\nfrom msilo_lite.api import Box\n"
    ran = harness.python(tmp_path, prelude + textwrap.dedent(script), str(file))
    assert (ran.code, ran.err) == (-9, "")
    assert re.fullmatch(r"\d+\n", ran.out)
    assert query(file, "SELECT body, exp_time - inc_time FROM silo") == [(b"kept", 60)]
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    found = harness.run(tmp_path, "list", "--json", *on(file)).json()
    assert [(one["to"], one["state"]) for one in found] == [("bob@home.lan", "pending")]


def test_a_table_of_another_name(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    with Box(file, names=Names(db_table="inbox", sc_body="words")) as box:
        box.m_store("hello", from_="sip:alice@home.lan", owner=BOB)
    assert query(file, "SELECT words FROM inbox") == [(b"hello",)]


BAD = [
    ({"from_": "alice"}, 400, "'alice' is not an address"),
    ({"from_": "mailto:alice@home.lan"}, 416, "the URI scheme mailto is not served"),
    ({"owner": "home.lan"}, 404, "'home.lan' names no user; write USER@HOST, such as bob@home.lan"),
    ({"to": "bob"}, 400, "'bob' is not an address"),
    ({"headers": {"X-MSilo-ID": "1-0"}}, 400, r".*X-MSilo-ID.* is not a header that can be \w+"),
    ({"headers": {"Subject": "a\r\nb"}}, 400, r".*Subject.* is not a header that can be \w+"),
    ({"headers": [("From", "sip:eve@x")]}, 400, r".*sip:eve@x.* is not a header that can be \w+"),
    ({"ctype": "text/plain\n"}, 400, r".*'text/plain\\n' is not a .*"),
    ({"due": 1}, 400, "its time is already over.*"),
    ({"due": 2**31}, 400, "its time is .* January 2038"),
    ({"body": b"x" * 4000}, 513, r"its replay could have 4\d\d\d bytes, more than fit"),
]


@pytest.mark.parametrize(("given", "status", "words"), BAD)
def test_what_cannot_be_sent_is_refused_and_not_stored(
    tmp_path: Path, given: dict[str, object], status: int, words: str
) -> None:
    file = tmp_path / "silo.sqlite"
    arguments = {"body": "hello", "from_": "sip:alice@home.lan", "owner": BOB, **given}
    with Box(file) as box, pytest.raises(BadRequest) as caught:
        box.m_store(**arguments)  # type: ignore[arg-type]  # any argument by name
    assert re.fullmatch(words, str(caught.value)), str(caught.value)
    assert caught.value.status == status
    assert waiting(file) == []


def test_a_text_with_bytes_in_disguise_is_stored_or_refused_in_our_words(tmp_path: Path) -> None:
    with Box(tmp_path / "silo.sqlite") as box:
        try:
            box.m_store("caf\udce9", from_="sip:alice@home.lan", owner=BOB)
        except BadRequest:
            return
    assert query(tmp_path / "silo.sqlite", "SELECT body FROM silo") == [(b"caf\xe9",)]


def test_a_file_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("root:x:0:0\n" * 90)
    with pytest.raises(StoreError, match=f"^cannot open {tmp_path}/passwd: file is not a database$"):
        Box(tmp_path / "passwd")
    with Box(tmp_path / "silo.sqlite") as box, harness.locked(tmp_path / "silo.sqlite"):
        with pytest.raises(StoreError, match=r"^cannot write: database is locked$"):
            box.m_store("hello", from_="sip:alice@home.lan", owner=BOB)
        with pytest.raises(StoreError, match=r"^cannot write: database is locked$"):
            box.m_dump(BOB)
    assert waiting(tmp_path / "silo.sqlite") == []


def test_a_file_that_somebody_took_away(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    with Box(file) as box:
        file.unlink()
        with pytest.raises(NotFound, match=f"^there is no database at {file}; "):
            box.m_dump(BOB)


def test_an_error_means_that_nothing_was_stored(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    with Box(file) as box:
        harness.change(file, "DROP TABLE msilo_wish")
        with pytest.raises(StoreError):
            box.m_store("once", from_="sip:alice@home.lan", owner=BOB)
    assert waiting(file) == []


def test_a_box_that_was_closed_says_so_in_our_words(tmp_path: Path) -> None:
    box = Box(tmp_path / "silo.sqlite")
    box.close()
    with pytest.raises(StoreError, match="closed"):
        box.m_store("too late", from_="sip:alice@home.lan", owner=BOB)


def test_it_shares_the_file_with_whoever_has_it_open(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    with closing(Store(file)), Box(file) as one, Box(str(file)) as two:
        for n, box in enumerate((one, two, one)):
            box.m_store(str(n), from_="sip:alice@home.lan", owner=BOB)
    assert query(file, "SELECT id, body FROM silo") == [(1, b"0"), (2, b"1"), (3, b"2")]
