"""What `init --pbx` writes and prints, pasted where it says into a PBX that had no silo, with the whole story."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.waiting import until

from .asterisk import Asterisk, Handset
from .conftest import PickUp, PickUpHandset, StartSilo
from .peers import Kamailio, Silo
from .phone import Address
from .process import free_port, missing

pytestmark = pytest.mark.sip

STOCK_KAMAILIO = Path("/etc/kamailio/kamailio.cfg")


def init(folder: Path, pbx: str, *words: str) -> dict[str, str]:
    """The fragment file by file; the configuration is in `silo.toml`."""
    place = folder / "fragment"
    place.mkdir()
    argv = [sys.executable, "-m", "msilo_lite", "init", "--pbx", pbx, "--output", str(folder / "silo.toml")]
    argv += ["--fragment", str(place), *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return {file.name: file.read_text() for file in place.iterdir()}


def configured(start_silo: StartSilo, folder: Path) -> Silo:
    """A silo with the configuration that `init` wrote, and no setting of its own but the file."""
    bind = tomllib.loads((folder / "silo.toml").read_text())["bind"]
    return start_silo("--config", str(folder / "silo.toml"), bind=tuple(bind))


def all_is_well(silo: Silo, folder: Path, user: str) -> None:
    """`check` finds nothing to say against it, and a message comes round."""
    done = silo.cli("check", "--config", str(folder / "silo.toml"), "--loop", user)
    assert done.returncode == 0, done.stdout
    assert "\nok\tloop\t" in done.stdout
    assert silo.list_json("--all") == []


def write(user: Handset, pbx: Address, to: str, *texts: str) -> None:
    for text in texts:
        assert user.message(pbx, to, text.encode()).code == 202


def stored_and_delivered(silo: Silo, pbx: Address, alice: Handset, bob: Handset, domain: str) -> None:
    """Store, wake, replay, in order, and the mark of what was handed over."""
    to = f"{bob.user}@{domain}"
    write(alice, pbx, to, "one", "two 🍝", "three")
    until(lambda: [row["to"] for row in silo.list_json()] == [to] * 3, 10, "three messages wait")
    silo.watches(to, "closed")
    assert bob.register(pbx).code == 200
    assert [bob.take(seconds=10).text for _ in range(3)] == ["one", "two 🍝", "three"]
    until(lambda: {row["state"] for row in silo.list_json()} == {"handed over"}, 10, "all are handed over")
    bob.register(pbx, expires=0)
    write(alice, pbx, to, "four")
    until(lambda: len(silo.list_json()) == 4, 10, "the next one waits")
    silo.dump(to).wait(15)
    back = "it came back, its phone was away"
    until(lambda: silo.list_json()[-1]["why"].startswith(back), 15, "it came back")
    bob.register(pbx)
    assert bob.take(seconds=20).text == "four"


# -- Asterisk ----------------------------------------------------------------------------------------------------------
PLAIN_PJSIP = """\
[udp]
type = transport
protocol = udp
bind = {}:{}
"""
PLAIN_PHONE = """
[{0}]
type = endpoint
context = internal
disallow = all
allow = ulaw
auth = {0}
aors = {0}

[{0}]
type = auth
auth_type = userpass
username = {0}
password = {0}-password

[{0}]
type = aor
max_contacts = 2
"""
PLAIN_DIALPLAN = """\
[globals]
TRUNK = none

[internal]
exten => _X.,1,Dial(PJSIP/${EXTEN})

