"""A box that the commands look at."""

from contextlib import closing
from pathlib import Path

import pytest

from msilo_lite.box.message import Recipient, Turn
from msilo_lite.box.store import Store
from msilo_lite.sip.address import Aor

from .harness import ROOT, make
from .samples import NOW, delivered, message, stored

CAROL, DAVE = Aor("carol", "home.lan"), Aor("dave", "home.lan")


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """Three messages that wait, 1 and 2 for bob, 3 for carol, and one that was delivered."""
    file = tmp_path / "silo.sqlite"
    with closing(Store(file)) as store:
        store.write(delivered(*stored(store, "gone", owner=DAVE)), NOW)
        new = [
            message("grüße [bold]an[/] alle", kept="Subject: lunch [1]\r\n"),
            message(b"\x00\xff", ctype="application/octet-stream"),
            message("to carol", CAROL),
        ]
        store.write(Turn(new=new, recipients={CAROL: Recipient(CAROL, None, 1, 480, "480 Away")}), NOW)
    return file


@pytest.fixture(scope="session")
def binary() -> Path:
    """The single executable, built anew where a source has changed: half a minute, on a busy machine more."""
    make("binary")
    return ROOT / "dist" / "msilo-lite"
