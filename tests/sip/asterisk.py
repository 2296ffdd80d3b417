"""A real Asterisk with the example configuration, and phones that know a password.

Asterisk runs from the folder into which tests/install-asterisk.sh unpacked it, by the loader and the libraries that
lie beside it: it needs no root, no chroot and nothing of this machine's own. Each has its files in the test's folder
and its ports from the kernel, so that several can run at once. Nothing here judges: the tests do.
"""

import hashlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from .peers import ROOT
from .phone import Address, Phone, Seen, answers_options
from .process import Process, free_port, missing

Files = Callable[[Address], dict[str, str]]
EXAMPLES = ROOT / "examples" / "asterisk"
MODULES = """
    app_dial app_stack app_while bridge_simple chan_pjsip codec_alaw codec_ulaw func_cut func_devstate func_strings
    pbx_config res_pjproject res_pjsip res_pjsip_authenticator_digest res_pjsip_endpoint_identifier_ip
    res_pjsip_endpoint_identifier_user res_pjsip_exten_state res_pjsip_logger res_pjsip_messaging res_pjsip_nat
    res_pjsip_outbound_publish res_pjsip_pidf_body_generator res_pjsip_pubsub res_pjsip_registrar res_pjsip_sdp_rtp
    res_pjsip_session res_rtp_asterisk res_sorcery_astdb res_sorcery_config res_sorcery_memory res_timing_timerfd
"""
"Those the example needs, and a log of packets. All of Debian's would take ports that other Asterisks want as well."


def unpacked() -> Path:
    """Where tests/install-asterisk.sh puts it. Without it the test skips, and fails where Asterisk is required."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    root = Path(os.environ.get("MSILO_ASTERISK_ROOT") or Path(cache) / "msilo-lite" / "asterisk")
    if (root / "usr/sbin/asterisk").exists():
        return root
    why = f"Asterisk is not in {root} (tests/install-asterisk.sh)"
    missing(why, required=os.environ.get("MSILO_REQUIRE_ASTERISK") == "1")


class Asterisk:
    """Asterisk with the files of the example: addresses, ports and the interval of qualify are filled in, no more.

    `silo`: where it finds the silo, an address that no phone has. None: the silo is an extension and registers.
    `qualify`: seconds between two OPTIONS to a phone or the silo; 0: everyone who is registered is there.
    `digest`: the one algorithm in which it asks the silo for its password; empty: MD5, as shipped.
    `files`: other files than those of the example, made when the address is known.
    """

    def __init__(
        self,
        folder: Path,
        silo: Address | None,
        *,
        port: int = 0,
        qualify: int = 0,
        digest: str = "",
        files: Files | None = None,
    ) -> None:
        self._root = unpacked()
        (self._modules,) = self._root.glob("usr/lib/*/asterisk/modules")
        self._folder = folder / f"asterisk-{len(list(folder.glob('asterisk-*')))}"
        self._etc = self._folder / "etc"
        self._process: Process | None = None
        self.address: Address = ("127.0.0.1", port or free_port())
        for name in ("run", "db", "log", "spool"):
            (self._folder / name).mkdir(parents=True)
        shutil.copytree(self._root / "etc/asterisk", self._etc)  # as Debian ships it, but for what follows
        for name, text in (files(self.address) if files else self._example(silo, qualify, digest)).items():
            (self._etc / name).write_text(text)
        self._write("asterisk.conf", "directories", [f"{key} => {place}" for key, place in self._places().items()])
        self._write("modules.conf", "modules", ["autoload = no", *(f"load = {name}.so" for name in MODULES.split())])
        self._write("logger.conf", "logfiles", ["full => notice,warning,error,verbose(3)"])

    def _example(self, silo: Address | None, qualify: int, digest: str) -> dict[str, str]:
        pjsip = self._pjsip(silo, qualify)
        if digest:
            pjsip = pjsip.replace("username = silo\n", f"username = silo\nsupported_algorithms_uas = {digest}\n", 1)
        return {"pjsip.conf": pjsip, "extensions.conf": (EXAMPLES / "extensions.conf").read_text()}

    def _pjsip(self, silo: Address | None, qualify: int) -> str:
        text = (EXAMPLES / "pjsip.conf").read_text()
        values = {"bind": "{}:{}".format(*self.address), "qualify_frequency": str(qualify)}
        if silo:
            values |= {"contact": "sip:{}:{}".format(*silo), "match": silo[0]}
        else:
            text = _with_extension(text)
        for name, value in values.items():
            text, count = re.subn(rf"^({name} = ).*$", rf"\g<1>{value}", text, flags=re.MULTILINE)
            assert count, f"pjsip.conf sets no {name}"
        return text

    def _places(self) -> dict[str, Path]:
        places = {f"ast{name}dir": self._folder / name for name in ("etc", "run", "db", "log", "spool")}
        places |= {"astmoddir": self._modules, "astdatadir": self._root / "usr/share/asterisk"}
        return places | {"astvarlibdir": self._folder, "astkeydir": self._folder}

    def _write(self, name: str, section: str, lines: list[str]) -> None:
        (self._etc / name).write_text("\n".join([f"[{section}]", *lines, ""]))

    @property
    def _argv(self) -> list[str]:
        libraries = self._modules.parent.parent
        (loader,) = libraries.glob("ld-linux*")
        program = self._root / "usr/sbin/asterisk"
        return [str(loader), "--library-path", str(libraries), str(program), "-C", str(self._etc / "asterisk.conf")]

    def start(self) -> "Asterisk":
        self._process = Process([*self._argv, "-f"], self._folder, "asterisk")
        self._process.ready(self._answers, 20, "Asterisk answers OPTIONS")
        return self

    def _answers(self) -> bool:
        return answers_options(self.address, 200, 401)  # 503 while it still starts

    def command(self, line: str) -> str:
        """What a line typed at its console prints, for example "pjsip show contacts"."""
        argv = [*self._argv, "-rx", line]
        return subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False).stdout

    def hint(self, user: str, value: str) -> None:
        """What a user's hint looks at, from now on."""
        file = self._etc / "extensions.conf"
        line = f"exten => {user},hint,"
        assert line in file.read_text()
        file.write_text(re.sub(rf"(?m)^{re.escape(line)}.*$", line + value, file.read_text()))
        self.command("dialplan reload")

    def contacts(self, user: str) -> list[str]:
        """The addresses under which the dialplan would reach a user now."""
        found = self.command(f"dialplan eval function PJSIP_DIAL_CONTACTS({user})")
        return re.findall(rf"PJSIP/{user}/(sip:[^\s&]+)", found)

    @property
    def log(self) -> str:
        return (self._folder / "log" / "full").read_text("utf-8", "replace")

    @property
    def stored(self) -> list[str]:
        """The keys of its database on disk, which has who is registered and who watches, up to a second late."""
        with closing(sqlite3.connect(self._folder / "db" / "astdb.sqlite3")) as database:
            return [str(key) for (key,) in database.execute("SELECT key FROM astdb")]

    def note_requests_of(self, host: str) -> None:
        """From now on, and until it ends, the log has every packet to and from this address."""
        answer = self.command(f"pjsip set logger host {host}")
        assert "enabled" in answer.lower(), answer

    def noted(self, method: str) -> list[str]:
        """The bodies of the requests that were noted, in the order in which they came."""
        packet = rf"<--- Received SIP request[^\n]*\n{method} .*?\n\n(.*?)\n(?=\[|<---|\n|\Z)"
        return re.findall(packet, self.log.replace("\r", ""), re.DOTALL)

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        """As after an update, or a crash."""
        assert self._process is not None
        self._process.stop(number)
        self.start()

    def close(self) -> None:
        if self._process:
            self._process.stop(signal.SIGKILL)  # an orderly end would take it half a second