[users]
exten => somebody,1,Hangup()
"""


@pytest.fixture(params=["address", "extension"])
def asterisk(request: pytest.FixtureRequest, tmp_path: Path, start_silo: StartSilo) -> Iterator[tuple[Asterisk, Silo]]:
    """An Asterisk of somebody's own, with the fragment at the end of its files."""
    place = f"127.0.0.2:{free_port('127.0.0.2')}"

    def files(address: Address) -> dict[str, str]:
        words = ["--pbx-addr", f"{address[0]}:{address[1]}", "--domain", "home.lan", "--bind", place]
        words += ["--phone", "alice", "--phone", "bob"]
        words += ["--user", "mailbox"] if request.param == "extension" else []
        parts = init(tmp_path, "asterisk", *words)
        phones = "".join(PLAIN_PHONE.format(user) for user in ("alice", "bob"))
        return {
            "pjsip.conf": PLAIN_PJSIP.format(*address) + phones + parts["pjsip.conf"],
            "extensions.conf": PLAIN_DIALPLAN + parts["extensions.conf"],
        }

    with closing(Asterisk(tmp_path, None, files=files)) as asterisk:
        asterisk.start()
        yield asterisk, configured(start_silo, tmp_path)


def test_an_asterisk_of_ones_own(asterisk: tuple[Asterisk, Silo], handset: PickUpHandset) -> None:
    pbx, silo = asterisk
    extension = silo.status_json().get("extension")
    if extension:
        until(lambda: silo.status_json()["extension"].startswith("registered"), 10, "the silo is registered")
    all_is_well(silo, silo.folder, "bob")
    stored_and_delivered(silo, pbx.address, handset("alice"), handset("bob"), "home.lan")


# -- FreePBX -----------------------------------------------------------------------------------------------------------
FREEPBX_PJSIP = """\
; stands for what FreePBX generates
#include pjsip_custom.conf
#include pjsip.transports.conf
#include pjsip.endpoint.conf
#include pjsip.endpoint_custom_post.conf
#include pjsip.aor.conf
#include pjsip.aor_custom_post.conf
#include pjsip.auth.conf
"""
FREEPBX_ENDPOINT = """\
[{0}]
type=endpoint
aors={0}
auth={0}-auth
tos_audio=ef
allow=ulaw,alaw
context=from-internal
callerid={0} <{0}>
dtmf_mode=rfc4733
aggregate_mwi=yes
rtp_symmetric=yes
rewrite_contact=yes
"""
FREEPBX_AUTH = "[{0}-auth]\ntype=auth\nauth_type=userpass\npassword={0}-password\nusername={0}\n"
FREEPBX_AOR = "[{0}]\ntype=aor\nmax_contacts=1\nremove_existing=yes\nmaximum_expiration=7200\nqualify_frequency=60\n"
FREEPBX_DIALPLAN = """\
; stands for what FreePBX generates
#include extensions_custom.conf

[from-internal]
include => from-internal-custom
include => ext-local

[ext-local]
exten => 101,1,Dial(PJSIP/101)
exten => 101,hint,PJSIP/101&Custom:DND101,CustomPresence:101
exten => 102,1,Dial(PJSIP/102)
exten => 102,hint,PJSIP/102&Custom:DND102,CustomPresence:102
"""
USERS = ("101", "102")


def test_a_freepbx_with_its_own_files_stood_in(tmp_path: Path, start_silo: StartSilo, handset: PickUpHandset) -> None:
    place = f"127.0.0.2:{free_port('127.0.0.2')}"

    def files(address: Address) -> dict[str, str]:
        words = ["--pbx-addr", f"{address[0]}:{address[1]}", "--domain", "127.0.0.1", "--bind", place]
        custom = init(tmp_path, "freepbx", *words, "--phone", "101", "--phone", "102")
        assert sorted(custom) == [
            "extensions_custom.conf", "pjsip.aor_custom_post.conf", "pjsip.endpoint_custom_post.conf",
            "pjsip_custom.conf",
        ]  # fmt: skip
        return custom | {
            "pjsip.conf": FREEPBX_PJSIP,
            "pjsip.transports.conf": PLAIN_PJSIP.format(*address),
            "pjsip.endpoint.conf": "".join(map(FREEPBX_ENDPOINT.format, USERS)),
            "pjsip.aor.conf": "".join(map(FREEPBX_AOR.format, USERS)),
            "pjsip.auth.conf": "".join(map(FREEPBX_AUTH.format, USERS)),
            "extensions.conf": FREEPBX_DIALPLAN,
        }

    with closing(Asterisk(tmp_path, None, files=files)) as asterisk:
        asterisk.start()
        silo = configured(start_silo, tmp_path)
        all_is_well(silo, tmp_path, "102")
        stored_and_delivered(silo, asterisk.address, handset("101"), handset("102"), "127.0.0.1")
        assert "PJSIP/102&Custom:DND102" in asterisk.command("core show hints")  # FreePBX's own are as they were


