"""`python -m tests.fuzz TARGET --seconds N`: fuzz a parser, the edge or the configuration, and say how it went.

Ends with 0 and one line of figures, or with the input that broke something, as a file and on the terminal.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["msilo_lite", "sipmessage", "tests.fuzz.targets"]):
    from .targets import ALL, seeds

LONGEST = {"edge": 4200, "request": 4200}
"Bytes of an input; others have the default below."


def main() -> None:
    """Fuzz until the time is over."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=[*ALL])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument(
        "--findings", type=Path, default=Path("fuzz-findings"), help="where an input that breaks is put"
    )
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    for name in [name for name in os.environ if name.startswith("MSILO_")]:
        del os.environ[name]  # the configuration of whoever runs this stays out
    corpus = Path(tempfile.mkdtemp(prefix="msilo-fuzz-"))
    for number, seed in enumerate(seeds(asked.target)):
        (corpus / f"seed{number}").write_bytes(seed)
    asked.findings.mkdir(exist_ok=True)
    os.environ["XDG_CONFIG_HOME"] = str(corpus.parent / "nothing-here")
    target, tried, since = ALL[asked.target], 0, time.monotonic()

    def one(data: bytes) -> None:
        nonlocal tried
        tried += 1
        if time.monotonic() - since > asked.seconds:
            sys.stdout.write(f"fuzz: {asked.target}: {tried} inputs in {asked.seconds} s, none broke anything\n")
            sys.stdout.flush()
            os._exit(0)  # libFuzzer would go on until it has slept
        target(data)

    words = [
        sys.argv[0],
        str(corpus),
        "-verbosity=0",
        f"-max_total_time={asked.seconds + 30}",
        f"-max_len={LONGEST.get(asked.target, 1000)}",
        f"-artifact_prefix={asked.findings}/{asked.target}-",
    ]
    atheris.Setup(words, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
