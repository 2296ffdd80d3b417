"""Settings: which source wins, and what a wrong value says."""

from __future__ import annotations

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from msilo_lite.errors import ConfigError
from msilo_lite.settings.config import Config, default_db_url, default_file
from msilo_lite.settings.sources import load
from msilo_lite.sip.address import Endpoint

pytestmark = pytest.mark.usefixtures("environment")


def wrong(file: Path | None = None, **flags: object) -> str:
    """What a configuration that is not accepted says."""
    with pytest.raises(ConfigError) as caught:
        load(file, flags)
    return str(caught.value)


MSILO = {
    "db_table": "silo", "sc_mid": "id", "sc_from": "src_addr", "sc_to": "dst_addr", "sc_uri_user": "username",
    "sc_uri_host": "domain", "sc_body": "body", "sc_ctype": "ctype", "sc_exp_time": "exp_time",
    "sc_inc_time": "inc_time", "sc_snd_time": "snd_time", "sc_stored_hdrs": "extra_hdrs", "sc_callid": "callid",
    "sc_status": "status", "from_address": None, "contact_hdr": None, "extra_hdrs": None, "offline_message": None,
    "content_type_hdr": None, "reminder": None, "outbound_proxy": None, "expire_time": 259200, "check_time": 60,
    "send_time": 0, "clean_period": 10, "use_contact": 1, "snd_time_avp": None, "add_date": 1, "max_messages": 0,
    "add_contact": 0, "extra_hdrs_avp": None, "skip_notification_flag": -1, "use_mode": 0,
}  # fmt: skip
"Every parameter of msilo but db_url, with the default it has in the code of the original."


def test_defaults() -> None:
    loaded = load(None, {})
    assert loaded.config.model_dump() == {
        "bind": ("udp:127.0.0.1:5070",),
        "domain": (),
        "trusted": ("127.0.0.0/8", "::1/128"),
        "peer": (),
        "account": (),
        "accounts_file": None,
        "realm": "",
        "auth_algorithms": ("SHA-256", "MD5"),
        "nonce_time": 300,
        "auth_failures": 10,
        "max_bytes": 0,
        "max_total_messages": 0,
        "max_total_bytes": 0,
        "min_free": 64 * 1024 * 1024,
        "sender_rate": 0,
        "sender_burst": 20,
        "max_size": 0,
        "max_headers": 200,
        "max_header_bytes": 0,
        "registrar": None,
        "user": None,
        "password": None,
        "password_file": None,
        "register_expires": 300,
        "watch": "off",
        "watch_most": 250,
        "trust_2xx": "any",
        "max_body": 0,
        "handed_time": 86400,
        "max_attempts": 0,
        "settle": 0.5,
        "retry_rate": 20,
        "wake_rate": 500,
        "max_in_flight": 64,
        "history_time": 2592000,
        "notice_interval": 600,
        "timezone": "",
        "ignored_types": ("application/im-iscomposing+xml",),
        "store_hook": (),
        "log_level": "warning",
        "tls_certificate": None,
        "tls_key": None,
        "tls_client_ca": None,
        "tls_client_required": True,
        "tls_ca": None,
        "tls_verify": True,
        "tcp_clients": 1000,
        "tcp_idle": 3600,
        "db_url": default_db_url(),
        "http_listen": "",
        "log_format": "auto",
        "history_rows": 0,
        **MSILO,
    }
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.file is None
    assert loaded.config.db_file.name == "silo.sqlite"


def test_every_setting_says_what_it_means() -> None:
    assert all((field.description or "").endswith(".") for field in Config.model_fields.values())


