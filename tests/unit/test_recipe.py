"""What `init --pbx` makes of a PBX's address: settings that load, and pieces with no address of the example left."""

import re
import tomllib
from pathlib import Path

import pytest

from msilo_lite.box.delivery import Trust
from msilo_lite.cli.fragments import pieces
from msilo_lite.cli.recipe import KINDS, Recipe, Wanted, recipe_for
from msilo_lite.cli.setup import Prepared, commented, prepared, write_all
from msilo_lite.errors import ConfigError, MsiloError
from msilo_lite.settings.config import Config

FAR = "192.0.2.10:5090"
DOMAIN = ("sip.example.org", "other.example")


def far(pbx: str, **more: object) -> Recipe:
    """A PBX on another host."""
    values = {"bind": "192.0.2.77:5071", **more}
    return recipe_for(Wanted(pbx, FAR, DOMAIN, **values))  # type: ignore[arg-type]


def settings(recipe: Recipe) -> Config:
    return Config.model_validate(tomllib.loads(commented(recipe)))


@pytest.mark.parametrize("pbx", KINDS)
def test_no_value_of_the_example_is_left(pbx: str) -> None:
    fragment = far(pbx).fragment
    bare = re.sub("(?m)^ *[;#].*", "", fragment)
    assert not re.search(r"127\.0\.0\.|home\.lan|:50[67]0|silo-password", bare)
    assert not re.search(r"@[A-Z]+@", fragment)
    assert "192.0.2.77" in fragment


@pytest.mark.parametrize("pbx", KINDS)
def test_the_configuration_loads_and_fits(pbx: str) -> None:
    config = settings(far(pbx))
    assert config.bind == ("udp:192.0.2.77:5071",)
    assert config.domain == DOMAIN
    assert config.trusted == ("192.0.2.10/32",)
    assert config.outbound_proxy == f"sip:{FAR}"
    early = pbx in ("asterisk", "freepbx", "freeswitch")
    assert (config.watch, config.trust_2xx) == (("presence", Trust.CONFIRM) if early else ("off", Trust.ANY))
    assert config.max_body == (1023 if pbx in ("asterisk", "freepbx") else 0)
    assert (config.add_date, config.max_messages) == (0, 500)


@pytest.mark.parametrize("pbx", KINDS)
def test_every_other_setting_stands_there_as_a_comment(pbx: str) -> None:
    text = commented(far(pbx))
    names = re.findall(r"^(?:# )?(\w+) = ", text.partition("# [[peer]]")[0], re.MULTILINE)
    assert sorted(names) == sorted(set(Config.model_fields) - {"peer"})


def test_on_one_host_an_address_of_its_own_where_the_address_is_what_counts() -> None:
    here = {pbx: settings(recipe_for(Wanted(pbx, "127.0.0.1", ("home.lan",)))).bind[0] for pbx in KINDS}
    assert here == {
        "asterisk": "udp:127.0.0.2:5070", "freepbx": "udp:127.0.0.2:5070", "kamailio": "udp:127.0.0.1:5070",
        "opensips": "udp:127.0.0.1:5070", "freeswitch": "udp:127.0.0.1:5070",
    }  # fmt: skip


def test_as_an_extension_both_sides_have_the_same_password(tmp_path: Path) -> None:
    recipe = far("asterisk", user="mailbox")
    config = settings(recipe)
    assert (config.registrar, config.user) == (f"sip:{FAR}", "mailbox")
    assert config.secret
    assert f"\npassword = {config.secret}\n" in recipe.fragment
    assert "match =" not in recipe.fragment
    assert "PJSIP/${EXTEN}@mailbox" in recipe.fragment
    assert far("asterisk", user="mailbox").fragment != recipe.fragment  # a new one each time
    (tmp_path / "secret").write_text("from-a-file\n")
    filed = far("asterisk", user="mailbox", password_file=tmp_path / "secret")
    assert settings(filed).secret == "from-a-file"
    assert "from-a-file" not in commented(filed)
    assert "\npassword = from-a-file\n" in filed.fragment


def test_each_phone_and_each_pattern() -> None:
    fragment = far("freepbx", phones=("101", "_2XX")).fragment
    assert "exten => 101,hint,PJSIP/101\n" in fragment
    assert "exten => _2XX,hint,PJSIP/${EXTEN}\n" in fragment
    assert "\n[101](+type=endpoint)\n" in fragment
    assert "[_2XX]" not in fragment
    only_patterns = far("freepbx", phones=("_2XX",)).fragment
    assert "; for each of your phones, here 101:\n; [101](+type=endpoint)\n" in only_patterns


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Wanted("cisco", FAR, DOMAIN), "--pbx cisco: one of asterisk, freepbx, kamailio, opensips, freeswitch"),
        (Wanted("asterisk", FAR, ()), "--domain is missing"),
        (Wanted("asterisk", "192.0.2.10:x", DOMAIN), "--pbx-addr 192.0.2.10:x: write HOST:PORT"),
        (Wanted("asterisk", "192.0.2.10:99999", DOMAIN), "99999 is not a port"),
        (Wanted("asterisk", FAR, DOMAIN, bind="here"), "--bind here: "),
        (Wanted("asterisk", FAR, DOMAIN, phones=("bob,1,System(rm)",)), "--phone bob,1,System(rm): a name"),
        (Wanted("kamailio", FAR, DOMAIN, phones=("bob",)), "Kamailio knows its users by itself"),
        (Wanted("kamailio", FAR, DOMAIN, user="silo"), "Kamailio knows the silo by its address"),
        (Wanted("asterisk", FAR, DOMAIN, user="a]b"), "--user a]b: letters"),
        (Wanted("asterisk", FAR, DOMAIN, password_file=Path("x")), "--password-file needs --user"),
        (Wanted("asterisk", FAR, DOMAIN, user="silo", password_file=Path("/nowhere/x")), "cannot be read"),
        (Wanted("asterisk", FAR, ("home.lan\n[x]",)), "--domain"),
    ],
)
def test_wrong_words_get_a_sentence(wanted: Wanted, words: str) -> None:
    with pytest.raises((ConfigError, MsiloError), match=re.escape(words)):
        recipe_for(wanted)


def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(MsiloError, match="is not known here"):
        recipe_for(Wanted("asterisk", "pbx.invalid", DOMAIN))


def test_the_fragment_into_a_folder_or_a_file_and_nothing_over_what_is_there(tmp_path: Path) -> None:
    made = Prepared(commented(far("asterisk")), recipe=far("asterisk"))
    folder, one, config = tmp_path / "parts", tmp_path / "fragment.txt", tmp_path / "silo.toml"
    folder.mkdir()
    assert sorted(file.name for file in write_all(made, None, folder, force=False)) == ["extensions.conf", "pjsip.conf"]
    assert write_all(made, None, one, force=False) == [one]
    with pytest.raises(ConfigError, match="exists already"):
        write_all(made, config, one, force=False)
    assert not config.exists()
    write_all(made, config, one, force=True)
    assert config.stat().st_mode & 0o777 == 0o600


def test_two_ways_to_start_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="take one of them"):
        prepared(tmp_path / "kamailio.cfg", Wanted("kamailio", FAR, DOMAIN), None)
    with pytest.raises(ConfigError, match="--fragment needs --pbx"):
        prepared(None, None, tmp_path / "x")


def test_a_name_without_a_value_is_our_own_fault() -> None:
    with pytest.raises(KeyError):
        list(pieces("asterisk", "pjsip.conf", {}, (), "address"))
