"""Accounts as a person keeps them: the command, its file, what `check` says, and that nothing tells a password."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import select
import stat
import subprocess
import termios
from pathlib import Path
from typing import Any

import pytest

from msilo_lite.errors import ConfigError
from msilo_lite.settings.access import read_accounts
from msilo_lite.settings.config import Config
from msilo_lite.settings.sources import load

from . import harness
from .harness import Ran, Serve

WORD = "correct horse"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    made = tmp_path / "silo.toml"
    made.write_text(f'domain = ["home.lan", "work.lan"]\naccounts_file = "{tmp_path}/keys/accounts"\n')
    return made


def account(folder: Path, *words: str, given: str = "") -> Ran:
    """The command with something in its pipe."""
    ended = subprocess.run(
        [*harness.COMMAND, "account", *words], cwd=folder, env=harness.environment(folder), input=given.encode(),
        capture_output=True, timeout=20, check=False,
    )  # fmt: skip
    return Ran(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def line(name: str, word: str = WORD, realm: str = "home.lan", algorithm: str = "md5") -> str:
    return f"{name}:{realm}:{hashlib.new(algorithm, f'{name}:{realm}:{word}'.encode()).hexdigest()}"


def test_an_account_is_set_changed_listed_and_removed(tmp_path: Path, config: Path) -> None:
    file = tmp_path / "keys" / "accounts"
    assert account(tmp_path, "list", "-c", str(config)).code == 2, "there is no file yet"
    made = account(tmp_path, "set", "bob", "-c", str(config), given=f"{WORD}\n")
    assert (made.code, made.err) == (0, "")
    assert made.out.startswith("bob may come as bob@home.lan from anywhere")
    assert file.read_text().splitlines() == [line("bob", algorithm="sha256"), line("bob")]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert account(tmp_path, "set", "ann@work.lan", "-c", str(config), given="other").code == 0
    assert account(tmp_path, "set", "bob", "-c", str(config), given="new").code == 0
    assert len(file.read_text().splitlines()) == 4
    listed = json.loads(account(tmp_path, "list", "--json", "-c", str(config)).out)
    both = ["MD5", "SHA-256"]
    assert listed == [
        {"name": "ann@work.lan", "user": "ann@work.lan", "algorithms": both},
        {"name": "bob", "user": "bob@home.lan", "algorithms": both},
    ]
    assert account(tmp_path, "remove", "bob", "-c", str(config)).code == 0
    assert [one.partition(":")[0] for one in file.read_text().splitlines()] == ["ann@work.lan"] * 2
    gone = account(tmp_path, "remove", "bob", "-c", str(config))
    assert (gone.code, "no account bob" in gone.sentence) == (3, True)
    assert [one.name for one in tmp_path.glob("keys/*")] == ["accounts"], "nothing is left lying about"


@pytest.mark.parametrize(
    ("words", "given", "says"),
    [
        (("set", "bob@elsewhere.lan"), WORD, "elsewhere.lan is not a domain of ours"),
        (("set", "bo:b"), WORD, "is not the name of a user"),
        (("set", 'bo"b'), WORD, "bo"),
        (("set", "bob"), "", "an empty password keeps nobody out"),
        (("set", "bob"), "\nsecond line", "an empty password keeps nobody out"),
    ],
)
def test_what_is_wrong_is_said_and_writes_nothing(
    tmp_path: Path, config: Path, words: tuple[str, ...], given: str, says: str
) -> None:
    ran = account(tmp_path, *words, "-c", str(config), given=given)
    assert ran.code == 2
    assert says in ran.sentence
    assert WORD not in ran.err + ran.out
    assert not (tmp_path / "keys" / "accounts").exists()


def test_without_a_file_the_next_step_is_said(tmp_path: Path) -> None:
    ran = account(tmp_path, "set", "bob", given=WORD)
    assert (ran.code, "accounts_file is not set; write accounts_file = " in ran.sentence) == (2, True)


def test_on_a_terminal_the_password_is_asked_for_unseen(tmp_path: Path, config: Path) -> None:
    leader, follower = pty.openpty()
    argv = [*harness.COMMAND, "account", "set", "bob", "-c", str(config)]
    child = subprocess.Popen(
        argv, cwd=tmp_path, env=harness.environment(tmp_path), stdin=follower, stdout=follower, stderr=follower,
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(follower)
    shown = b""
    try:
        for prompt in (b"Password of bob: ", b"Again: "):
            while prompt not in shown:
                assert select.select([leader], [], [], 20)[0], shown
                shown += os.read(leader, 1000)
            os.write(leader, f"{WORD}\n".encode())
        assert child.wait(20) == 0
        shown += os.read(leader, 1000)
    finally:
        child.kill()
        child.wait()
        os.close(leader)
    assert WORD.encode() not in shown
    assert (tmp_path / "keys" / "accounts").read_text().splitlines()[1] == line("bob")


# -- the file --------------------------------------------------------------------------------------------------------
def keys(folder: Path, *lines: str, mode: int = 0o600) -> Path:
    made = folder / "accounts"
    made.write_text("\n".join(lines) + "\n")
    made.chmod(mode)
    return made


def test_passwords_and_hashes_may_stand_in_one_file(tmp_path: Path) -> None:
    file = keys(tmp_path, "# who may come", "", f"bob:{WORD}", line("ann"), line("ann", algorithm="sha256"))
    found = {one.name: one.secrets("home.lan") for one in read_accounts(file, "home.lan")}
    assert found["ann"] == {
        "MD5": line("ann").rpartition(":")[2], "SHA-256": line("ann", algorithm="sha256").rpartition(":")[2]
    }  # fmt: skip
    assert found["bob"]["MD5"] == line("bob").rpartition(":")[2]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["bob"], "line 1: neither name:password nor name:realm:HA1"),
        (["", "bob:"], "line 2: neither"),
        ([f"bob:{WORD}:more"], "line 1: neither"),
        ([line("bob", realm="old.lan")], "line 1: its realm is old.lan, and ours is home.lan"),
        ([f"bob:{WORD}", f"bob:{WORD}"], "line 2: this name stands there twice"),
        (["bob:home.lan:" + "z" * 32], "ha1 is 32"),
        (['b"b:word'], "is not the name of a user"),
    ],
)
def test_a_wrong_line_is_named_and_never_shown(tmp_path: Path, lines: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_accounts(keys(tmp_path, *lines), "home.lan")
    assert says in str(caught.value)
    assert WORD not in str(caught.value)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = keys(tmp_path, f"bob:{WORD}", mode=mode)
    with pytest.raises(ConfigError) as caught:
        read_accounts(file, "home.lan")
    assert str(caught.value) == f"accounts_file {file} can be read by others (mode {mode:04o}); chmod 600 {file}"


def test_the_silo_does_not_start_with_such_a_file(tmp_path: Path, config: Path) -> None:
    (tmp_path / "keys").mkdir()
    file = keys(tmp_path / "keys", f"bob:{WORD}", mode=0o644)
    ran = harness.run(tmp_path, "serve", "--bind", "udp:127.0.0.1:0", "-c", str(config))
    assert (ran.code, ran.sentence) == (
        2, f"msilo-lite: accounts_file {file} can be read by others (mode 0644); chmod 600 {file}"
    )  # fmt: skip
    found = harness.run(tmp_path, "check", "-c", str(config))
    assert (found.code, "wrong\taccounts" in found.out) == (2, True)


# -- never shown -----------------------------------------------------------------------------------------------------
ACCOUNTS = json.dumps([{"name": "bob", "password": WORD}, {"name": "ann", "ha1": ["0123456789abcdef" * 2]}])
SECRETS = (WORD, "0123456789abcdef")


def shows_none(*texts: object) -> None:
    for text in texts:
        assert not any(secret in str(text) for secret in SECRETS), text


def test_passwords_are_never_shown(tmp_path: Path) -> None:
    made = tmp_path / "silo.toml"
    made.write_text(f'domain = "home.lan"\nauth_algorithms = "MD5"\naccount = \'{ACCOUNTS}\'\nlog_level = "debug"\n')
    made.chmod(0o600)
    for words in (("config", "show"), ("config", "show", "--json"), ("check",), ("account", "list"), ("status",)):
        ran = harness.run(tmp_path, *words, "-c", str(made))
        shows_none(ran.out, ran.err)
    shown = harness.run(tmp_path, "config", "show", "--json", "-c", str(made)).json()
    assert shown["account"]["value"] == [{"name": "bob"}, {"name": "ann"}]
    with Serve(tmp_path, "-c", str(made)) as silo:
        pass
    shows_none(silo.out, silo.log)
    config = load(made, {}).config
    shows_none(config, repr(config), config.account, config.model_dump(), config.model_dump_json())


@pytest.mark.parametrize(
    "wrong",
    [
        [{"name": "bob", "password": WORD, "extra": 1}],
        [{"name": 'b"b', "password": WORD}],
        [{"name": "bob", "password": [WORD]}],
        [{"name": "bob", "password": WORD, "ha1": "0123456789abcdef" * 2}],
        [{"name": "bob", "ha1": "0123456789abcdef"}],
        [WORD],
        WORD,
        {"password": WORD},
    ],
)
def test_an_error_shows_no_password_either(tmp_path: Path, wrong: Any) -> None:
    made = tmp_path / "silo.toml"
    value = json.dumps(wrong)
    made.write_text(f"domain = \"home.lan\"\naccount = '{value}'\n")
    for more in ((), (f"account={value}",)):
        with pytest.raises(ConfigError) as caught:
            load(made, {}, more)
        assert str(caught.value).startswith("account (from ")
        shows_none(caught.value, repr(caught.value.__cause__), repr(caught.value.__context__))


def test_check_tells_what_accounts_lack(tmp_path: Path) -> None:
    made = tmp_path / "silo.toml"
    made.write_text(f"domain = \"home.lan\"\nadd_date = 0\naccount = '{ACCOUNTS}'\n")
    made.chmod(0o644)
    ran = harness.run(tmp_path, "check", "-c", str(made))
    assert ran.code == 1
    assert f"warning\taccounts\t{made} holds passwords and can be read by others; chmod 600 {made}\n" in ran.out
    assert "warning\taccounts\tone of them has no SHA-256, so all are asked for MD5" in ran.out
    assert "ok\taccounts\t2 in the realm home.lan\n" in ran.out


def test_algorithms_are_those_that_everybody_has() -> None:
    """More would tell by the questions who has an account of the old kind."""
    both, old = {"SHA-256": "a", "MD5": "b"}, {"MD5": "c"}
    config = Config.model_validate({"domain": "home.lan"})
    assert config.algorithms({"bob": both}) == ("SHA-256", "MD5")
    assert config.algorithms({"bob": both, "ann": old}) == ("MD5",)
    with pytest.raises(ConfigError, match="no algorithm"):
        config.algorithms({"bob": {"SHA-256": "a"}, "ann": old})
    turned = Config.model_validate({"domain": "home.lan", "auth_algorithms": "md5, sha-256"})
    assert turned.algorithms({"bob": both}) == ("MD5", "SHA-256")
