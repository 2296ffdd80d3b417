"""`init --systemd`: a unit that fits the configuration, judged by systemd's own tools."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from . import harness
from .harness import run

PROXY = 'outbound_proxy = "sip:192.168.1.10:5060"'
DATABASE = 'db_url = "sqlite:////var/lib/msilo-lite/silo.sqlite"'
EXPOSED = 1.6
"What `systemd-analyze security` may say at the most, of 10."


def analyze(*words: str) -> str:
    """systemd-analyze, which has to be content."""
    if shutil.which("systemd-analyze") is None:
        harness.missing("systemd-analyze")
    ran = subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=30, check=False)
    assert ran.returncode == 0, ran
    return ran.stdout + ran.stderr


def written(folder: Path, *lines: str) -> tuple[Path, str]:
    """A unit for a configuration of these lines, and its text."""
    (folder / "silo.toml").write_text("\n".join(lines))
    (folder / "silo.toml").chmod(0o644)
    unit = folder / "msilo-lite.service"
    ran = run(folder, "init", "--systemd", "--config", str(folder / "silo.toml"), "-o", str(unit))
    assert ran.code == 0, ran
    return unit, unit.read_text()


def values(text: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)


@pytest.mark.parametrize(
    "lines",
    [
        (),
        (DATABASE, PROXY),
        (DATABASE, 'bind = ["udp:0.0.0.0:5060", "udp:[::]:5060"]', 'trusted = ["10.0.0.0/8", "fd00::/8"]', PROXY),
        (DATABASE, 'bind = ["udp:127.0.0.1:567"]'),
        (DATABASE, 'store_hook = ["/usr/bin/push"]', PROXY),
        (DATABASE, 'user = "silo"', 'password_file = "/etc/msilo lite/100%"', 'registrar = "sip:192.168.1.10"', PROXY),
    ],
    ids=["nothing", "proxy", "anywhere", "low port", "hook", "extension"],
)
def test_systemd_is_content(tmp_path: Path, lines: tuple[str, ...]) -> None:
    unit, _ = written(tmp_path, *lines)
    assert analyze("verify", "--man=no", str(unit)).strip() == ""
    score = re.search(
        r"exposure level for msilo-lite.service: ([\d.]+)", analyze("security", "--offline=true", str(unit))
    )
    assert score is not None
    least_for = 2.2 if "store_hook" in str(lines) or not lines or "567" in str(lines) else EXPOSED
    assert float(score[1]) <= least_for, score[0]


def test_what_it_runs_and_how(tmp_path: Path) -> None:
    _, text = written(tmp_path, DATABASE, PROXY)
    (start,) = values(text, "ExecStart")
    assert start.endswith(f" serve --no-supervise --config {tmp_path}/silo.toml")
    assert Path(start.split()[0]).is_absolute()
    assert values(text, "ExecReload")[0].endswith(f" config validate {tmp_path}/silo.toml")
    assert "kill -HUP $MAINPID" in values(text, "ExecReload")[1]
    for name, value in {
        "Type": "notify",
        "WatchdogSec": "60",
        "DynamicUser": "yes",
        "StateDirectory": "msilo-lite",
        "ProtectSystem": "strict",
        "NoNewPrivileges": "yes",
        "CapabilityBoundingSet": "",
        "MemoryDenyWriteExecute": "yes",
        "IPAddressDeny": "any",
    }.items():
        assert values(text, name) == [value], name
    assert int(values(text, "TimeoutStopSec")[0]) > 34  # the daemon's own patience with phones


def test_only_who_is_trusted_may_be_spoken_to(tmp_path: Path) -> None:
    lines = ('trusted = ["127.0.0.0/8", "10.1.0.0/16"]', PROXY, "[[peer]]", 'address = "10.2.0.1"')
    _, text = written(tmp_path, DATABASE, *lines)
    assert values(text, "IPAddressAllow") == ["localhost 127.0.0.0/8 10.1.0.0/16 10.2.0.1/32 192.168.1.10"]


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ((), "whatever Contact a phone registers"),
        (('outbound_proxy = "sip:pbx.home.lan"',), "sip:pbx.home.lan is a name"),
        ((PROXY, 'user = "silo"', 'registrar = "sip:pbx.home.lan"'), "sip:pbx.home.lan is a name"),
        ((PROXY, 'store_hook = ["/usr/bin/push"]'), "whom the store_hook calls"),
    ],
)
def test_a_filter_that_would_lose_messages_is_left_out_and_says_why(
    tmp_path: Path, lines: tuple[str, ...], why: str
) -> None:
    _, text = written(tmp_path, DATABASE, *lines)
    assert values(text, "IPAddressDeny") == []
    assert re.search(rf"^# IPAddressDeny is left out: .*{re.escape(why)}", text, re.MULTILINE)


def test_a_low_port_gets_the_one_capability_for_it(tmp_path: Path) -> None:
    _, text = written(tmp_path, DATABASE, 'bind = ["udp:127.0.0.1:567"]')
    assert values(text, "AmbientCapabilities") == ["CAP_NET_BIND_SERVICE"]
    assert values(text, "PrivateUsers") == []


def test_secrets_are_credentials(tmp_path: Path) -> None:
    lines = ('user = "silo"', 'password_file = "/etc/msilo-lite/password"')
    _, text = written(tmp_path, DATABASE, *lines)
    assert values(text, "LoadCredential") == ["password_file:/etc/msilo-lite/password"]
    assert "MSILO_PASSWORD_FILE=%d/password_file" in values(text, "Environment")


def test_a_password_in_the_file_is_told_and_never_written(tmp_path: Path) -> None:
    (tmp_path / "silo.toml").write_text(f'{DATABASE}\nuser = "silo"\npassword = "opensesame"\n')
    (tmp_path / "silo.toml").chmod(0o600)
    ran = run(tmp_path, "init", "--systemd", "--config", str(tmp_path / "silo.toml"))
    assert ran.code == 0
    assert "name that one with password_file" in ran.err
    assert f"chmod 644 {tmp_path}/silo.toml" in ran.err
    assert "opensesame" not in ran.out + ran.err


def test_a_file_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "silo.toml").write_text('db_url = "sqlite:////srv/silo.sqlite"')
    ran = run(tmp_path, "init", "--systemd", "--config", str(tmp_path / "silo.toml"))
    assert (ran.code, ran.out) == (2, "")
    assert "/srv/silo.sqlite, where the service may not write" in ran.sentence
    assert DATABASE in ran.sentence


def test_without_a_database_it_names_one_and_says_so(tmp_path: Path) -> None:
    ran = run(tmp_path, "init", "--systemd")
    assert ran.code == 0
    assert "MSILO_DB_URL=sqlite:////var/lib/msilo-lite/silo.sqlite" in ran.out
    assert f"set {DATABASE} in the configuration file" in ran.err


def test_the_file_it_writes(tmp_path: Path) -> None:
    unit, text = written(tmp_path, DATABASE)
    assert unit.stat().st_mode & 0o777 == 0o644
    ran = run(tmp_path, "init", "--systemd", "-o", str(unit))
    assert ran.code == 2
    assert unit.read_text() == text
    assert run(tmp_path, "init", "--systemd", "-o", str(unit), "--force").out.endswith(
        "Next: systemctl daemon-reload && systemctl enable --now msilo-lite\n"
    )


# -- config validate ---------------------------------------------------------------------------------------------------
def test_a_configuration_that_is_fine(tmp_path: Path) -> None:
    file = tmp_path / "silo.toml"
    file.write_text(PROXY)
    assert run(tmp_path, "config", "validate", str(file)).out == f"{file} is fine, 1 settings are set.\n"


@pytest.mark.parametrize("text", ["bind = [", 'bind = ["tcp:127.0.0.1"]', "nonsense = 1", 'watch = "reg"'])
def test_a_configuration_that_is_not(tmp_path: Path, text: str) -> None:
    file = tmp_path / "silo.toml"
    file.write_text(text)
    ran = run(tmp_path, "config", "validate", str(file))
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.sentence.splitlines()) == 1


def test_a_configuration_that_is_hardly_meant(tmp_path: Path) -> None:
    file = tmp_path / "silo.toml"
    file.write_text('bind = ["udp:0.0.0.0:5070"]')
    ran = run(tmp_path, "config", "validate", str(file))
    assert ran.code == 0
    assert "only this machine is trusted" in ran.err
