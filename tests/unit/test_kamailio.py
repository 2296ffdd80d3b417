"""What a kamailio.cfg sets for msilo: the language as Kamailio reads it, and what is made of it.

Rules that surprise were tried with Kamailio 5.6.3, which printed the value, or told which lines it had read.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from msilo_lite.cli.kamailio import PARAMETERS, carry_over
from msilo_lite.settings.config import problem_with
from msilo_lite.settings.parameters import Parameters

FILE = "kamailio.cfg"
DATABASE = 'modparam("msilo", "db_url", "sqlite:////var/lib/kamailio/kamailio.sqlite")\n'
NONE: Mapping[str, str] = {}


def accept(name: str, value: str | int) -> None:
    """A silo that takes every value."""


def folder(files: Mapping[str, str]) -> Callable[[str], str]:
    """Files beside kamailio.cfg."""

    def read(name: str) -> str:
        if name not in files:
            raise FileNotFoundError(name)
        return files[name]

    return read


def settings(text: str, files: Mapping[str, str] = NONE) -> Mapping[str, str | int]:
    """What is carried over."""
    return carry_over(text, FILE, folder(files), accept).settings


def problems(text: str, files: Mapping[str, str] = NONE) -> tuple[str, ...]:
    """What is said of a text behind a first line that sets the database."""
    return carry_over(DATABASE + text, FILE, folder(files), problem_with).problems


def value(text: str, before: str = "") -> str | int | None:
    """What the text of a value stands for."""
    return settings(f'{before}\nmodparam("msilo", "from_address", {text})\n').get("from_address")


def test_the_parameters_are_those_of_our_settings_in_their_order() -> None:
    assert tuple(name for name in PARAMETERS if name != "db_url") == tuple(Parameters.model_fields)


# -- the language ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('"sip:bob@home.lan"', "sip:bob@home.lan"),
        ('""', ""),
        (r'"a\r\n\tb"', "a\r\n\tb"),
        (r'"a\\n"', r"a\n"),
        (r'"\"x\""', '"x"'),
        (r'"\x41\101\q/\/\a"', "AA\\q/\\/\a"),
        (r'"\xc3\xbc"', "ü"),
        (r'"\e\0"', r"\e\0"),
        (r'"nul\x00after"', "nul"),
        ('"line\ntwo"', "line\ntwo"),
        ('"cut\\\non"', "cuton"),
        ('"one" "two"\n\t"three"', "onetwothree"),
        ('"# no // comment /* here */"', "# no // comment /* here */"),
        (r"""'a\n"b'""", r'a\n"b'),
        ('"häßlich 😀"', "häßlich 😀"),
        ("60", 60),
        ("-1", -1),
        ("- 1", -1),
        ("0", 0),
        ("0x1F", 31),
        ("-0x10", -16),
        ("4294967296", 4294967296),
        ("yes", 1),
        ("off", 0),
        # said to be for Kamailio alone
        ("010", None),
        ("08", None),
        ("1e3", None),
        ("9" * 5000, None),
        ("NOWHERE", None),
        ("1 2", None),
        ('"one" /* no longer beside it */ "two"', None),
    ],
)
def test_values(text: str, meant: str | int | None) -> None:
    assert value(text) == meant


@pytest.mark.parametrize(
    ("before", "text", "meant"),
    [
        ('#!define A "x"', "A", "x"),
        ('#!def A "x"', "A", "x"),
        ('!!define A "x"', "A", "x"),
        ('#!define A "x" "y"', "A", "xy"),
        ('#!define A "x"', '"A"', "A"),
        ("#!define A 0x10", "A", 16),
        ("#!define A 5", "-A", -5),
        ("#!define A 5 # five", "A", 5),
        ("#!define A -5\r", "A", -5),
        ('#!define A "a\\\nb"', "A", "ab"),
        ("#!define A B\n#!define B 7", "A", 7),
        ("#!define A 1\n#!trydef A 2\n#!trydefine B 3", "A", 1),
        ("#!trydef A 2", "A", 2),
        ("#!define A 1\n#!redef A 2", "A", 2),
        ("#!define A 1\n#!redefine A 2", "A", 2),
        ("#!define A 1\n#!undef A", "A", None),
        ("#!define A", 'A "x" A', "x"),
        ("#!define A A", "A", None),
        ("#!define A B\n#!define B A", "A", None),
        ("##!define A 1", "A", None),
        ("# !define A 1", "A", None),
        ("// #!define A 1", "A", None),
        ("/* #!define A 1\n*/", "A", None),
        ("#!defenv A", "A", None),
        ("#!defenvs A=HOME", "A", None),
        ("#!trydefenv A\n#!trydef A 3", "A", 3),
        ("#!defexp A 1 + 1", "A", None),
        # rules for what stands in strings
        ('#!subst "/two/three/"', '"two two"', "three two"),
        ('#!subst "/two/three/g"', "'two two'", "three three"),
        ('#!substdef "!HOST!h.org!g"', '"sip:HOST;HOST"', "sip:h.org;h.org"),
        ('#!substdefs "!HOST!h.org!g"', "HOST", "h.org"),
        ('#!substdef "!N!7!g"', "N", 7),
        (r'#!substdef "/P\/Q/a\/b/"', '"P/Q"', "a/b"),
        ('#!subst "/ONE/TWO/"\n#!subst "/TWO/THREE/"', '"ONE"', "THREE"),
        ('#!substdef "!HOST!h.org!g"\n#!substdefs "!QHOST!q.org!g"', '"QHOST"', "q.org"),
        ("!!subst '/ONE/TWO/'", '"ONE"', "ONE"),
    ],
)
def test_definitions(before: str, text: str, meant: str | int | None) -> None:
    assert value(text, before) == meant


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("#!ifdef A\nX 1\n#!endif", None),
        ("#!ifndef A\nX 1\n#!endif", 1),
        ("#!define A\n#!ifdef A\nX 1\n#!else\nX 2\n#!endif", 1),
        ("#!ifdef A\nX 1\n#!else\nX 2\n#!endif", 2),
        ("!!ifdef A\nX 1\n!!else\nX 2\n!!endif", 2),
        ("#!ifdef A  \r\nX 1\r\n#!else\r\nX 2\r\n#!endif", 2),
        ("#!define A\n#!ifdef A # a remark\nX 1\n#!endif", 1),
        ("#!define A\n#!ifdef A\n#!ifdef B\nX 1\n#!else\nX 2\n#!endif\n#!else\nX 3\n#!endif", 2),
        ("#!ifdef A\n#!ifndef B\nX 1\n#!else\nX 2\n#!endif\n#!else\nX 3\n#!endif", 3),
        ("X 1\n#!ifdef A\n#!ifdef B\nX 2\n#!endif\nX 3\n#!endif", 1),
        ("#!ifdef A\n#!define B\n#!endif\n#!ifdef B\nX 1\n#!endif", None),
        # in lines that do not count, Kamailio looks neither for strings nor for comments
        ('#!ifdef A\n" /* unclosed\n#!else\nX 2\n#!endif', 2),
        ("#!ifdef A\n# text #!else\nX 2\n#!endif", 2),
        ("#!ifdef A\n##!endif\nX 2", 2),
        # with a remark behind it, it is a comment
        ("#!define A\n#!ifdef A\n#!else // not A\nX 2\n#!endif", 2),
        ('loadmodule "msilo.so"\n#!ifdef MOD_msilo\nX 1\n#!endif', 1),
        ('loadmodule "/usr/lib/kamailio/msilo.so"\n#!ifdef MOD_msilo\nX 1\n#!endif', 1),
        ('#!ifdef MOD_msilo\nX 1\n#!endif\nloadmodule "msilo.so"', None),
        ("#!ifdef A\nX 1", None),
        ("#!define A 1\n#!ifdef A\nX 1\n#!endif", 1),
    ],
)
def test_conditions(text: str, meant: int | None) -> None:
    lines = re.sub("X ([1-3])", r'modparam("msilo", "check_time", \1)', text)
    assert settings(lines).get("check_time") == meant


@pytest.mark.parametrize(
    "text",
    [
        'modparam("msilo", "check_time", 7)',
        "modparam('msilo', 'check_time', 7)",
        'modparam ( "msilo" ,\n\t"check_time"\n, 7 ) ;',
        'modparamx("msilo", "check_time", 7)',
        'modparam("usrloc|msilo", "check_time", 7)',
        'modparam("MSILO", "check_time", 7)',
        'modparam("^msilo$", "check_time", 7)',
        'modparam("(auth_db|msilo|usrloc)", "check_time", 7)',
        'modparam("msilo", "check_time", 6)\nmodparam("msilo", "check_time", 7)',
        'modparam("msilo", /* a */ "check_time", # b\n 7 // c\n)',
        '/* a /* b */ modparam("msilo", "check_time", 6) */ modparam("msilo", "check_time", 7)',
        '#!define M "msilo"\n#!define P "check_time"\nmodparam(M, P, 7)',
        '#!define LINE modparam("msilo", "check_time", 7)\nLINE',
        'request_route { $var(x) = $(ru{s.select,1,#"}) + $(hdr(A)[0]) + "\'"; }\nmodparam("msilo", "check_time", 7)',
        '#!KAMAILIO\r\nmodparam("msilo", "check_time", 7)\r\n',
        'modparam("msilo", "check_time", 7) modparam("msilox", "check_time", 8) modparam("xmsilo|m", "check_time", 9)',
        'modparam("msilo", "check_time", 7) #modparam("msilo", "check_time", 8)\n//modparam("msilo", "check_time", 8)',
    ],
)
def test_modparam(text: str) -> None:
    assert settings(text) == {"check_time": 7}


def test_a_name_that_is_set_again_to_what_nobody_knows_is_not_carried_over() -> None:
    text = 'modparam("msilo", "check_time", 7)\nmodparam("msilo", "check_time", LATER)\n'
    assert "check_time" not in settings(text)
    assert problems(text) == (
        "kamailio.cfg, line 3: only Kamailio knows what check_time = LATER is; write it in by hand",
    )


@pytest.mark.parametrize("word", ["$def(HOST)", "$env(HOME)"])
def test_modparamx_computes(word: str) -> None:
    assert settings(f'modparamx("msilo", "reminder", "sip:{word}")') == {}
    assert settings(f'modparam("msilo", "reminder", "sip:{word}")') == {"reminder": f"sip:{word}"}
    assert word in problems(f'modparamx("msilo", "reminder", {word})')[0]


# -- files -------------------------------------------------------------------------------------------------------------
INNER = 'modparam("msilo", "check_time", 7)\n'


@pytest.mark.parametrize("verb", ["include_file", "import_file", "#!include_file", "!!import_file"])
def test_included_files(verb: str) -> None:
    assert settings(f'{verb} "a.cfg"\n', {"a.cfg": INNER}) == {"check_time": 7}
    assert settings(f'#!substdef "!NAME!a!"\n{verb} "NAME.cfg"\n', {"a.cfg": INNER}) == {"check_time": 7}


def test_definitions_and_conditions_go_through_files() -> None:
    text = '#!define A\ninclude_file "a.cfg"\nmodparam("msilo", "check_time", B)\n#!endif\n'
    assert settings(text, {"a.cfg": "#!define B 8\n#!ifdef A\n"}) == {"check_time": 8}


def test_a_file_is_looked_for_beside_the_one_that_names_it_and_then_beside_the_first() -> None:
    files = {"sub/a.cfg": 'include_file "b.cfg"\ninclude_file "sub/c.cfg"\n', "sub/b.cfg": INNER, "sub/c.cfg": "\n?"}
    carried = carry_over('include_file "sub/a.cfg"', "/etc/kamailio/kamailio.cfg", folder(files), accept)
    assert carried.settings == {"check_time": 7}
    assert "# sub/b.cfg, line 1\ncheck_time = 7\n" in carried.toml


def test_only_a_missing_include_is_a_problem() -> None:
    assert problems('import_file "a.cfg"\n') == ()
    said = 'kamailio.cfg, line 2: the file "a.cfg" cannot be read, and what it sets is missing'
    assert problems('include_file "a.cfg"\n') == (said,)
    assert problems("include_file a.cfg\n") == (said.replace('"', ""),)


def test_files_within_files_come_to_an_end() -> None:
    (said,) = problems('include_file "a.cfg"\n', {"a.cfg": 'include_file "a.cfg"\n' * 3 + INNER})[:1]
    assert said.startswith('a.cfg, line 1: the file "a.cfg" cannot be read')
    files = {f"{one}.cfg": f'include_file "{two}.cfg"\n' for one, two in pairwise("abcdefghijklmnop")}
    (said,) = problems('include_file "a.cfg"\n', files)
    assert said == 'j.cfg, line 1: the file "k.cfg" cannot be read, and what it sets is missing'


def test_definitions_within_definitions_come_to_an_end() -> None:
    names = [f"N{number}" for number in range(12)]
    text = "".join(f"#!define {one} {two} {two} {two} {two}\n" for one, two in pairwise(names))
    assert problems(text + "#!define N11 N11 1\nN0 N1 N2\n") == ()


def test_rules_that_lengthen_strings_come_to_an_end() -> None:
    assert len(str(value('"a"', "\n".join(['#!subst "/a/aa/g"'] * 60)))) < 100_000


# -- what cannot be read -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('modparam("msilo", "check_time", 7', "line 2: this modparam cannot be read"),
        ('modparam("msilo", "check_time"', "line 2: this modparam cannot be read"),
        ('modparam "msilo", "check_time", 7', "line 2: this modparam cannot be read"),
        ("modparamx(", "line 2: this modparamx cannot be read"),
        ('modparam("msilo", "check_time", "7)\n\n', 'line 2: " is not closed'),
        ("\n'", "line 3: ' is not closed"),
        ("\n/* /* */\n", "line 3: /* is not closed"),
        ("\n$(ru{s.len}\n", "line 3: $( is not closed"),
        ("\n#!ifdef A\n#!ifdef B\n#!endif\n", "line 3: no #!endif ends what begins here"),
        ("#!endif\n", "line 2: nothing was begun that this #!endif could end"),
        ("#!else\n", "line 2: nothing was begun that this #!else could end"),
        ("#!ifdef A\n#!endif # A\n", "line 2: no #!endif ends what begins here"),
        ("#!ifexp KAMAILIO_VERSION > 5\n#!endif\n", "line 2: #!ifexp is not worked out"),
        ('#!subst "/a+/b/"', "line 2: what this #!subst changes stands unchanged here"),
        ('#!substdef "!HOST!$env(HOST)!"', "line 2: what this #!subst changes stands unchanged here"),
        (r'#!subst "/a/\0\0/"', "line 2: what this #!subst changes stands unchanged here"),
        ('#!subst "/a/b/i"', "line 2: what this #!subst changes stands unchanged here"),
        ("#!subst", "line 2: what this #!subst changes stands unchanged here"),
        ('modparam("msilo", "chek_time", 7)', "line 2: msilo has no parameter chek_time; the nearest is check_time"),
        ('modparam("msilo", "", 7)', "line 2: msilo has no parameter ; the nearest is"),
        ('modparam("msilo", "check_time", $var(x))', "line 2: only Kamailio knows what check_time = $var(x) is"),
        ('modparam("msilo", "check_time", 010)', "line 2: only Kamailio knows what check_time = 010 is"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_line(text: str, said: str) -> None:
    assert f"{FILE}, {said}" in "\n".join(problems(text))


def test_other_modules_are_left_alone() -> None:
    text = 'modparam("tm", "fr_timer", ANY)\nmodparamx("xlog", "prefix", $def(X))\nmodparam("usrloc", "db_url", "x")\n'
    assert problems(text) == ()


# -- what is made of it ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "ours"),
    [
        # tried: db_sqlite creates exactly these files
        ('"sqlite:////var/k.db"', "sqlite:////var/k.db"),
        ('"sqlite:///k.db"', "sqlite:////k.db"),
        ('"sqlite:///./k.db"', "sqlite:////./k.db"),
        ('"sqlite://host/k.db"', "sqlite:////k.db"),
        ('"sqlite://u:p@h:3//var/k.db"', "sqlite:////var/k.db"),
        ('"sqlite:////var/k.db?x=1"', "sqlite:////var/k.db"),
        ('"sqlite:////var/k%20@10:x.db"', "sqlite:////var/k%20@10:x.db"),
        ('"sqlite:///~/k.db"', "sqlite:////~/k.db"),
    ],
)
def test_the_database_is_the_same_file(text: str, ours: str) -> None:
    assert settings(f'modparam("msilo", "db_url", {text})') == {"db_url": ours}
    assert problem_with("db_url", ours) is None


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        ('workdir="/var/run"', "sqlite:////var/run/k.db"),
        ('wdir = "/var/run/"', "sqlite:////var/run/k.db"),
        ('wdir="run"', "sqlite:////run/k.db"),
        ("wdir", "sqlite:////k.db"),
    ],
)
def test_a_relative_name_is_one_in_the_working_folder(line: str, ours: str) -> None:
    text = 'modparam("msilo", "db_url", "sqlite:///k.db")\n'
    assert settings(text + line) == settings(f"{line}\n{text}") == {"db_url": ours}


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("mysql://kamailio:kam:ailio@rw@localhost/kamailio", "mysql"),
        ("postgres://localhost/kamailio", "postgres"),
        ("text:///etc/kamailio/dbtext", "text"),
        ("SQLITE:///x", "SQLITE"),
    ],
)
def test_another_database_is_not_carried_over(url: str, scheme: str) -> None:
    carried = carry_over(f'modparam("msilo", "db_url", "{url}")', FILE, folder(NONE), problem_with)
    assert carried.settings == tomllib.loads(carried.toml) == {}
    assert carried.problems == (
        f"kamailio.cfg, line 1: db_url is not carried over: {scheme} databases are not served; export msilo's table to "
        "a Kamailio SQLite file or to JSON Lines, and read that with `msilo-lite import FILE`",
    )
    assert f'\n# db_url = "{scheme}:' in carried.toml


@pytest.mark.parametrize(
    "text",
    [
        'modparam("msilo", "db_url", "mysql://kamailio:s3cret@localhost/kamailio")',
        'modparam("msilo", "db_url", "mysql://kamailio:s3c@s3cret@localhost/kamailio")',
        'modparamx("msilo", "db_url", "mysql://kamailio:s3cret@$env(HOST)/kamailio")',
        'modparam("msilo", "db_url", "sqlite://kamailio:s3cret@host/k.db")',
        'modparam("msilo", "db_url", "sqlite://kamailio:s3cret@k.db")',
    ],
)
def test_no_password_is_repeated(text: str) -> None:
    assert "s3cret" not in carry_over(text, FILE, folder(NONE), problem_with).toml


def test_without_a_database_there_was_mysql() -> None:
    (said,) = carry_over('modparam("msilo", "check_time", 7)', FILE, folder(NONE), accept).problems
    assert said.startswith("kamailio.cfg sets no db_url for msilo, which means a MySQL database to it; export ")


@pytest.mark.parametrize(
    ("name", "given", "ours", "line"),
    [
        ("snd_time_avp", "$avp(snd_time)", "$hdr(X-MSilo-Send-Time)", "X-MSilo-Send-Time: $avp(snd_time)"),
        ("snd_time_avp", "$avp(i:123)", "$hdr(X-MSilo-Send-Time)", "X-MSilo-Send-Time: $avp(i:123)"),
        ("snd_time_avp", "$(avp(s:x)[0])", "$hdr(X-MSilo-Send-Time)", "X-MSilo-Send-Time: $avp(s:x)"),
        ("snd_time_avp", "i:200", "$hdr(X-MSilo-Send-Time)", "X-MSilo-Send-Time: $avp(i:200)"),
        ("extra_hdrs_avp", "$avp(e)", "$hdr(X-MSilo-Headers)", "X-MSilo-Headers: $(avp(e){s.trim})"),
        ("extra_hdrs_avp", "s:x", "$hdr(X-MSilo-Headers)", "X-MSilo-Headers: $(avp(s:x){s.trim})"),
    ],
)
def test_an_avp_comes_in_a_header(name: str, given: str, ours: str, line: str) -> None:
    text = f'modparam("msilo", "{name}", "{given}")'
    assert settings(text) == {name: ours}
    assert problem_with(name, ours) is None
    (said,) = problems(text)
    assert said.startswith(f"kamailio.cfg, line 2: {name} lives in the script: before relaying, write ")
    assert f'append_hf("{line}\\r\\n"); msg_apply_changes();' in said
    assert said.endswith("a peer with `control = true`")


def test_a_flag_comes_in_a_header() -> None:
    assert problems('modparam("msilo", "skip_notification_flag", 0x9)') == (
        "kamailio.cfg, line 2: skip_notification_flag lives in the script: before relaying, write if (isflagset(9)) "
        'append_hf("X-MSilo-Flags: 9\\r\\n"); and make Kamailio a peer with `control = true`',
    )
    assert problems('modparam("msilo", "skip_notification_flag", -1)') == ()
    assert problems('modparam("msilo", "snd_time_avp", "")') == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("check_time", "0"),
        ("clean_period", "0"),
        ("clean_period", "-1"),
        ("expire_time", "0"),
        ("expire_time", "4294967297"),
        ("skip_notification_flag", "32"),
        ("check_time", '"soon"'),
        ("from_address", '"sip:$avp(x)"'),
        ("from_address", '"$xyz"'),
        ("extra_hdrs", r'"P-hint: $var(h)\r\n"'),
        ("snd_time_avp", "5"),
        ("db_url", '"sqlite:///"'),
        ("db_url", '"sqlite:///:memory:"'),
        ("db_url", '"sqlite://k.db"'),
        ("offline_message", r'"\xff"'),
        ("offline_message", '"verf\ufffdgbar"'),
        ("reminder", '"verf\udcfcgbar"'),
    ],
)
def test_what_the_silo_refuses_stands_there_as_a_comment(name: str, text: str) -> None:
    carried = carry_over(f'\nmodparam("msilo", "{name}", {text})', FILE, folder(NONE), problem_with)
    assert carried.settings == tomllib.loads(carried.toml) == {}
    assert any(said.startswith(f"kamailio.cfg, line 2: {name} is not carried over: ") for said in carried.problems)
    assert f"\n# {name} = " in carried.toml


def test_calls_in_the_script() -> None:
    text = """request_route {
        if (is_method("REGISTER")) { save("location"); m_dump(); exit; }
        # m_dump("in a comment"); xlog("m_dump()");
        if (!m_store("$ru")) route(X);
    #!ifdef NEVER
        m_store_addrs("$ru", "", "");
    #!endif
        m_dump("$fu");
    }
    """
    assert problems(text) == (
        "kamailio.cfg, line 3 and kamailio.cfg, line 9: m_dump(): msilo and msilo-lite would both deliver from one "
        "database; take it out, or do not let both use the same file",
        "kamailio.cfg, line 5: m_store(): its place is taken by relaying the MESSAGE to the silo, see "
        "examples/kamailio",
    )
    assert "m_store_addrs()" in problems('m_store_addrs("", "", "")')[0]


SAMPLE = r"""#!KAMAILIO
#!define WITH_MSILO
#!substdef "!MY_DOMAIN!home.lan!g"
#!trydef DBURL "sqlite:////etc/kamailio/kamailio.sqlite"

