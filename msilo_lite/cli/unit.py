"""`init --systemd`: a unit for systemd, hardened as far as this very configuration allows.

The service is a user of its own (DynamicUser) that owns one folder and sees nothing else of the machine. It reads
secrets through LoadCredential, so that they stay files of root alone. What a setting needs is opened, and says why.
"""

from __future__ import annotations

import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ConfigError
from ..settings.config import Config
from ..settings.sources import Loaded
from ..sip.address import is_literal, next_host

NAME = "msilo-lite"
SERVE = ("serve", "--no-supervise")
"What systemd runs: it starts again what died, so nothing of ours needs to."
STATE = Path("/var/lib") / NAME
"The one place where the service may write (StateDirectory)."
SECRETS = ("password_file", "accounts_file", "tls_key")
"Settings, where there are such, that name a file which only root should read."
HOMES = ("/home/", "/root/", "/run/user/")
PRIVILEGED = 1024
"Ports below it take a capability to bind."

HEAD = """\
# {file}: written by `msilo-lite init --systemd` for {config}.
# Write it again when bind, trusted, peer, outbound_proxy, registrar, store_hook or a file of a secret changes.
[Unit]
Description=msilo-lite, an offline store for SIP messages
Wants=network-online.target
After=network-online.target
# It is tried again for ever: senders come again as well.
StartLimitIntervalSec=0

[Service]
Type=notify
"""
BODY = """\
# A mistake in the configuration is refused before the service sees it; `systemctl status` says which.
ExecReload={validate}
ExecReload=/bin/sh -c "kill -HUP $MAINPID"
Restart=always
RestartSec=1
# 2: the configuration is wrong, and trying again does not mend it.
RestartPreventExitStatus=2
# A large file of an older version is taken over at the start; at the end the answers to what is under way are awaited.
TimeoutStartSec=10min
TimeoutStopSec=45
# Told by the loop itself, and only while it turns and the file can be read.
WatchdogSec=60

# A user that exists while the service runs, and one folder, {state}, that belongs to it.
DynamicUser=yes
User={name}
StateDirectory={name}
StateDirectoryMode=0700
UMask=0077
"""
SANDBOX = """\
NoNewPrivileges=yes
ProtectSystem=strict
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
RemoveIPC=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
# UDP and TCP; AF_UNIX to speak to systemd, AF_NETLINK to ask for the addresses of this machine.
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
"""
FOOT = """
[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True)
class Program:
    """How this program is started again."""

    words: tuple[str, ...]
    single: bool = False
    "Whether it is the single executable: that unpacks itself, and the service is a child of what was started."
    places: tuple[str, ...] = field(default=())
    "Files that it needs to start."

    @classmethod
    def here(cls) -> Program:
        """The one that runs now."""
        if getattr(sys, "frozen", False):
            return cls((sys.executable,), single=True, places=(sys.executable,))
        script = shutil.which(sys.argv[0])
        if script and Path(script).name == NAME:
            return cls((str(Path(script).absolute()),), places=(str(Path(script).absolute()), sys.base_prefix + "/"))
        return cls((sys.executable, "-m", "msilo_lite"), places=(sys.executable, sys.base_prefix + "/"))


def unit(loaded: Loaded, program: Program, file: Path | None) -> tuple[str, tuple[str, ...]]:
    """The text of the unit, and what the reader has to do besides, a sentence each.

    `file`: where it will stand. Raises ConfigError where a setting does not fit a service of this kind.
    """
    config, source = loaded.config, loaded.file
    given = ("--config", str(source.absolute())) if source else ()
    head = HEAD.format(file=file or f"{NAME}.service", config=source or "the defaults")
    access = "# The single executable speaks as a child of what systemd starts.\nNotifyAccess=all\n"
    start = _line(*program.words, *SERVE, *given)
    validate = _line(*program.words, "config", "validate", *given[1:])
    body = BODY.format(validate=validate, state=STATE, name=NAME)
    text = [head, access if program.single else "", f"ExecStart={start}\n", body]
    text += [*_database(loaded), *_secrets(config), "\n", SANDBOX, *_openings(config, program), FOOT]
    return "".join(text), tuple(_remarks(loaded, program))


def _database(loaded: Loaded) -> Iterator[str]:
    if loaded.origins.get("db_url", "default") == "default":
        yield f"Environment=MSILO_DB_URL=sqlite:///{STATE}/silo.sqlite\n"
    elif not loaded.config.db_file.is_relative_to(STATE):
        raise ConfigError(
            f"db_url (from {loaded.origins['db_url']}) names {loaded.config.db_file}, where the service may not write; "
            f'move the file and set db_url = "sqlite:///{STATE}/silo.sqlite"'
        )


def _secrets(config: Config) -> Iterator[str]:
    """Each file of a secret as a credential: systemd reads it as root, the service gets a copy in memory."""
    for name in SECRETS:
        file: Path | None = getattr(config, name, None)
        if file is not None:
            yield f"LoadCredential={_line(f'{name}:{file.absolute()}')}\n"
            yield f"Environment=MSILO_{name.upper()}=%d/{name}\n"


def _openings(config: Config, program: Program) -> Iterator[str]:
    """What depends on the settings: capabilities, the home folders, code made at run time, who may be spoken to."""
    if any(0 < one.port < PRIVILEGED for one in config.endpoints):
        yield f"# A port below {PRIVILEGED} takes this capability, and it counts outside of a user namespace only.\n"
        yield "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n"
    else:
        yield "CapabilityBoundingSet=\nAmbientCapabilities=\nPrivateUsers=yes\n"
    yield f"ProtectHome={'read-only' if _in_a_home(program) else 'yes'}\n"
    if config.store_hook:
        yield "# MemoryDenyWriteExecute is left out: the store_hook may be a program that compiles at run time.\n"
    else:
        yield "MemoryDenyWriteExecute=yes\n"
    reason = _speaks_to_anybody(config)
    if reason:
        yield f"# IPAddressDeny is left out: {reason}.\n"
        return
    peers = [next_host(uri).strip("[]") for uri in (config.outbound_proxy, config.registrar) if uri]
    allowed = dict.fromkeys(["localhost", *map(str, config.networks), *peers])
    yield "# trusted, peer, outbound_proxy and registrar; the kernel drops whatever comes from or goes to elsewhere.\n"
    yield f"IPAddressDeny=any\nIPAddressAllow={' '.join(allowed)}\n"


def _speaks_to_anybody(config: Config) -> str:
    """Why the addresses we speak to cannot be listed; nothing where they can."""
    if not config.outbound_proxy:
        return "without an outbound_proxy messages go to whatever Contact a phone registers"
    if config.store_hook:
        return "nobody knows whom the store_hook calls"
    if getattr(config, "account", ()) or getattr(config, "accounts_file", None):
        return "users with an account come from anywhere"
    names = [uri for uri in (config.outbound_proxy, config.registrar) if uri and not is_literal(next_host(uri))]
    return f"{names[0]} is a name, whose address can change" if names else ""


def _in_a_home(program: Program) -> bool:
    return any(place.startswith(HOMES) for place in program.places)


def _remarks(loaded: Loaded, program: Program) -> Iterator[str]:
    config, source = loaded.config, loaded.file
    if _in_a_home(program):
        words = "stands in a home folder, which the service may be unable to read; install it below /opt or /usr/local"
        yield f"{next(one for one in program.places if one.startswith(HOMES))} {words}"
    if loaded.origins.get("db_url", "default") == "default":
        words = f'set db_url = "sqlite:///{STATE}/silo.sqlite" in the configuration file, so that `msilo-lite list`'
        yield f"{words} and the other commands find the same file as the service"
    if source and not source.stat().st_mode & stat.S_IROTH:
        yield f"the service's own user cannot read {source}: chmod 644 {source}"
    if config.password:
        words = "stands where the service's user can read it, as others can; put it into a file of root's alone"
        yield f"the password {words} and name that one with password_file"


def _line(*words: str) -> str:
    """Words as systemd reads them: specifiers and variables are doubled, spaces quoted."""
    plain = [word.replace("%", "%%").replace("$", "$$").replace("\\", "\\\\").replace('"', '\\"') for word in words]
    return " ".join(f'"{word}"' if " " in word else word for word in plain)
