"""Where settings come from, beyond the plain ones: --set, tables of peers, words of commands, texts with line ends."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from msilo_lite.errors import ConfigError
from msilo_lite.settings.config import Config, Peer
from msilo_lite.settings.pseudo import Template
from msilo_lite.settings.sources import load

PEERS = [{"address": "192.168.1.10", "control": True}, {"address": "192.168.0.0/16"}]
AS_JSON = json.dumps(PEERS)
AS_TOML = '[[peer]]\naddress = "192.168.1.10"\ncontrol = true\n[[peer]]\naddress = "192.168.0.0/16"\n'


pytestmark = pytest.mark.usefixtures("environment")


def chosen(*items: str) -> Config:
    """The settings with these --set."""
    return load(None, {}, items).config


def wrong(*items: str, file: Path | None = None) -> str:
    """What settings that are not accepted say: one sentence."""
    with pytest.raises(ConfigError) as caught:
        load(file, {}, items)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# -- --set -------------------------------------------------------------------------------------------------------------
def test_set_wins_over_everything_and_says_so(file: Path) -> None:
    file.write_text("settle = 1\ncheck_time = 2\nsend_time = 3\nmax_messages = 4\n")
    os.environ |= {"MSILO_CHECK_TIME": "20", "MSILO_SEND_TIME": "30", "MSILO_SETTLE": "1.5"}
    loaded = load(file, {"send_time": 300, "settle": 2.0, "domain": ()}, ["settle=3", "settle=4"])
    values = loaded.config
    assert (values.max_messages, values.check_time, values.send_time, values.settle) == (4, 20, 300, 4.0)
    assert {name: origin for name, origin in loaded.origins.items() if origin != "default"} == {
        "max_messages": str(file),
        "check_time": "environment MSILO_CHECK_TIME",
        "send_time": "flag --send-time",
        "settle": "option --set",
    }


@pytest.mark.parametrize("name", [name for name in Config.model_fields if name != "peer"])
def test_every_setting_may_be_given_as_text(name: str) -> None:
    value = getattr(load(None, {}).config, name)
    text = "" if value is None else ",".join(value) if isinstance(value, tuple) else str(value)
    loaded = load(None, {}, [f"{name}={text or 'udp:127.0.0.1:0' * (name == 'bind')}"])
    assert getattr(loaded.config, name) == value
    assert loaded.origins[name] == "option --set"


def test_a_value_may_hold_equal_signs_and_lists_are_split() -> None:
    found = chosen("outbound_proxy=sip:10.0.0.1;lr=on;x=a", "trusted=10.0.0.0/8, ::1", "domain=")
    assert found.outbound_proxy == "sip:10.0.0.1;lr=on;x=a"
    assert found.trusted == ("10.0.0.0/8", "::1/128")
    assert found.domain == ()


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("sette=1", "sette (from option --set) is not a setting; did you mean settle?"),
        ("outbound-proxy=sip:x", "outbound-proxy (from option --set) is not a setting; did you mean outbound_proxy?"),
        ("snd_time=x", "snd_time (from option --set) is not a setting; did you mean send_time?"),
        ("zzz=1", "zzz (from option --set) is not a setting; `msilo-lite config show` lists the keys"),
        ("settle", "--set settle: write NAME=VALUE; `msilo-lite config show` lists the names"),
        ("", "--set : write NAME=VALUE; `msilo-lite config show` lists the names"),
        (
            "settle=soon",
            "settle = 'soon' (from option --set): Input should be a valid number, unable to parse string as a number",
        ),
        ("add_date=2", "add_date = '2' (from option --set): Input should be less than or equal to 1"),
        (
            "reminder=clock",
            "reminder = 'clock' (from option --set): 'clock' is not a SIP URI such as sip:192.168.1.1:5060",
        ),
        (
            "timezone=Europe/Rom",
            "timezone = 'Europe/Rom' (from option --set): 'Europe/Rom' is not a known time zone; "
            "the nearest: Europe/Rome, Europe/Kirov, Europe/Riga",
        ),
        ("skip_notification_flag=32", "skip_notification_flag = '32' (from option --set): Input should be less than"),
    ],
)
def test_a_wrong_choice_names_itself_and_the_nearest_setting(item: str, words: str) -> None:
    assert wrong(item).startswith(words)


def test_blanks_around_the_equal_sign_are_no_part_of_the_value() -> None:
    assert chosen("log_level = info", "db_table = inbox").db_table == "inbox"


def test_a_choice_without_a_name_is_a_sentence() -> None:
    assert not wrong("=1").startswith(" ")


# -- two settings together ---------------------------------------------------------------------------------------------
def test_settings_that_do_not_go_together() -> None:
    said = wrong("offline_message=Bob is away.")
    assert said == r"offline_message needs content_type_hdr, such as 'Content-Type: text/plain\r\n'"
    assert wrong("sc_mid=body") == "two of the sc_... settings name the same column"
    assert chosen("sc_mid=body", "sc_body=id").sc_mid == "body"


def test_the_example_of_a_refusal_works_as_it_stands() -> None:
    example = wrong("offline_message=Bob is away.").split("'")[1]
    found = chosen("offline_message=Bob is away.", f"content_type_hdr={example}")
    assert Template.parse_lines(found.content_type_hdr or "").lines(None) == (("Content-Type", "text/plain"),)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("$avp(x)", "$avp(x) is set by Kamailio's script; let a peer with control = true say it in a header"),
        ("$fuu", "$fuu is not a known variable; write $fu"),
        ("$hdr()", "$hdr() lacks its argument; write $hdr(Subject)"),
        ("$(fu{uri.user})", "$(fu{uri.user}) has a transformation, which is not supported; write $fu"),
        ("$hdr(Subject", "lacks a closing parenthesis; write one, as in $hdr(Subject)"),
    ],
)
def test_a_variable_that_is_not_ours_says_what_to_write(value: str, words: str) -> None:
    said = wrong(f"snd_time_avp={value}")
    assert said.startswith(f"snd_time_avp = '{value}' (from option --set): ")
    assert words in said


# -- peers and commands ------------------------------------------------------------------------------------------------
def test_peers_come_from_a_table_from_json_in_the_environment_and_from_json_in_set(file: Path) -> None:
    file.write_text(AS_TOML)
    from_file = load(file, {})
    os.environ["MSILO_PEER"] = AS_JSON
    from_environment = load(None, {})
    del os.environ["MSILO_PEER"]
    from_option = load(None, {}, [f"peer={AS_JSON}"])
    expected = (Peer(address="192.168.1.10/32", control=True), Peer(address="192.168.0.0/16"))
    for loaded, origin in (
        (from_file, str(file)), (from_environment, "environment MSILO_PEER"), (from_option, "option --set"),
    ):  # fmt: skip
        assert (loaded.config.peer, loaded.origins["peer"]) == (expected, origin)
        assert loaded.warnings == ()
    assert load(file, {}, ["peer=[]"]).config.peer == ()  # the later source replaces the whole list


def test_a_peer_is_trusted_and_the_smallest_network_decides() -> None:
    found = chosen(f"peer={AS_JSON}", "trusted=127.0.0.1")
    assert [str(one) for one in found.networks] == ["127.0.0.1/32", "192.168.1.10/32", "192.168.0.0/16"]
    assert [str(one) for one in found.peer] == ["192.168.1.10/32 with control", "192.168.0.0/16"]
    here, there, nowhere = (found.peer_at(host) for host in ("192.168.1.10", "192.168.1.11", "10.0.0.1"))
    assert (here and here.control, there and there.control, nowhere) == (True, False, None)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("10.0.0.1", 'write it as JSON: [{"address": "192.168.1.10", "control": true}]'),
        (
            '[{"address": "10.0.0.1/8"}]',
            "10.0.0.1/8 has host bits set; write 10.0.0.0/8, or 10.0.0.1 for this host alone",
        ),
        ('[{"address": "home.lan"}]', "'home.lan' does not appear to be an IPv4 or IPv6 network"),
        ('[{"address": "10.0.0.1", "control": "maybe"}]', "Input should be a valid boolean"),
    ],
)
def test_a_wrong_peer_says_what_is_wrong(value: str, words: str) -> None:
    said = wrong(f"peer={value}")
    assert said.startswith("peer = ")
    assert f"(from option --set): {words}" in said


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ('[{"control": true}]', "address"),
        ('[{"address": "10.0.0.1", "contrl": true}]', "contrl"),
        ('{"address": "10.0.0.1"}', "JSON"),
        ('["10.0.0.1"]', "address"),
        ("5", "JSON"),
    ],
)
def test_a_peer_of_another_form_says_what_to_write(value: str, word: str) -> None:
    said = wrong(f"peer={value}")
    assert word in said.partition("(from option --set)")[2]
    assert "did you mean peer" not in said


def test_no_peer_is_none() -> None:
    os.environ["MSILO_PEER"] = ""
    assert load(None, {}).config.peer == ()


def test_a_command_is_words_as_a_shell_splits_them(file: Path) -> None:
    words = ("push", "--to", "a b")
    file.write_text('store_hook = ["push", "--to", "a b"]\n')
    assert load(file, {}).config.store_hook == words
    file.write_text("store_hook = \"push --to 'a b'\"\n")
    assert load(file, {}).config.store_hook == words
    os.environ["MSILO_STORE_HOOK"] = "push --to 'a b'"
    assert load(None, {}).config.store_hook == words
    assert chosen('store_hook=push --to "a b"').store_hook == words
    assert wrong("store_hook=push 'a").endswith("(from option --set): No closing quotation")


def test_a_table_of_the_file_that_is_misspelt_is_named(file: Path) -> None:
    file.write_text('[[peers]]\naddress = "10.0.0.1"\n')
    assert wrong(file=file) == f"peers (from {file}) is not a setting; did you mean peer?"