loadmodule "db_sqlite.so"
loadmodule "tm.so"
#!ifdef WITH_MSILO
loadmodule "msilo.so"
#!endif

/* one database for all of them */
modparam("auth_db|usrloc|msilo", "db_url", DBURL)
#!ifdef WITH_MSILO
modparam("msilo", "from_address", "sip:registrar@MY_DOMAIN")
modparam("msilo", "contact_hdr", "Contact: <sip:registrar@MY_DOMAIN>;msilo=yes\r\n")
modparam("msilo", "content_type_hdr", "Content-Type: text/plain\r\n")
modparam("msilo", "offline_message", "*** User $rU is offline!")
modparam("msilo", "outbound_proxy", "sip:127.0.0.1:5060")
modparam("msilo", "expire_time", 36000)
modparam("msilo", "check_time", 30)
modparam("msilo", "clean_period", 0)   # never
modparam("msilo", "use_contact", 0)
#!endif
"""
TOML = r"""# Settings of msilo-lite, carried over from kamailio.cfg by `msilo-lite init --from-kamailio`.
# Not seen there: what Kamailio takes from its command line (-A, -w) and from its environment.

# kamailio.cfg, line 13
db_url = "sqlite:////etc/kamailio/kamailio.sqlite"

# kamailio.cfg, line 20
expire_time = 36000

