"""The steps of a Containerfile, done in roots of their own: what an engine would do, where there is none.

`FROM` copies a Debian that debootstrap made, or the root of an earlier stage; `RUN` and the program itself run in a
chroot with namespaces for processes and mounts. No layers, no registry, no network of its own: an image it is not.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "msilo-lite"
DEBIAN = HOME / "bookworm"
"A minimal Debian 12, as the image debian:bookworm-slim is."
BASES = ("docker.io/library/debian:bookworm-slim", "debian:bookworm-slim")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LENT = ("/etc/resolv.conf", "/etc/pip.conf", "/etc/xdg/pip")
"Files by which this machine reaches its registries; a step sees them while it runs."
AUTHORITIES, SEEN_AT = "/etc/ssl/certs/ca-certificates.crt", "/run/authorities.crt"
"Whom this machine trusts, and where a step sees it: a package that it installs writes to the usual place."
ENTER = """
root=$1; shift
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
while [ "$1" != -- ]; do
    mount --rbind "${1%%:*}" "$root${1##*:}"; shift
done
shift
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction."""

    word: str
    rest: str

    @property
    def words(self) -> list[str]:
        """The rest as a list, in JSON or in words."""
        return list(map(str, json.loads(self.rest))) if self.rest.startswith("[") else shlex.split(self.rest)

    def flags(self) -> tuple[dict[str, str], list[str]]:
        """`--name=value` at its beginning, and what follows."""
        words, found = self.words, dict[str, str]()
        while words and words[0].startswith("--"):
            name, _, value = words.pop(0)[2:].partition("=")
            found[name] = value
        return found, words


@dataclass(slots=True)
class Stage:
    """A root, and what is known of how to run it."""

    root: Path
    env: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    user: str = "root"
    entry: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)
    stop: str = "SIGTERM"

    def child_of(self, root: Path) -> Stage:
        """What `FROM` takes over."""
        return Stage(root, dict(self.env), self.user, list(self.entry), list(self.command))


def steps(text: str) -> Iterator[Step]:
    """The instructions, comments left out and continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        word, _, rest = line.strip().partition(" ")
        yield Step(word.upper(), rest.strip())


def build(file: Path, context: Path, work: Path, arguments: Mapping[str, str]) -> Stage:
    """Do all steps; returns the last stage. Raises CalledProcessError of a step that fails, ValueError for others."""
    stages: dict[str, Stage] = {}
    given: dict[str, str] = {}
    stage: Stage | None = None
    for number, step in enumerate(steps(file.read_text(encoding="utf-8"))):
        if step.word == "ARG":
            name, _, default = step.rest.partition("=")
            given[name] = arguments.get(name, default)
            continue
        if step.word == "FROM":
            source, _, name = _expanded(step.rest, given).partition(" AS ")
            stage = _from(source, stages, work / f"stage{number}")
            stages[name or str(number)] = stage
            continue
        if stage is None:
            raise ValueError(f"{step.word} before FROM")
        _do(stage, Step(step.word, _expanded(step.rest, given) if step.word != "RUN" else step.rest), context, stages)
    if stage is None:
        raise ValueError(f"{file} has no FROM")
    return stage


def _expanded(text: str, given: Mapping[str, str]) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda found: given.get(found[1], found[0]), text)


def _from(source: str, stages: Mapping[str, Stage], root: Path) -> Stage:
    if source not in stages and source not in BASES:
        raise ValueError(f"FROM {source}: only {BASES[0]} and stages of the same file can be had here")
    old = stages[source] if source in stages else Stage(DEBIAN)
    subprocess.run(["cp", "-a", "--reflink=auto", str(old.root), str(root)], check=True)
    return old.child_of(root)


def _do(stage: Stage, step: Step, context: Path, stages: Mapping[str, Stage]) -> None:
    if step.word == "RUN":
        ran = run(stage, ["/bin/sh", "-c", step.rest], user=stage.user, online=True)
        if ran.returncode:
            sys.stderr.write(ran.stdout[-4000:] + ran.stderr[-4000:])
            ran.check_returncode()
    elif step.word == "COPY":
        _copy(stage, step, context, stages)
    else:
        _note(stage, step)


def _note(stage: Stage, step: Step) -> None:
    """What an instruction says of how to run it."""
    if step.word in ("USER", "STOPSIGNAL"):
        setattr(stage, {"USER": "user", "STOPSIGNAL": "stop"}[step.word], step.rest)
    elif step.word in ("VOLUME", "EXPOSE"):
        (stage.volumes if step.word == "VOLUME" else stage.ports).extend(step.words)
    elif step.word == "ENV":
        for name, _, value in (word.partition("=") for word in step.words):
            stage.env[name] = value
    elif step.word == "ENTRYPOINT":
        stage.entry, stage.command = step.words, []
    elif step.word == "CMD":
        stage.command = step.words
    elif step.word == "HEALTHCHECK":
        stage.health = json.loads(step.rest.partition(" CMD ")[2])
    elif step.word != "LABEL":
        raise ValueError(f"{step.word} is not known here")


def _copy(stage: Stage, step: Step, context: Path, stages: Mapping[str, Stage]) -> None:
    flags, (*sources, target) = step.flags()
    origin = stages[flags["from"]].root if "from" in flags else context
    place = stage.root / target.lstrip("/")
    found = [one for source in sources for one in sorted(origin.glob(source.lstrip("/")))]
    if len(found) < len(sources):
        raise ValueError(f"COPY {step.rest}: not all of it is there")
    into = target.endswith("/") or len(found) > 1
    for one in found:
        if one.is_dir():  # its content, as an engine does
            shutil.copytree(one, place, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (place if into else place.parent).mkdir(parents=True, exist_ok=True)
            made = Path(shutil.copy2(one, place))
            made.chmod(int(flags["chmod"], 8) if "chmod" in flags else one.stat().st_mode)


def run(stage: Stage, words: list[str], *, user: str, online: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a command in the root of a stage to its end."""
    return subprocess.run(
        argv(stage, words, user=user, online=online),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def argv(
    stage: Stage,
    words: list[str],
    *,
    user: str,
    online: bool = False,
    env: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """How to run a command in the root of a stage; its process 1 is that command, the only child of this one."""
    lent = _lent() if online else []
    outside = {name: value for name, value in os.environ.items() if name.startswith("PIP_")} if online else {}
    if online and Path(AUTHORITIES).exists():
        lent.append(f"{AUTHORITIES}:{SEEN_AT}")
        outside["PIP_CERT"] = SEEN_AT
    for one in lent:
        source, _, target = one.partition(":")
        _place_for(source, stage.root / (target or source).lstrip("/"))
    shown = {**stage.env, "HOME": "/root" if user == "root" else "/data", **outside, **env}
    inside = ["env", "-i", *(f"{name}={value}" for name, value in shown.items()), *words]
    spaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    chroot = ["chroot", f"--userspec={user}:{user}", str(stage.root)]
    return [*spaces, "bash", "-euc", ENTER, "enter", str(stage.root), *lent, "--", *chroot, *inside]


def _lent() -> list[str]:
    """Files and folders of this machine that its package tools need to reach a registry."""
    told = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    named = re.findall(r"(?:file://)?(/[^\s']+)", told.stdout)
    return [one for one in dict.fromkeys([*LENT, *named]) if one != AUTHORITIES and Path(one).exists()]


def _place_for(source: str, place: Path) -> None:
    """Something to mount on."""
    if place.is_symlink():
        place.unlink()
    if Path(source).is_dir():
        place.mkdir(parents=True, exist_ok=True)
    elif not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
