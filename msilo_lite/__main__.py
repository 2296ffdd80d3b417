"""The command: `serve` runs under a supervisor, everything else is the command line's."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run what the arguments ask for; the exit code says how it went."""
    from .supervise import supervise, wanted

    if wanted(sys.argv[1:]):
        sys.exit(supervise(sys.argv[1:]))
    from .cli.app import main as run

    run()


if __name__ == "__main__":
    main()
