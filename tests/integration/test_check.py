"""What an operator asks before and after a start: `check`, `stats`, `config show`, `init`, and what `serve` refuses."""

import json
import re
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from msilo_lite.box.message import Turn
from msilo_lite.box.store import Store
from msilo_lite.cli.checks import findings
from msilo_lite.cli.verdicts import WRONG, Finding
from msilo_lite.settings.config import Config
from msilo_lite.settings.sources import Loaded, load
from tests.waiting import until

from . import harness
from .harness import Peer, Ran, Serve, on, query, waiting
from .samples import NOW, message
from .test_kamailio_file import KAMAILIO

MSILO = ("stored_messages", "dumped_messages", "failed_messages", "dumped_reminders", "failed_reminders")
"The statistics of the original."
QUIET = ("--set", "add_date=0", "--set", "max_messages=100")
"What leaves nothing to warn of."
DEFAULTS = "ok\tsettings\tdefaults, no configuration file\n"
ADD_DATE = (
    "warning\tadd_date\ttexts are changed: their first words tell when they were written, in this machine's time "
    "(UTC), and no zone is named; add_date = 0 leaves them as they came\n"
)
NO_LIMIT = "warning\tmin_free\tno limit is set: anybody who may write to a user can fill the disk\n"


def found(folder: Path, **chosen: object) -> list[Finding]:
    """What `check` finds with these settings, without the process around it."""
    empty = folder / "empty.toml"
    empty.touch()
    values = {"db_url": f"sqlite:///{folder}/silo.sqlite", "add_date": 0, "max_messages": 100, **chosen}
    return list(findings(load(empty, values)))


def told(folder: Path, **chosen: object) -> list[tuple[str, str, str]]:
    """The same, without what is fine."""
    return [(one.level, one.about, one.words) for one in found(folder, **chosen) if one.level != "ok"]


