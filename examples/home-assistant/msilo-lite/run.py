"""Starts msilo-lite in a Home Assistant add-on: the options become its settings, root becomes a user of its own.

run.py COMMAND...    the command of msilo-lite, such as: serve --no-supervise
"""

import json
import os
import pwd
import sys
from pathlib import Path

DATA = Path("/data")
"The add-on's own folder, which Supervisor keeps."
OPTIONS = DATA / "options.json"
FILE = Path("/config/config.toml")
"Settings beyond the options, in the folder addon_configs of Home Assistant; optional."
USER = "msilo"


def settings(options: dict[str, object]) -> dict[str, str]:
    """The options as msilo-lite reads them from the environment; empty ones are left to their defaults."""
    given = {name: value for name, value in options.items() if value not in (None, "", [])}
    return {
        f"MSILO_{name.upper()}": ",".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in given.items()
    }


def become(name: str) -> None:
    """Give up root, once the folder for the database belongs to that user."""
    user = pwd.getpwnam(name)
    for place in (DATA, *DATA.glob("silo.sqlite*")):
        os.chown(place, user.pw_uid, user.pw_gid)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)


def main() -> None:
    """Become msilo-lite."""
    environment = {**os.environ, **settings(json.loads(OPTIONS.read_text(encoding="utf-8")))}
    environment.update(HOME=str(DATA), MSILO_DB_URL=f"sqlite:///{DATA}/silo.sqlite")
    if FILE.is_file():
        environment["MSILO_CONFIG"] = str(FILE)
    if os.geteuid() == 0:
        become(USER)
    os.execvpe("msilo-lite", ["msilo-lite", *sys.argv[1:]], environment)


if __name__ == "__main__":
    main()