# kamailio.cfg, line 15
from_address = "sip:registrar@home.lan"

# kamailio.cfg, line 18
offline_message = "*** User $rU is offline!"

# kamailio.cfg, line 17
content_type_hdr = "Content-Type: text/plain\r\n"

# kamailio.cfg, line 16
contact_hdr = "Contact: <sip:registrar@home.lan>;msilo=yes\r\n"

# kamailio.cfg, line 23
use_contact = 0

# kamailio.cfg, line 19
outbound_proxy = "sip:127.0.0.1:5060"

# kamailio.cfg, line 21
check_time = 30

# kamailio.cfg, line 22: Input should be greater than or equal to 1
# clean_period = 0

# Not carried over:
# - kamailio.cfg, line 22: clean_period is not carried over: Input should be greater than or equal to 1
"""


def test_a_whole_file() -> None:
    carried = carry_over(SAMPLE, FILE, folder(NONE), problem_with)
    assert carried.toml == TOML
    assert tomllib.loads(carried.toml) == carried.settings


def test_a_relative_database_tells_where_it_was() -> None:
    carried = carry_over('modparam("msilo", "db_url", "sqlite:///k.db")', FILE, folder(NONE), accept)
    said = "was sqlite:///k.db, which Kamailio opens in its working folder (/, or that of -w)"
    assert f"# kamailio.cfg, line 1: {said}\n" in carried.toml


# -- any text ----------------------------------------------------------------------------------------------------------
def escaped(text: str) -> str:
    """A string of Kamailio's."""
    named = {"\n": r"\n", "\r": r"\r", "\t": r"\t", '"': r"\"", "\\": r"\\"}
    return '"' + "".join(named.get(char, char) for char in text) + '"'