def _with_extension(text: str) -> str:
    """pjsip.conf after its reader has followed the comment above the last part."""
    before, _, rest = text.partition(";;;;;;; The silo ;;;;;;;")
    _, found, instead = rest.partition(";;;;;;; Instead")
    assert found, "pjsip.conf has no variant with the silo as an extension"
    return before + re.sub(r"^;(?=\[|\w+ = )", "", f";{instead}", flags=re.MULTILINE)


class Handset(Phone):
    """A phone that gives its password when asked, and answers each OPTIONS that it comes upon while a test looks."""

    def __init__(self, user: str, host: str = "127.0.0.1", *, password: str = "") -> None:
        super().__init__(user, host)
        self.password = password or f"{user}-password"
        self.there = True
        "Whether it answers OPTIONS."

    def glance(self, seconds: float = 0) -> Seen | None:
        end = time.monotonic() + seconds
        while (seen := super().glance(end - time.monotonic())) and seen.method == "OPTIONS":
            if self.there:
                self.answer(seen, 200)
        return seen

    def ask(self, raw: bytes, to: Address, seconds: float = 5) -> Seen:
        answer = super().ask(raw, to, seconds)
        return super().ask(self.authorize(raw, answer), to, seconds) if answer.code in (401, 407) else answer

    def authorize(self, raw: bytes, refusal: Seen) -> bytes:
        """The request again, with the digest that the 401 or 407 asks for (RFC 2617: MD5, with or without qop=auth)."""
        question, reply = ("Proxy-Authenticate", "Proxy-Authorization")
        if refusal.code == 401:
            question, reply = ("WWW-Authenticate", "Authorization")
        asked = dict(re.findall(r'(\w+)="?([^",]*)"?', refusal[question]))
        method, uri = raw.decode("utf-8", "surrogateescape").split(" ", 2)[:2]
        secret, request = _md5(self.user, asked["realm"], self.password), _md5(method, uri)
        values = {name: asked[name] for name in ("realm", "nonce", "opaque") if name in asked}
        values |= {"username": self.user, "uri": uri}
        tail = "algorithm=MD5"
        if "qop" in asked:
            values |= {
                "cnonce": "cnonce",
                "response": _md5(secret, asked["nonce"], "00000001", "cnonce", "auth", request),
            }
            tail += ", qop=auth, nc=00000001"
        else:
            values["response"] = _md5(secret, asked["nonce"], request)
        quoted = ", ".join(f'{name}="{value}"' for name, value in values.items())
        line = f"{reply}: Digest {quoted}, {tail}\r\nContent-Length:"
        raw = raw.replace(b";branch=z9hG4bK", b";branch=z9hG4bKa", 1)  # a transaction of its own
        raw = re.sub(rb"(?<=CSeq: )\d+", lambda found: b"%d" % (int(found[0]) + 1), raw, count=1)
        return raw.replace(b"Content-Length:", line.encode("utf-8", "surrogateescape"), 1)


def _md5(*words: str) -> str:
    return hashlib.md5(":".join(words).encode(), usedforsecurity=False).hexdigest()