# -- Kamailio ----------------------------------------------------------------------------------------------------------
def pasted(cfg: str, fragment: str, address: Address) -> str:
    """Debian's own kamailio.cfg with each piece where its headline says, and nothing else but where to listen."""
    headline = r"^# ((?:at the|among|in request|right).*)\n"
    _, *parts = re.split(headline, fragment, flags=re.MULTILINE)
    pieces = dict(zip(parts[::2], parts[1::2], strict=True))
    anchors = {
        "at the top": ("#!KAMAILIO\n", True),
        "in request_route": ("\troute(REQINIT);\n", True),
        "right before lookup": ('\tif (!lookup("location")) {\n', False),
        "right after lookup": ('\tif (!lookup("location")) {\n', True),
        "right after save": ('\tif (!save("location")) {\n\t\tsl_reply_error();\n\t}\n', True),
    }
    assert 'loadmodule "textopsx.so"' in cfg
    del pieces["among the loadmodule lines, if it is not there already"]
    for where, text in pieces.items():
        anchor = next((value for key, value in anchors.items() if where.startswith(key)), None)
        if anchor is None:
            assert where.startswith("at the end"), where
            cfg += text
            continue
        line, after = anchor
        assert cfg.count(line) == 1, (line, cfg.count(line))
        cfg = cfg.replace(line, line + text if after else text + line)
    listen = f"listen=udp:{address[0]}:{address[1]}\nalias=home.lan\nlog_stderror=yes\n"
    return cfg.replace("####### Global Parameters #########\n", f"####### Global Parameters #########\n{listen}", 1)


def test_debians_own_kamailio_with_the_fragment(tmp_path: Path, start_silo: StartSilo, phone: PickUp) -> None:
    if not STOCK_KAMAILIO.exists():
        missing(f"{STOCK_KAMAILIO} is not there (apt-get install kamailio)")
    address, place = ("127.0.0.1", free_port()), f"127.0.0.1:{free_port()}"
    words = ("--pbx-addr", f"{address[0]}:{address[1]}", "--domain", "home.lan", "--bind", place)
    fragment = init(tmp_path, "kamailio", *words)["kamailio.cfg"]
    (tmp_path / "kamailio.cfg").write_text(pasted(STOCK_KAMAILIO.read_text(), fragment, address))
    silo = configured(start_silo, tmp_path)
    with closing(Kamailio(tmp_path, silo, port=address[1], cfg=tmp_path / "kamailio.cfg")) as kamailio:
        kamailio.start()
        phone("carol").register(address)
        until(lambda: silo.status_json()["registered"], 5, "the silo has the copy")
        all_is_well(silo, tmp_path, "bob")
        alice, bob = phone("alice"), phone("bob")
        for n in range(3):
            assert alice.message(address, "bob@home.lan", b"%d" % n).code == 202
        assert [row["to"] for row in silo.list_json()] == ["bob@home.lan"] * 3
        bob.register(address)
        assert [bob.take().body for _ in range(3)] == [b"0", b"1", b"2"]
        silo.empties()
        alice.send(alice.request("MESSAGE", "bob@home.lan", "Content-Type: text/plain", body=b"now"), address)
        bob.take(486)  # registered and busy: to the silo all the same
        assert alice.receive().code == 202
        assert [row["to"] for row in silo.list_json()] == ["bob@home.lan"]