# -- check: the process ------------------------------------------------------------------------------------------------
def test_check_of_a_new_installation(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    ran = harness.run(tmp_path, "check", "--offline", *on(file), env={"TZ": "UTC"})
    fine = f"ok\tdatabase\t{file} does not exist yet; `serve` makes it\n"
    assert ran == Ran(1, DEFAULTS + ADD_DATE + fine, "")
    wide = harness.run(tmp_path, "check", "--offline", *on(file), "--set", "add_date=0", "--set", "min_free=0")
    assert wide == Ran(1, DEFAULTS + NO_LIMIT + fine, "")
    assert harness.run(tmp_path, "check", "--offline", *on(file), *QUIET) == Ran(0, DEFAULTS + fine, "")
    assert not file.exists()  # it only looks


def test_check_beside_a_daemon_and_after_it(tmp_path: Path) -> None:
    with Serve(tmp_path) as silo, Peer("alice", silo.address) as alice:
        alice.write("bob", "hello")
        up = harness.run(tmp_path, "check", "--offline", *on(silo.file), *QUIET)
        silo.stop()
    assert up == Ran(0, f"{DEFAULTS}ok\tdatabase\t{silo.file}, 1 waiting, a daemon serves it\n", "")
    down = harness.run(tmp_path, "check", "--offline", *on(silo.file), *QUIET).out
    assert down == f"{DEFAULTS}ok\tdatabase\t{silo.file}, 1 waiting, no daemon serves it; `msilo-lite serve` does\n"


def damaged(file: Path) -> bytes:
    """Spoil one page of an index; the file as it is then."""
    with closing(Store(file)) as store:
        store.write(Turn(new=[message(str(n)) for n in range(50)]), NOW)
    ((page,),) = query(file, "SELECT rootpage FROM sqlite_master WHERE name = 'msilo_end_idx'")
    spoiled = bytearray(file.read_bytes())
    spoiled[(page - 1) * 4096 : page * 4096] = b"\xaa" * 4096
    file.write_bytes(spoiled)
    return bytes(spoiled)


def test_check_of_a_damaged_file_is_exit_2_and_names_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    spoiled = damaged(file)
    ran = harness.run(tmp_path, "check", "--offline", *on(file), *QUIET, "--json")
    assert (ran.code, ran.err) == (2, "")
    settings, database = json.loads(ran.out)
    assert settings == {"level": "ok", "about": "settings", "words": "defaults, no configuration file"}
    assert (database["level"], database["about"]) == ("wrong", "database")
    assert re.fullmatch(
        rf"{file} is damaged \(.+\); stop the daemon, keep a copy, then `sqlite3 FILE \.recover`", database["words"]
    )
    assert file.read_bytes() == spoiled  # it mends nothing on its own
    file.write_bytes(spoiled[:-8192])
    ((level, _, words),) = told(tmp_path)
    assert (level, words.partition(";")[0]) == ("wrong", f"cannot open {file}: database disk image is malformed")


def test_check_says_what_is_damaged(tmp_path: Path) -> None:
    damaged(tmp_path / "silo.sqlite")
    ((_, _, words),) = told(tmp_path)
    assert "*** in database" not in words


def test_a_person_sees_the_findings_as_a_table(tmp_path: Path) -> None:
    settings = ("--set", "min_free=0")
    ran = harness.run_on_terminal(tmp_path, "check", "--offline", *on(tmp_path / "silo.sqlite"), *settings, columns=70)
    assert ran.code == 1
    assert "\x1b[33mwarning" in ran.out
    plain = re.sub(r"\x1b\[[\d;]*m", "", ran.out)
    assert re.search(r"^warning +min_free +no limit is set", plain, re.MULTILINE)
    assert all(len(one) <= 70 for one in plain.splitlines())


def test_settings_that_are_wrong_are_said_before_anything_is_looked_at(tmp_path: Path) -> None:
    ran = harness.run(tmp_path, "check", "--offline", *on(tmp_path / "silo.sqlite"), "--set", "settle=soon")
    assert (ran.code, ran.out) == (2, "")
    assert ran.sentence.startswith("msilo-lite: settle = 'soon' (from option --set): ")


# -- check: each finding -----------------------------------------------------------------------------------------------
TRAPS = [
    ({"add_date": 1}, "warning", "add_date", "texts are changed: their first words tell when they were written"),
    ({"max_messages": 0, "min_free": 0}, "warning", "min_free", "no limit is set: anybody who may write to a user"),
    (
        {"snd_time_avp": "$hdr(X-At)"}, "wrong", "send_time",
        "0: requests with a send time are refused (400); set it to 10, say",
    ),
    ({"from_address": "sip:silo@home.lan"}, "warning", "offline_message", "is not set, so no notices are sent"),
    (
        {"offline_message": "away", "content_type_hdr": "Content-Type: text/plain"}, "warning", "from_address",
        "is not set, so no notices are sent",
    ),
    ({"add_contact": 1}, "warning", "add_contact", "RFC 3428 4 forbids a Contact in a MESSAGE; some phones refuse it"),
    (
        {"skip_notification_flag": 5}, "warning", "skip_notification_flag",
        "no peer has control = true, so nobody can set a flag in X-MSilo-Flags",
    ),
    (
        {"bind": ("udp:0.0.0.0:5070",)}, "warning", "settings",
        "udp:0.0.0.0:5070 can be reached from outside, but only this machine is trusted: see --trusted",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("chosen", "level", "about", "words"), TRAPS)
def test_every_trap_is_told_once(tmp_path: Path, chosen: dict[str, object], level: str, about: str, words: str) -> None:
    ((level_found, about_found, words_found),) = told(tmp_path, **chosen)
    assert (level_found, about_found) == (level, about)
    assert words_found.startswith(words)


def test_what_is_set_on_purpose_is_no_trap(tmp_path: Path) -> None:
    peer = '[{"address": "192.0.2.1", "control": true}]'
    assert told(tmp_path, snd_time_avp="$hdr(X-At)", send_time=10, skip_notification_flag=5, peer=peer) == []


def test_a_variable_that_is_no_setting(tmp_path: Path) -> None:
    ran = harness.run(tmp_path, "check", "--offline", *on(tmp_path / "silo.sqlite"), *QUIET, env={"MSILO_SETLE": "1"})
    assert ran.code == 1
    assert "warning\tsettings\tMSILO_SETLE in the environment is not a setting and does nothing\n" in ran.out


def test_a_place_where_no_file_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch(0o644)
    ((level, about, words),) = told(tmp_path, db_url=f"sqlite:///{tmp_path}/file/silo.sqlite")
    assert (level, about) == ("wrong", "database")
    assert words == f"{tmp_path}/file/silo.sqlite cannot be made: {tmp_path}/file is no folder"


def test_a_place_below_a_program(tmp_path: Path) -> None:
    (tmp_path / "program").touch(0o755)
    assert [one.level for one in found(tmp_path, db_url=f"sqlite:///{tmp_path}/program/silo.sqlite")][-1] == WRONG


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    file.write_text("no database, only text\n" * 50)
    assert told(tmp_path) == [
        (
            "wrong", "database",
            f"cannot open {file}: file is not a database; `msilo-lite check` again after mending, nothing was changed",
        )
    ]  # fmt: skip
    assert file.read_text() == "no database, only text\n" * 50


def test_a_file_of_kamailio_before_the_first_start_is_not_wrong(tmp_path: Path) -> None:
    harness.change(tmp_path / "silo.sqlite", KAMAILIO)
    assert [level for level, _, _ in told(tmp_path) if level == "wrong"] == []


def test_a_file_of_a_newer_version_and_a_table_that_is_not_msilos(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    Store(file).close()
    ((_, _, words),) = told(tmp_path, sc_body="words")
    assert words.startswith(
        "the table silo has no column words; db_table and the sc_... settings name table and columns"
    )
    harness.change(file, "UPDATE version SET table_version = 7 WHERE table_name = 'silo'")
    ((_, _, words),) = told(tmp_path)
    assert words.startswith("the table silo is version 7, and msilo-lite knows version 8")
    harness.change(file, "PRAGMA user_version = 99")
    ((level, _, words),) = told(tmp_path)
    assert (level, f"{file} has schema 99" in words) == ("wrong", True)


def test_a_warning_ends_when_its_cause_does(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    with closing(Store(file)) as store:
        store.write(Turn(new=[message("dumped by a Kamailio")]), NOW)
    harness.change(file, "DELETE FROM silo")
    assert [about for _, about, _ in told(tmp_path)] == ["table"]
    with Serve(tmp_path, "--check-time", "1", "--clean-period", "1") as silo:
        until(lambda: not told(tmp_path), 4, "the ledger knows that it is gone")
        assert silo.log == ""


# -- stats -------------------------------------------------------------------------------------------------------------
def test_stats_have_msilos_names_and_survive_a_restart(tmp_path: Path) -> None:
    with Serve(tmp_path, "--settle", "0") as silo, Peer("bob", silo.address) as bob:
        raw = bob.message("bob", "one", "the-same-call")
        assert [bob.ask(raw).code, bob.ask(raw).code] == [202, 202]
        bob.write("bob", "two")
        assert bob.ask(bob.request("MESSAGE", "bob", body=b"no type")).code == 400
        bob.register()
        bob.take(2)
        until(lambda: not waiting(silo.file), 5, "the box is empty")
        silo.stop()
    with Serve(tmp_path, "--settle", "0") as silo, Peer("bob", silo.address) as bob:
        bob.write("bob", "three")
        silo.stop()
    counted = harness.run(tmp_path, "stats", "--json", *on(silo.file)).json()
    assert list(counted)[:5] == list(MSILO)
    assert {name: counted[name] for name in MSILO} == {
        "stored_messages": 3, "dumped_messages": 2, "failed_messages": 0, "dumped_reminders": 0, "failed_reminders": 0,
    }  # fmt: skip
    assert (counted["refused_messages"], counted["refused_400"]) == (1, 1)
    plain = harness.run(tmp_path, "stats", *on(silo.file)).out
    assert plain.startswith("stored_messages\t3\ndumped_messages\t2\nfailed_messages\t0\n")
    assert [one.split("\t")[0] for one in plain.splitlines()] == list(counted)


def test_stats_of_an_empty_box_and_of_none(tmp_path: Path) -> None:
    file = tmp_path / "silo.sqlite"
    ran = harness.run(tmp_path, "stats", *on(file))
    assert (ran.code, ran.out) == (3, "")
    assert ran.sentence.startswith(f"msilo-lite: there is no database at {file}; ")
    Store(file).close()
    counted = harness.run(tmp_path, "stats", "--json", *on(file)).json()
    assert set(MSILO) <= set(counted)
    assert set(counted.values()) == {0}


def test_a_person_sees_the_names_of_msilo(tmp_path: Path) -> None:
    Store(tmp_path / "silo.sqlite").close()
    ran = harness.run_on_terminal(tmp_path, "stats", *on(tmp_path / "silo.sqlite"))
    assert "stored_messages" in ran.out


# -- config show -------------------------------------------------------------------------------------------------------
def test_config_show_tells_of_every_setting_where_it_came_from(tmp_path: Path) -> None:
    file = tmp_path / "silo.toml"
    file.write_text('settle = 2\nreminder = "sip:clock@home.lan"\n[[peer]]\naddress = "192.0.2.1"\ncontrol = true\n')
    env = {"MSILO_EXPIRE_TIME": "70", "MSILO_MAX_MESSAGES": "9", "TZ": "UTC"}
    words = (
        "config",
        "show",
        "--config",
        str(file),
        "--db-url",
        "sqlite:////x/y",
        "--set",
        "settle=3",
        "--set",
        "send_time= 10",
    )
    shown = harness.run(tmp_path, *words, "--json", env=env).json()
    assert set(shown) == set(Config.model_fields)
    origins = {name: one["from"] for name, one in shown.items() if one["from"] != "default"}
    assert origins == {
        "peer": str(file), "reminder": str(file), "expire_time": "environment MSILO_EXPIRE_TIME",
        "max_messages": "environment MSILO_MAX_MESSAGES", "db_url": "flag --db-url", "settle": "option --set",
        "send_time": "option --set",
    }  # fmt: skip
    assert (shown["settle"]["value"], shown["send_time"]["value"], shown["expire_time"]["value"]) == (3.0, 10, 70)
    assert shown["peer"]["value"] == [
        {"address": "192.0.2.1/32", "store": True, "wake": True, "replayed": True, "control": True}
    ]
    plain = harness.run(tmp_path, *words, env=env).out
    assert f"peer\t192.0.2.1/32 with control\t{file}\n" in plain
    assert "settle\t3.0\toption --set\n" in plain
    assert "db_table\tsilo\tdefault\n" in plain
    assert len(plain.splitlines()) == len(Config.model_fields)


# -- serve refuses -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("sette=1", "sette (from option --set) is not a setting; did you mean settle?"),
        (
            "snd_time_avp=$avp(x)",
            "snd_time_avp = '$avp(x)' (from option --set): $avp(x) is set by Kamailio's script; let a peer with "
            "control = true say it in a header of the request, and write that, such as $hdr(X-MSilo-Send-Time)",
        ),
        ("offline_message=away", r"offline_message needs content_type_hdr, such as 'Content-Type: text/plain\r\n'"),
        ("sc_from=dst_addr", "two of the sc_... settings name the same column"),
        (
            "extra_hdrs=Via: x",
            "extra_hdrs = 'Via: x' (from option --set): Via is written by the SIP stack; leave the line out, or "
            "name it X-Via",
        ),
    ],
)  # fmt: skip
def test_serve_refuses_what_cannot_work_with_exit_2_and_a_sentence(tmp_path: Path, item: str, words: str) -> None:
    file = tmp_path / "silo.sqlite"
    ran = harness.run(tmp_path, "serve", "--bind", "udp:127.0.0.1:0", *on(file), "--set", item)
    assert ran == Ran(2, "", f"msilo-lite: {words}\n")
    assert not file.exists()


# -- init --------------------------------------------------------------------------------------------------------------
@pytest.fixture
def written(tmp_path: Path) -> str:
    """What `init` prints."""
    ran = harness.run(tmp_path, "init")
    assert (ran.code, ran.err) == (0, "")
    return ran.out


def test_init_prints_every_setting_as_a_comment(written: str, tmp_path: Path) -> None:
    assert tomllib.loads(written) == {}
    assert re.findall(r"^# (\w+) =", written, re.MULTILINE) == [
        *(name for name in re.findall(r"^# (\w+) =", written, re.MULTILINE) if name in Config.model_fields),
        "address", "control",
    ]  # fmt: skip
    for name, field in Config.model_fields.items():
        if name != "peer":
            assert re.search(rf"^# {re.escape(field.description or '')}\n# {name} =", written, re.MULTILINE), name
    assert "# [[peer]]\n" in written


def test_init_with_every_comment_taken_away_is_the_default(written: str, tmp_path: Path) -> None:
    bare = re.sub(r"^# (?=\w+ =|\[\[peer)", "", written, flags=re.MULTILINE)
    file = tmp_path / "all.toml"
    file.write_text(bare)
    values = load(file, {}).config.model_dump(exclude={"db_url", "peer"})
    assert values == Config.model_validate({}).model_dump(exclude={"db_url", "peer"})


def test_serve_starts_with_what_init_wrote(tmp_path: Path) -> None:
    file = tmp_path / "new" / "silo.toml"
    assert harness.run(tmp_path, "init", "--output", str(file)).code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    with Serve(tmp_path, "--config", str(file)) as silo:
        assert f"settings: {file}\n" in silo.out


def test_init_overwrites_only_when_told_to(tmp_path: Path) -> None:
    file = tmp_path / "silo.toml"
    file.write_text("settle = 4\n")
    ran = harness.run(tmp_path, "init", "-o", str(file))
    assert (ran.code, ran.out, file.read_text()) == (2, "", "settle = 4\n")
    assert ran.sentence == f"msilo-lite: {file} exists already; --force overwrites it, --output names another"
    assert harness.run(tmp_path, "init", "-o", str(file), "--force").code == 0
    assert file.read_text().startswith("# Configuration of msilo-lite: ")


def test_init_with_force_keeps_the_file_to_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "silo.toml"
    file.touch(0o644)
    file.chmod(0o644)
    assert harness.run(tmp_path, "init", "-o", str(file), "--force").code == 0
    assert file.stat().st_mode & 0o077 == 0


def test_init_below_a_file_is_a_sentence_that_is_true(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = harness.run(tmp_path, "init", "-o", str(tmp_path / "file" / "silo.toml"))
    assert ran.code != 0
    assert "exists already" not in ran.sentence


def test_init_carries_a_kamailio_over(tmp_path: Path) -> None:
    script, made = tmp_path / "kamailio.cfg", tmp_path / "silo.toml"
    (tmp_path / "more.cfg").write_text('modparam("msilo", "max_messages", 7)\n')
    script.write_text(
        'loadmodule "msilo.so"\n'
        f'modparam("msilo", "db_url", "sqlite:///{tmp_path}/kamailio.sqlite")\n'
        'modparam("msilo", "db_table", "inbox")\n'
        'modparam("msilo", "add_date", 0)\n'
        'modparam("msilo", "snd_time_avp", "$avp(at)")\n'
        'include_file "more.cfg"\n'
        'request_route {\n    if (m_store("$ru")) { t_reply("202", "Accepted"); }\n}\n'
    )
    ran = harness.run(tmp_path, "init", "--from-kamailio", str(script), "--output", str(made))
    assert (ran.code, ran.out) == (0, "")
    settings = load(made, {}).config
    assert (settings.db_table, settings.add_date, settings.max_messages) == ("inbox", 0, 7)
    assert settings.snd_time_avp == "$hdr(X-MSilo-Send-Time)"
    assert settings.db_file.name == "kamailio.sqlite"
    problems = ran.sentence.splitlines()
    assert [one for one in problems if not one.startswith(f"msilo-lite: {script}, line ")] == []
    assert any("line 5: snd_time_avp lives in the script" in one for one in problems)
    assert any("line 8: m_store()" in one for one in problems), problems
    with Serve(tmp_path, "--config", str(made)) as silo:
        assert f"settings: {made}\n" in silo.out
    missing = harness.run(tmp_path, "init", "--from-kamailio", str(tmp_path / "no.cfg"))
    assert missing == Ran(1, "", f"msilo-lite: cannot read {tmp_path}/no.cfg: No such file or directory\n")


def test_findings_need_nothing_but_what_was_loaded(tmp_path: Path) -> None:
    """`check` opens no configuration on its own."""
    loaded = Loaded(Config.model_validate({"db_url": f"sqlite:///{tmp_path}/silo.sqlite"}), {}, None)
    assert [one.about for one in findings(loaded)] == ["settings", "add_date", "database"]
