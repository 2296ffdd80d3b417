"""A real Asterisk with the example configuration, and phones that have a password.

Asterisk runs from the folder into which tests/install-asterisk.sh unpacked it, by the loader and the libraries that lie
beside it: no chroot, no root, nothing of this machine's own. Each has its files in the test's folder and its ports from
the kernel, so that several run at once. Nothing here judges: the tests do.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from .peers import ROOT
from .phone import Address, Phone, Seen
from .process import Process, free_port, missing

EXAMPLES = ROOT / "examples" / "asterisk"
MODULES = """
    app_dial app_exec app_stack app_verbose app_while bridge_simple chan_pjsip codec_alaw codec_ulaw func_callerid
    func_channel func_cut func_devstate func_global func_logic func_pjsip_aor func_pjsip_contact func_pjsip_endpoint
    func_sorcery func_strings func_uri pbx_config res_pjproject res_pjsip res_pjsip_authenticator_digest
    res_pjsip_caller_id res_pjsip_dialog_info_body_generator res_pjsip_endpoint_identifier_ip
    res_pjsip_endpoint_identifier_user res_pjsip_exten_state res_pjsip_messaging res_pjsip_nat
    res_pjsip_outbound_authenticator_digest res_pjsip_outbound_publish res_pjsip_outbound_registration res_pjsip_path
    res_pjsip_pidf_body_generator res_pjsip_pubsub res_pjsip_registrar res_pjsip_sdp_rtp res_pjsip_session
    res_rtp_asterisk res_sorcery_astdb res_sorcery_config res_sorcery_memory res_timing_timerfd
"""


def unpacked() -> Path:
    """Where tests/install-asterisk.sh puts it."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    root = Path(os.environ.get("MSILO_ASTERISK_ROOT") or Path(cache) / "msilo-lite" / "asterisk")
    return root if (root / "usr/sbin/asterisk").exists() else missing(f"no Asterisk in {root}")


class Asterisk:
    """Asterisk with the example configuration: only addresses, ports and the interval of qualify are filled in."""

    def __init__(self, folder: Path, silo: Address, *, port: int = 0, qualify: int = 0, edit=None) -> None:
        self._root = unpacked()
        self._folder = folder / "asterisk"
        self._process: Process | None = None
        self.silo = silo
        self.address: Address = ("127.0.0.1", port or free_port())
        self.log = self._folder / "log" / "full"
        for name in ("etc", "run", "db", "log", "spool", "keys"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        self._configure(qualify, edit)

    def _configure(self, qualify, edit) -> None:
        etc, root = self._folder / "etc", self._root
        text = (EXAMPLES / "pjsip.conf").read_text()
        for name, value in {
            "bind": "{}:{}".format(*self.address),
            "contact": "sip:{}:{}".format(*self.silo),
            "match": self.silo[0],
            "qualify_frequency": str(qualify),
        }.items():
            text, count = re.subn(rf"^({name} = ).*$", rf"\g<1>{value}", text, flags=re.MULTILINE)
            assert count, (name, count)
        if edit: text = edit(text)
        shutil.copytree(root / "etc/asterisk", etc, dirs_exist_ok=True)
        (etc / "pjsip.conf").write_text(text)
        (etc / "extensions.conf").write_text((EXAMPLES / "extensions.conf").read_text())
        (modules,) = root.glob("usr/lib/*/asterisk/modules")
        places = {
            "astetcdir": etc, "astmoddir": modules, "astdatadir": root / "usr/share/asterisk", "astvarlibdir": self._folder,
            "astdbdir": self._folder / "db", "astkeydir": self._folder, "astspooldir": self._folder / "spool",
            "astrundir": self._folder / "run", "astlogdir": self._folder / "log",
        }
        lines = ["[directories]", *(f"{key} => {value}" for key, value in places.items()), "[options]", "verbose = 5"]
        (etc / "asterisk.conf").write_text("\n".join(lines) + "\n")
        (etc / "modules.conf").write_text("\n".join(["[modules]", "autoload = no", *(f"load = {m}.so" for m in MODULES.split())]) + "\n")
        (etc / "logger.conf").write_text("[logfiles]\nfull => notice,warning,error,verbose\n")

    @property
    def _argv(self) -> list[str]:
        loader = next(iter(self._root.glob("usr/lib*/ld-linux*")))
        libraries = ":".join(map(str, self._root.glob("usr/lib/*-linux-gnu*")))
        return [str(loader), "--library-path", libraries, str(self._root / "usr/sbin/asterisk"), "-C", str(self._folder / "etc/asterisk.conf")]

    def start(self) -> "Asterisk":
        self._process = Process([*self._argv, "-f"], self._folder, "asterisk")
        self._process.ready(self._answers, 20, "Asterisk answers OPTIONS")
        return self

    def _answers(self) -> bool:
        with Phone("probe") as probe:
            probe.send(probe.request("OPTIONS", f"{self.address[0]}:{self.address[1]}"), self.address)
            answer = probe.glance(0.2)
        return bool(answer and answer.code in (200, 401))

    def command(self, line: str) -> str:
        done = subprocess.run([*self._argv, "-rx", line], capture_output=True, text=True, timeout=10, check=False)
        return done.stdout

    def restart(self, number=signal.SIGTERM) -> None:
        self.close(number)
        self.start()

    def close(self, number=signal.SIGTERM) -> None:
        if self._process:
            self._process.stop(number, 5)


class Handset(Phone):
    """A phone that knows its password: it answers 401 once."""

    def __init__(self, user: str, password: str = "", host: str = "127.0.0.1") -> None:
        super().__init__(user, host)
        self.password = password or f"{user}-password"
        self.challenge: Seen | None = None

    def ask(self, raw: bytes, to: Address, seconds: float = 5) -> Seen:
        answer = super().ask(raw, to, seconds)
        if answer.code != 401:
            return answer
        self.challenge = answer
        return super().ask(authorized(raw, answer["WWW-Authenticate"], self.user, self.password), to, seconds)


def authorized(raw: bytes, challenge: str, user: str, password: str) -> bytes:
    asked = dict(re.findall(r'(\w+)="?([^",]*)"?', challenge))
    method, uri = raw.split()[0].decode(), raw.split()[1].decode()
    h = lambda *w: hashlib.md5(":".join(w).encode()).hexdigest()
    response = h(h(user, asked["realm"], password), asked["nonce"], "00000001", "c", "auth", h(method, uri))
    line = (f'Authorization: Digest username="{user}", realm="{asked["realm"]}", nonce="{asked["nonce"]}", uri="{uri}", response="{response}",'
            f' algorithm=MD5, qop=auth, nc=00000001, cnonce="c"' + (f', opaque="{asked["opaque"]}"' if "opaque" in asked else ""))
    raw = re.sub(rb"branch=z9hG4bK", b"branch=z9hG4bKa", raw, count=1)
    raw = re.sub(rb"CSeq: 1 ", b"CSeq: 2 ", raw, count=1)
    head, end, body = raw.partition(b"\r\n\r\n")
    return head + b"\r\n" + line.encode() + end + body
