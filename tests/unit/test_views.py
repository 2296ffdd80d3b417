"""What a pipe reads: plain lines and JSON; nothing here is a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from msilo_lite.box.delivery import State
from msilo_lite.cli import views
from msilo_lite.cli.reasons import state_name

Read = pytest.CaptureFixture[str]
RECORD: dict[str, Any] = {
    "id": 7,
    "to": "bob@home.lan",
    "from": '"Zoë 🍝" <sip:alice@home.lan>',
    "state": "pending",
    "arrived": "2027-01-15T08:00:00Z",
    "age": "2 h",
    "size": 5,
    "attempts": 0,
    "why": "waits until bob@home.lan registers",
}


# -- JSON ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", [0, 1, 2, 50])
def test_a_json_list_is_an_array(capsys: Read, number: int) -> None:
    records = [{**RECORD, "id": i} for i in range(number)]
    views.json_list(iter(records))
    written = capsys.readouterr().out
    assert json.loads(written) == records
    assert written.endswith("]\n")


def test_a_json_list_is_written_as_it_comes(capsys: Read) -> None:
    seen: list[str] = []

    def records() -> Iterator[dict[str, int]]:
        for number in range(3):
            seen.append(capsys.readouterr().out)
            yield {"id": number}

    views.json_list(records())
    assert seen == ["[", '\n{"id": 0}', ',\n{"id": 1}']
    assert capsys.readouterr().out == ',\n{"id": 2}\n]\n'


def test_json_keeps_letters_readable(capsys: Read) -> None:
    views.as_json({"from": "Zoë 🍝", "none": None})
    assert capsys.readouterr().out == '{\n  "from": "Zoë 🍝",\n  "none": null\n}\n'


# -- lines ---------------------------------------------------------------------------------------------------------
def test_messages_are_one_line_each_with_tabs_between(capsys: Read) -> None:
    views.messages([RECORD, {**RECORD, "id": 8, "state": "parked"}], "nothing")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t") for line in lines] == [
        [
            str(number), "bob@home.lan", '"Zoë 🍝" <sip:alice@home.lan>', state, "2027-01-15T08:00:00Z",
            "waits until bob@home.lan registers",
        ]
        for number, state in ((7, "pending"), (8, "parked"))
    ]  # fmt: skip


def test_no_messages_are_no_lines(capsys: Read) -> None:
    views.messages([], "No messages wait.")
    assert capsys.readouterr().out == ""


# a display name in Latin-1, as any phone may send it: decoded with surrogateescape
LATIN = '"Jos\udce9" <sip:jose@home.lan>'


def test_a_sender_that_is_not_utf_8_can_be_listed(capsys: Read) -> None:
    views.messages([{**RECORD, "from": LATIN}], "nothing")
    assert "<sip:jose@home.lan>" in capsys.readouterr().out


def test_a_sender_that_is_not_utf_8_can_be_listed_as_json(capsys: Read) -> None:
    views.json_list([{**RECORD, "from": LATIN}])
    (record,) = json.loads(capsys.readouterr().out)
    assert "<sip:jose@home.lan>" in record["from"]


def test_a_header_that_is_not_utf_8_can_be_shown(capsys: Read) -> None:
    views.message({"id": 7, "from": LATIN}, "Subject: Jos\udce9\r\n", b"x")
    assert "header: Subject: Jos" in capsys.readouterr().out
    views.as_json({"headers": ["Subject: Jos\udce9"]})
    assert "Subject: Jos" in capsys.readouterr().out


def test_a_tab_in_a_name_makes_no_column(capsys: Read) -> None:
    views.messages([{**RECORD, "from": '"a\tb" <sip:a@b>', "why": "486 Busy\tHere"}], "nothing")
    assert len(capsys.readouterr().out.rstrip("\n").split("\t")) == 6


def test_one_message_with_its_headers_and_body(capsys: Read) -> None:
    views.message({"id": 7, "why": "", "last_code": None, "size": 5}, "Subject: Hi\r\nX-A: b: c\r\n", b"hello\nyou")
    assert capsys.readouterr().out == "id: 7\nsize: 5\nheader: Subject: Hi\nheader: X-A: b: c\n\nhello\nyou\n"


def test_a_line_separator_in_a_header_is_no_new_header(capsys: Read) -> None:
    views.message({}, "Subject: one\u2028two\x85three\r\n", b"")
    assert capsys.readouterr().out.count("header: ") == 1


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", ""),
        ("Zoë\r\n\t🍝".encode(), "Zoë\r\n\t🍝"),
        (b"\xff", None),
        (b"a\x00b", None),
        (b"\x1b[31m", None),
        (b"\x7f", None),
        ("\x9b31m".encode(), None),
    ],
)
def test_what_counts_as_text(body: bytes, text: str | None) -> None:
    assert views.body_text(body) == text


def test_a_body_that_is_no_text_is_shown_in_base64(capsys: Read) -> None:
    views.message({}, "", b"\x00\xff")
    assert capsys.readouterr().out == "\n(2 bytes that are no text, base64) AP8=\n"
    assert views.encoded(b"\x00\xff") == "AP8="


def test_facts_are_a_line_each(capsys: Read) -> None:
    views.facts("title", {"daemon": "running", "waiting_for": {"bob": 2, "carl": 1}, "none": {}, "list": ["a", "b"],
                          "alarm": None})  # fmt: skip
    assert (
        capsys.readouterr().out == "daemon\trunning\nwaiting_for\tbob 2, carl 1\nnone\tnone\nlist\ta, b\nalarm\tnone\n"
    )


def test_settings_say_where_they_come_from(capsys: Read) -> None:
    views.settings([("bind", ("a", "b"), "default", "meaning"), ("proxy", None, "flag --x", "meaning")])
    assert capsys.readouterr().out == "bind\ta, b\tdefault\nproxy\tnone\tflag --x\n"


def test_the_last_line_of_serve_names_the_addresses(capsys: Read) -> None:
    views.serving(["udp:127.0.0.1:1", "udp:[::1]:2"], "/a [b]/c", {"trusts": "[::1]/128"}, ["list [x]"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "ready udp:127.0.0.1:1 udp:[::1]:2"
    assert "file: /a [b]/c" in lines
    assert "trusts: [::1]/128" in lines
    assert "try next: list [x]" in lines


def test_sentences(capsys: Read) -> None:
    views.say("plain [bold] text")
    views.complain("it broke [again]")
    views.complain("a\x1b[2Jb")
    views.story("alice", "writes [x]")
    got = capsys.readouterr()
    assert got.out == "plain [bold] text\n alice  writes [x]\n"
    assert got.err == "msilo-lite: it broke [again]\nmsilo-lite: a\\x1b[2Jb\n"


def test_progress_is_silent_in_a_pipe(capsys: Read) -> None:
    with views.progress(3, "working") as update:
        update(1)
        update(3)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("at", "text"), [(None, None), (0, "1970-01-01T00:00:00Z"), (1_800_000_000, "2027-01-15T08:00:00Z")]
)
def test_times_are_utc(at: int | None, text: str | None) -> None:
    assert views.utc(at) == text


def test_every_state_has_a_name_and_a_colour() -> None:
    assert {state_name(state) for state in State} | {"scheduled", "held"} == set(views.COLOURS)


@pytest.mark.parametrize(("number", "text"), [(0, "0 messages"), (1, "1 message"), (2, "2 messages")])
def test_counted(number: int, text: str) -> None:
    assert views.counted(number) == text
