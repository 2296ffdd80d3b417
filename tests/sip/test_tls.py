"""TLS in both directions: versions, certificates of both sides, new ones without a restart, what is said at start."""

from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.waiting import until

from .certificates import Authority, Shown
from .conftest import PickUp, StartSilo
from .peers import Silo
from .phone import Address
from .streams import Line, Switchboard, listening, pick_up

pytestmark = pytest.mark.sip

BOB = "bob@home.lan"
BOTH = ("udp:127.0.0.1:0", "tls:127.0.0.1:0")
NAME = "silo.home.lan"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def shown(authority: Authority) -> Shown:
    return authority.issue("silo", NAME)


def options(shown: Shown, **more: object) -> list[str]:
    """Settings of a silo that shows this certificate."""
    named = {"tls_certificate": shown.certificate, "tls_key": shown.key, **more}
    return [word for key, value in named.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture
def silo(start_silo: StartSilo, shown: Shown, authority: Authority) -> Silo:
    return start_silo(*options(shown, tls_ca=authority.file), bind=BOTH)


def tls(silo: Silo) -> Address:
    return silo.addresses[1]


def serial(at: Address) -> str:
    """Which certificate is shown there."""
    with socket.create_connection(at, 10) as plain:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(plain, server_hostname=NAME) as wrapped:
            return (wrapped.getpeercert(True) or b"").hex()


def of_version(context: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
    """The same, for this version alone, as old as it may be."""
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = version
    context.maximum_version = version
    return context


# -- in ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_message_over_tls(silo: Silo, authority: Authority, version: ssl.TLSVersion) -> None:
    with Line("alice", tls(silo), tls=of_version(authority.client(), version)) as alice:
        assert isinstance(alice.socket, ssl.SSLSocket)
        assert alice.socket.version() == version.name.replace("v1_", "v1.")
        for number in range(5):
            said = alice.write(BOB, b"%d" % number)
            assert (said.code, said["Via"].partition(" ")[0]) == (202, "SIP/2.0/TLS")
        secure = alice.request("MESSAGE", BOB, "Content-Type: text/plain", body=b"x").replace(b"sip:bob", b"sips:bob")
        assert alice.say(secure).code == 202
        alice.send(b"\r\n\r\n")
        assert alice.socket.recv(10) == b"\r\n"
    assert [row["to"] for row in silo.list_json()] == [BOB] * 6


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_tls_1_1_is_refused(silo: Silo, authority: Authority, shown: Shown) -> None:
    old = of_version(authority.client(), ssl.TLSVersion.TLSv1_1)
    with pytest.raises(ssl.SSLError), Line("alice", tls(silo), tls=old):
        pass
    permissive = of_version(authority.server(shown), ssl.TLSVersion.TLSv1_1)
    with Switchboard(1, closes=False, tls=permissive) as other:  # the client is able to
        alice = Line("alice", ("127.0.0.1", other.ports[0]), tls=old)
        with alice:
            assert isinstance(alice.socket, ssl.SSLSocket)
            assert alice.socket.version() == "TLSv1.1"


def test_the_certificate_names_us_to_those_who_know_our_ca_alone(silo: Silo, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")
    with pytest.raises(ssl.SSLCertVerificationError), Line("alice", tls(silo), tls=stranger.client()):
        pass
    with pytest.raises(ssl.SSLCertVerificationError):
        Line("alice", tls(silo), tls=Authority(tmp_path).client(), name="other.home.lan")


def certified(line: Line) -> bool:
    """Whether the silo takes requests on it; a client of TLS 1.3 learns of its refusal only now."""
    try:
        return line.write(BOB, b"x").code == 202
    except (OSError, pytest.fail.Exception):
        return False


@pytest.mark.parametrize(("required", "uncertified"), [("true", False), ("false", True)])
def test_client_certificates(
    start_silo: StartSilo, authority: Authority, shown: Shown, tmp_path: Path, required: str, uncertified: bool
) -> None:
    clients, others = Authority(tmp_path, "clients"), Authority(tmp_path, "others")
    silo = start_silo(*options(shown, tls_client_ca=clients.file, tls_client_required=required), bind=BOTH)
    seen = {}
    for name, certificate in {
        "ours": clients.issue("alice", "alice.home.lan"),
        "another CA's": others.issue("mallory", "mallory.home.lan"),
        "none": None,
    }.items():
        with Line("alice", tls(silo), tls=authority.client(certificate)) as alice:
            seen[name] = certified(alice)
    assert seen == {"ours": True, "another CA's": False, "none": uncertified}


def test_handshakes_that_stand_still_are_done_for_and_hurt_nobody(silo: Silo, authority: Authority) -> None:
    """Plain bytes, a first byte only, nothing at all: TLS clients beside them are served."""
    with ExitStack() as stack:
        still = [stack.enter_context(socket.create_connection(tls(silo))) for _ in range(150)]
        for one in still[:50]:
            one.sendall(b"OPTIONS sip:x SIP/2.0\r\n\r\n")
        for one in still[50:100]:
            one.sendall(b"\x16")
        for number in range(20):
            with Line("alice", tls(silo), tls=authority.client()) as alice:
                assert alice.write(BOB, b"%d" % number).code == 202
        for one in still:
            one.settimeout(20)
            assert ended(one)
    until(lambda: silo.status_json()["counters"].get("tls_failures") == 150, 10, "the failures are counted")


def ended(one: socket.socket) -> bool:
    try:
        while one.recv(1000):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def test_a_message_too_long_over_tls(silo: Silo, authority: Authority) -> None:
    with Line("alice", tls(silo), tls=authority.client()) as alice:
        assert alice.write(BOB, b"x" * 200000).code == 513
        assert alice.write(BOB, b"short").code == 202


def test_new_certificates_are_taken_without_a_restart_and_connections_live_on(
    silo: Silo, authority: Authority, shown: Shown
) -> None:
    with Line("alice", tls(silo), tls=authority.client()) as alice:
        assert alice.write(BOB, b"before").code == 202
        before = serial(tls(silo))
        good = shown.key.read_bytes()
        shown.key.write_text("half a file")
        until(lambda: "tls.not_taken" in silo.process.errors, 15, "the bad key is said")
        assert serial(tls(silo)) == before
        shown.key.write_bytes(good)
        authority.issue("silo", NAME)
        until(lambda: serial(tls(silo)) != before, 15, "the new certificate")
        assert alice.write(BOB, b"after").code == 202
        with Line("carl", tls(silo), tls=authority.client()) as carl:
            assert carl.write(BOB, b"anew").code == 202
    assert silo.process.errors.count("tls.not_taken") == 1


# -- out ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "contact", ["sips:bob@127.0.0.1:{port}", "sip:bob@127.0.0.1:{port};transport=tls", "sips:bob@localhost:{port}"]
)
def test_a_phone_is_reached_over_modern_tls(silo: Silo, authority: Authority, phone: PickUp, contact: str) -> None:
    """Names are looked up where TLS leads, and the certificate has to name them; `sips:` stays what it is."""
    server_side = authority.server(authority.issue("bob", "127.0.0.1", "localhost"))
    server_side.minimum_version = ssl.TLSVersion.TLSv1_3
    anybody = phone("anybody")
    assert anybody.message(silo.address, BOB, b"hello").code == 202
    with listening() as server:
        target = contact.format(port=server.getsockname()[1])
        said = anybody.ask(anybody.request("REGISTER", BOB, f"Contact: <{target}>", "Expires: 600"), silo.address)
        assert said.code == 200
        with pick_up(server, tls=server_side) as bob:
            request = bob.take()
            assert (request.uri, request.body) == (target, b"hello")
            assert request["Via"].startswith(f"SIP/2.0/TLS 127.0.0.1:{tls(silo)[1]};")
            silo.empties()


@pytest.mark.parametrize(
    ("names", "ours", "words"),
    [
        (("127.0.0.2",), True, "IP address mismatch"),
        (("127.0.0.1",), False, "unable to get local issuer certificate"),
    ],
    ids=["names another", "another CA's"],
)
def test_a_server_that_shows_the_wrong_certificate_gets_nothing(
    silo: Silo, authority: Authority, phone: PickUp, tmp_path: Path, names: tuple[str, ...], ours: bool, words: str
) -> None:
    authority = authority if ours else Authority(tmp_path, "others")
    with Switchboard(1, closes=False, tls=authority.server(authority.issue("bob", *names))) as phones:
        anybody = phone("anybody")
        assert anybody.message(silo.address, BOB, b"secret").code == 202
        contact = f"Contact: <sips:bob@127.0.0.1:{phones.ports[0]}>"
        assert anybody.ask(anybody.request("REGISTER", BOB, contact), silo.address).code == 200
        until(lambda: "certificate" in silo.list_json()[0]["why"], 10, "the reason")
        why = silo.list_json()[0]["why"]
        assert "cannot be reached: its certificate is not accepted" in why
        assert words in why
        assert phones.total == 0


def test_certificates_may_be_left_unchecked(start_silo: StartSilo, phone: PickUp, tmp_path: Path) -> None:
    others = Authority(tmp_path, "others")
    silo = start_silo("--set", "tls_verify=false")
    with Switchboard(1, closes=False, tls=others.server(others.issue("bob", "elsewhere.lan"))) as phones:
        anybody = phone("anybody")
        assert anybody.message(silo.address, BOB, b"hello").code == 202
        contact = f"Contact: <sips:bob@127.0.0.1:{phones.ports[0]}>"
        assert anybody.ask(anybody.request("REGISTER", BOB, contact), silo.address).code == 200
        silo.empties()
        assert phones.total == 1


def test_a_proxy_that_asks_who_we_are_is_told(silo: Silo, authority: Authority, phone: PickUp) -> None:
    server_side = authority.server(authority.issue("bob", "127.0.0.1"))
    server_side.load_verify_locations(authority.file)
    server_side.verify_mode = ssl.CERT_REQUIRED
    with Switchboard(1, closes=False, tls=server_side) as phones:
        anybody = phone("anybody")
        assert anybody.message(silo.address, BOB, b"hello").code == 202
        contact = f"Contact: <sips:bob@127.0.0.1:{phones.ports[0]}>"
        assert anybody.ask(anybody.request("REGISTER", BOB, contact), silo.address).code == 200
        silo.empties()
        assert phones.total == 1


def test_a_phone_gets_its_mail_on_the_tls_connection_it_registered_on(silo: Silo, authority: Authority) -> None:
    with (
        Line("alice", tls(silo), tls=authority.client()) as alice,
        Line("bob", tls(silo), tls=authority.client()) as bob,
    ):
        assert alice.write(BOB, b"hello").code == 202
        assert bob.sign_in().code == 200
        assert bob.take().body == b"hello"
        silo.empties()


# -- at start ----------------------------------------------------------------------------------------------------------
def test_bad_certificates_are_said_in_one_sentence(shown: Shown, authority: Authority, tmp_path: Path) -> None:
    silo, missing = Silo(tmp_path), tmp_path / "missing.pem"
    other = authority.issue("other", NAME).key
    cases = {
        "tls_certificate is not set": ["--bind", "tls:127.0.0.1:0"],
        f"tls_certificate {missing} cannot be read: No such file": options(Shown(missing, shown.key)),
        f"tls_key {other} is not the key of tls_certificate": options(Shown(shown.certificate, other)),
        f"tls_client_ca {shown.key} holds no CA": options(shown, tls_client_ca=shown.key),
    }
    for words, flags in cases.items():
        done = silo.cli("serve", "--bind", "udp:127.0.0.1:0", *flags)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done
        assert words in done.stderr


def test_check_looks_at_the_certificates(shown: Shown, tmp_path: Path) -> None:
    silo = Silo(tmp_path)
    good = silo.cli("check", *options(shown, tls_verify="false"))
    assert f"{shown.certificate}, {shown.key}" in good.stdout
    assert "anybody on the way can read and change messages" in good.stdout
    bad = silo.cli("check", *options(Shown(shown.key, shown.certificate)))
    assert bad.returncode == 2
    assert f"tls_certificate {shown.key} with tls_key {shown.certificate} cannot be used" in bad.stdout