def test_flags_win_over_the_environment_which_wins_over_the_file(file: Path) -> None:
    file.write_text("settle = 1\nexpire_time = 10\ncheck_time = 20\n")
    os.environ |= {"MSILO_SETTLE": "2", "MSILO_EXPIRE_TIME": "11"}
    loaded = load(file, {"settle": 3.0, "expire_time": None, "domain": ()})
    assert (loaded.config.settle, loaded.config.expire_time, loaded.config.check_time) == (3.0, 11, 20)
    assert loaded.config.clean_period == 10
    assert loaded.file == file
    assert {key: loaded.origins[key] for key in ("settle", "expire_time", "check_time", "clean_period", "domain")} == {
        "settle": "flag --settle",
        "expire_time": "environment MSILO_EXPIRE_TIME",
        "check_time": str(file),
        "clean_period": "default",
        "domain": "default",
    }


def test_lists_in_the_file_in_the_environment_and_as_flags(file: Path) -> None:
    file.write_text('bind = ["udp:127.0.0.1:0", "UDP:[::1]:0"]\n')
    os.environ["MSILO_DOMAIN"] = "Home.lan., b.lan,"
    config = load(file, {"trusted": ("10.0.0.0/8", "192.0.2.1")}).config
    assert config.bind == ("udp:127.0.0.1:0", "udp:[::1]:0")
    assert config.domain == ("home.lan", "b.lan")
    assert config.trusted == ("10.0.0.0/8", "192.0.2.1/32")
    assert config.endpoints == (Endpoint("127.0.0.1", 0), Endpoint("::1", 0))
    assert config.networks == (ip_network("10.0.0.0/8"), ip_network("192.0.2.1/32"))


def test_the_file_may_be_named_by_the_environment(file: Path) -> None:
    file.write_text("settle = 1\n")
    os.environ["MSILO_CONFIG"] = str(file)
    assert load(None, {}).config.settle == 1


def test_the_default_file_is_read_where_there_is_one() -> None:
    default_file().parent.mkdir(parents=True)
    default_file().write_text("settle = 4\n")
    loaded = load(None, {})
    assert (loaded.config.settle, loaded.file) == (4, default_file())


def test_an_empty_proxy_is_none() -> None:
    os.environ["MSILO_OUTBOUND_PROXY"] = ""
    assert load(None, {}).config.outbound_proxy is None


def test_the_database_file() -> None:
    assert load(None, {"db_url": "sqlite:////var/lib/silo.db"}).config.db_file == Path("/var/lib/silo.db")
    assert load(None, {"db_url": "sqlite:///silo.db"}).config.db_file == Path.cwd() / "silo.db"
    assert load(None, {"db_url": "sqlite:///~/silo.db"}).config.db_file == Path.home() / "silo.db"


def test_what_is_allowed_and_hardly_meant_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(None, {}).warnings == ()
    monkeypatch.setenv("MSILO_SETLE", "3")
    (warning,) = load(None, {}).warnings
    assert "MSILO_SETLE" in warning
    monkeypatch.delenv("MSILO_SETLE")
    (warning,) = load(None, {"bind": ("udp:0.0.0.0:5070",)}).warnings
    assert "--trusted" in warning
    assert load(None, {"bind": ("udp:0.0.0.0:5070",), "trusted": ("192.168.1.0/24",)}).warnings == ()


def test_a_level_in_capitals_and_a_network_with_host_bits() -> None:
    assert load(None, {"log_level": "INFO"}).config.log_level == "info"
    assert "write 192.168.1.0/24, or 192.168.1.1 for this host alone" in wrong(trusted=("192.168.1.1/24",))


def test_a_configuration_cannot_be_changed() -> None:
    config = load(None, {}).config
    with pytest.raises(ValueError, match="frozen"):
        config.settle = 3