@given(st.text(st.characters(exclude_characters="\0\ufffd", exclude_categories=["Cs"])))
@example("\x7f\x85\u2028\r\n\x1b")
def test_every_string_goes_through(text: str) -> None:
    carried = carry_over(f'modparam("msilo", "sc_mid", {escaped(text)})', FILE, folder(NONE), accept)
    assert carried.settings == tomllib.loads(carried.toml) == {"sc_mid": text}


@given(st.text(), st.text(), st.sampled_from([*PARAMETERS, "other"]))
def test_nothing_breaks_out_of_a_comment(text: str, file: str, name: str) -> None:
    given_text = f'modparam("msilo", "{name}", {escaped(text)})'
    carried = carry_over(given_text, file, folder(NONE), lambda name, value: f"{name} is not {value!s}")
    assert tomllib.loads(carried.toml) == {}
    assert not any(char < " " or char == "\x7f" for said in carried.problems for char in said)
    carried.toml.encode()


WORDS = (
    'modparam modparamx ( ) , ; { } - # // /* */ \\ $ $( $var( " \' \n \r "msilo" "db_url" "check_time" "a.cfg" '
    '"/A/AA/" A B 0 07 0x1 m_dump m_store wdir = loadmodule include_file import_file #!ifdef #!ifndef #!ifexp #!else '
    "#!endif #!define #!trydef #!redef #!undef #!defenv #!subst #!substdef #!substdefs !!endif yes \0 \ud800 é"
)
PIECES = st.sampled_from(WORDS.split(" "))
GAPS = st.sampled_from(["", " ", "\n", "\t"])


@given(st.lists(st.tuples(PIECES, GAPS), max_size=40), st.lists(st.tuples(PIECES, GAPS), max_size=20))
def test_any_pieces_give_a_configuration(pieces: list[tuple[str, str]], more: list[tuple[str, str]]) -> None:
    text, other = ("".join(piece + gap for piece, gap in some) for some in (pieces, more))
    carried = carry_over(text, FILE, folder({"a.cfg": other}), problem_with)
    assert tomllib.loads(carried.toml) == carried.settings


@given(st.text())
def test_any_text_gives_a_configuration(text: str) -> None:
    carried = carry_over(text, FILE, folder(NONE), problem_with)
    assert tomllib.loads(carried.toml) == carried.settings
