"""Makes the pictures of the README, docs/*.svg, by rich from what a real daemon's commands show: `make docs`.

A daemon on loopback, a few phones, the commands on a terminal of 100 columns; what they print becomes the picture.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.integration.harness import Peer, Serve, on, run, run_on_terminal
from tests.integration.terminal import Terminal

HERE = Path(__file__).parent
COLUMNS = 100
FOLDER = "/var/lib/msilo-lite"
"What the pictures call the folder of the database."


def scene(silo: Serve, folder: Path) -> None:
    """Bob gets his mail, carol is busy, dave's phone refuses a picture, frank is held, the others are away."""
    with (
        Peer("alice", silo.address) as alice,
        Peer("bob", silo.address) as bob,
        Peer("carol", silo.address) as carol,
        Peer("dave", silo.address) as dave,
    ):
        for who, text in (("bob", "Are you there?"), ("bob", "Dinner at eight"), ("carol", "Call me back")):
            alice.write(who, text)
        for who in ("dave", "frank", "grace", "grace", "heidi"):
            bob.write(who, "The parcel is here")
        for phone in (bob, carol, dave):
            phone.register()
        bob.take(2)
        carol.reply(carol.receive(), 486, reason="Busy Here")
        dave.reply(dave.receive(), 415, reason="Unsupported Media Type")
        alice.ask(alice.request("MESSAGE", "bob", "Require: x", body=b"x"))
        run(folder, "hold", "--to", "frank@home.lan", *on(silo.file))
        run(folder, "remind", "heidi@home.lan", "Take the pizza out", "--at", "+20m", *on(silo.file))
        time.sleep(2.5)  # the daemon tells of it once a second


def picture(name: str, title: str, shown: str) -> None:
    """What a terminal showed, as a picture that needs nothing from elsewhere."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi(shown.replace("\r", "").rstrip()), soft_wrap=True)
    drawn = console.export_svg(title=title, unique_id=name)
    (HERE / f"{name}.svg").write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL), encoding="utf-8")


def last_screen(raw: str) -> str:
    """The last picture of a program that draws on the whole screen."""
    frame = raw.rpartition("\x1b[H")[2].partition("\x1b[?1049l")[0]
    return re.sub(r"\x1b\[\?\d+[hl]", "", frame)


def main() -> None:
    """All three."""
    with tempfile.TemporaryDirectory(prefix="msilo-lite-") as name:
        folder = Path(name)

        def tidy(text: str) -> str:
            return re.sub(r"process \d+", "process 812", text.replace(str(folder), FOLDER))

        with Serve(folder, "--settle", "0.1", bind=("udp:127.0.0.1:5070",)) as silo:
            scene(silo, folder)
            for command in ("list", "status"):
                shown = run_on_terminal(folder, command, *on(silo.file), columns=COLUMNS).out
                picture(command, f"msilo-lite {command}", tidy(shown))
            with Terminal(folder, "top", "--interval", "1", *on(silo.file), columns=COLUMNS, lines=34) as terminal:
                terminal.until("Last wake-ups")
                with Peer("alice", silo.address) as alice:
                    for number in range(60):
                        alice.write("ivan", f"number {number}")
                        time.sleep(0.05)
                terminal.type("q")
                terminal.ended()
                picture("top", "msilo-lite top", tidy(last_screen(terminal.raw)))


if __name__ == "__main__":
    main()