BAD = [
    ("bind", "127.0.0.1:5070", "is not of the form"),
    ("bind", "ws:127.0.0.1:5070", "only udp, tcp, tls are served"),
    ("bind", "udp:localhost:5070", "not an IP address"),
    ("bind", "udp:127.0.0.1:65536", "not a port"),
    ("bind", ",", "names no address"),
    ("domain", "a b", "is not a host name"),
    ("domain", "user@home.lan", "is not a host name"),
    ("domain", "home.lan:5060", "is not a host name"),
    ("domain", "home.lan;transport=udp", "is not a host name"),
    ("outbound_proxy", "sip:127.0.0.1;transport=ws", "asks for ws, but only udp, tcp, tls are spoken"),
    ("registrar", "sip:127.0.0.1;transport=sctp", "asks for sctp"),
    ("trusted", "192.168.1.5/24", "has host bits set"),
    ("trusted", "home.lan", "does not appear to be"),
    ("outbound_proxy", "127.0.0.1:5060", "is not a SIP URI"),
    ("outbound_proxy", "tel:+1", "is not a SIP URI"),
    ("db_url", "mysql://kamailio@localhost/kamailio", "is not of the form sqlite:///"),
    ("db_url", "sqlite:///", "is not of the form sqlite:///"),
    ("db_url", "sqlite:///:memory:", "is not of the form sqlite:///"),
    ("expire_time", "0", "greater than or equal to 1"),
    ("expire_time", "3 days", "valid integer"),
    ("check_time", "0", "greater than or equal to 1"),
    ("clean_period", "0", "greater than or equal to 1"),
    ("settle", "-0.1", "greater than or equal to 0"),
    ("settle", "61", "less than or equal to 60"),
    ("settle", "nan", ""),
    ("max_in_flight", "0", "greater than or equal to 1"),
    ("max_in_flight", "501", "less than or equal to 500"),
    ("history_time", "1", "greater than or equal to 300"),
    ("log_level", "loud", "should be 'debug', 'info', 'warning' or 'error'"),
]


@pytest.mark.parametrize(("key", "value", "words"), BAD)
def test_a_wrong_value_names_its_key_and_its_source(key: str, value: str, words: str, file: Path) -> None:
    name = f"MSILO_{key.upper()}"
    flag = wrong(None, **{key: value})
    assert f"{key} = " in flag
    assert f"(from flag --{key.replace('_', '-')})" in flag
    assert words in flag
    file.write_text(f'{key} = "{value}"\n')
    assert f"(from {file})" in wrong(file)
    file.write_text("")
    os.environ[name] = value
    assert f"(from environment {name})" in wrong(file)
    assert "\n" not in wrong(file)


@pytest.mark.parametrize(
    ("key", "words"),
    [("settel", "did you mean settle?"), ("outbound-proxy", "did you mean outbound_proxy?"), ("zzz", "lists the keys")],
)
def test_an_unknown_key_of_the_file_is_named_with_a_suggestion(file: Path, key: str, words: str) -> None:
    file.write_text(f"{key} = 1\n")
    said = wrong(file)
    assert said.startswith(f"{key} (from {file}) is not a setting")
    assert words in said


def test_a_file_that_was_named_must_be_there(file: Path) -> None:
    assert wrong(file) == f"the configuration file {file} does not exist"
    os.environ["MSILO_CONFIG"] = str(file)
    assert wrong() == f"the configuration file {file} does not exist"


@pytest.mark.parametrize("content", [b"settle = ", b"settle = 1\nsettle = 2", b"\xff"])
def test_a_file_that_cannot_be_read_is_named(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert wrong(file).startswith(f"the configuration file {file} cannot be read: ")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"bind": ("udp:127.0.0.1:5070", "tls:127.0.0.1:5061")}, "tls_certificate is not set; tls: in bind needs one"),
        ({"tls_key": "key.pem"}, "tls_key is set without tls_certificate"),
    ],
)
def test_tls_needs_a_certificate(flags: dict[str, Any], words: str) -> None:
    assert words in wrong(**flags)


def test_where_streams_are_spoken() -> None:
    flags = {"bind": ("tcp:127.0.0.1:5060", "TLS:[::1]:5061"), "tls_certificate": "~/silo.pem", "tls_key": ""}
    config = load(None, flags | {"outbound_proxy": "sips:pbx.home.lan"}).config
    assert config.endpoints == (Endpoint("127.0.0.1", 5060, "tcp"), Endpoint("::1", 5061, "tls"))
    assert config.door.tls.certificate == Path.home() / "silo.pem"
    assert config.door.tls.named == (Path.home() / "silo.pem",)
