"""The command: `serve` runs under a supervisor, everything else is the command line's."""

from __future__ import annotations

import gc
import sys
from typing import NoReturn

GARBAGE = 20_000
"Objects between two looks of the garbage collector: a start makes many that stay, a turn thousands that end with it."


def main() -> NoReturn:
    """Run what the arguments ask for; the exit code says how it went."""
    from .supervise import supervise, wanted

    if wanted(sys.argv[1:]):
        sys.exit(supervise(sys.argv[1:]))
    gc.set_threshold(GARBAGE, 20, 50)
    from .cli.app import main as run

    run()


if __name__ == "__main__":
    main()
