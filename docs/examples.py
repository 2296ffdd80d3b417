"""Makes the complete files of examples/ out of what `init --pbx` prints pieces of: `make docs`."""

from __future__ import annotations

from pathlib import Path

from msilo_lite.cli.recipe import KINDS, example_of

EXAMPLES = Path(__file__).parent.parent / "examples"


def examples() -> dict[Path, str]:
    """Every such file with its text."""
    return {EXAMPLES / pbx / name: text for pbx in KINDS for name, text in example_of(pbx).items()}


def main() -> None:
    """Write them."""
    for file, text in examples().items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
