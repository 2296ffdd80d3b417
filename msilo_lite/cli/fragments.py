"""Configuration files of PBXs, kept once: whole they are `examples/`, and what stands between their scissors is what
`init` prints. Pure but for reading the files, which lie in this package.

A recipe is plain text of the PBX's own language with three additions:

- `@NAME@` stands for a value, such as the address of the silo; a run of lines that hold `@PHONE@` stands there once
  for each phone.
- A comment `8< WHEN: WHERE` begins a piece and a comment `>8` ends it. WHERE tells a person where it goes. WHEN is
  `silo` (always), `address` or `extension` (how the PBX knows the silo), or `each` (once for each phone with a name).
  What a whole file has as comments in pieces of the last two kinds, being an alternative, is none in the piece.
- A comment `8< as in FILE` stands for the pieces of another recipe.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby

_VALUE = re.compile(r"@([A-Z][A-Z_]*)@")
_BEGIN = re.compile(r"\s*(?:#|;|//|<!--)\s*8<\s+(?P<when>silo|address|extension|each): (?P<where>.*?)(?:\s*-->)?")
_END = re.compile(r"\s*(?:#|;|//|<!--)\s*>8(?:\s*-->)?")
_AS_IN = re.compile(r"(?m)^\s*(?:#|;|//|<!--)\s*8<\s+as in (\S+)(?:\s*-->)?\n")
_OPTIONAL = re.compile(r"^;(?=[^\s;])")
"A semicolon that only keeps a line of a piece out of the whole file; comments have a blank behind it."
SAMPLE = "101"
"A phone to show what is meant, where none has a name."


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file, to be pasted into the user's own file of that name."""

    file: str
    where: str
    "Where in that file, in words."
    text: str


def whole(folder: str, file: str, values: Mapping[str, str], phones: Sequence[str]) -> str:
    """A complete file with its values. `folder` and `file`: names below `recipes`."""
    found = ""
    for when, lines in _parts(_source(folder, file).splitlines()):
        if when == "each":
            found += "".join(_filled(lines, {**values, "PHONE": one}, ()) for one in _named(phones))
        else:
            found += _filled(lines, values, phones)
    return found


def pieces(folder: str, file: str, values: Mapping[str, str], phones: Sequence[str], way: str) -> Iterator[Piece]:
    """What is to be pasted into one file, in order. `way`: `address` or `extension`."""
    for begin, lines in _cut(_source(folder, file)):
        when, where = begin["when"], begin["where"]
        bare = [_OPTIONAL.sub("", line) for line in lines]
        if when == "each":
            named = _named(phones)
            text = "\n".join(_filled(bare, {**values, "PHONE": one}, ()) for one in named)
            yield Piece(file, where, text or _as_sample(_filled(bare, {**values, "PHONE": SAMPLE}, ())))
        elif when in ("silo", way):
            yield Piece(file, where, _filled(bare if when == "extension" else lines, values, phones))


def is_pattern(phone: str) -> bool:
    """Whether it stands for many: a pattern of Asterisk's dialplan."""
    return phone.startswith("_")


def _named(phones: Sequence[str]) -> list[str]:
    return [phone for phone in phones if not is_pattern(phone)]


def _as_sample(text: str) -> str:
    """Lines for a phone that nobody has named, as comments."""
    lines = "".join(f"; {line}\n" if line else "\n" for line in text.splitlines())
    return f"; for each of your phones, here {SAMPLE}:\n{lines}"


def _source(folder: str, file: str) -> str:
    """The recipe, what it shares with others included."""
    place = files(__package__.rpartition(".")[0]) / "recipes"
    text = (place / folder / file).read_text(encoding="utf-8")

    def shared(found: re.Match[str]) -> str:
        other = _cut((place / found[1]).read_text(encoding="utf-8"))
        return "".join(f"{line}\n" for begin, lines in other if begin["when"] == "silo" for line in lines)

    return _AS_IN.sub(shared, text)


def _cut(text: str) -> Iterator[tuple[re.Match[str], list[str]]]:
    """Each piece: how it begins, and its lines."""
    begun: re.Match[str] | None = None
    lines: list[str] = []
    for line in text.splitlines():
        if begun and _END.fullmatch(line):
            yield begun, lines
            begun = None
        elif begun:
            lines.append(line)
        elif begun := _BEGIN.fullmatch(line):
            lines = []


def _parts(lines: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """A whole file in parts, scissors included: those that stand there once for each phone are `each`."""
    when, part = "", list[str]()
    for line in lines:
        begun = _BEGIN.fullmatch(line)
        ends = when == "each" and _END.fullmatch(line)
        if ends:
            yield when, part
            when, part = "", []
        part.append(line)
        if begun and begun["when"] == "each":
            yield "", part
            when, part = "each", []
    yield when, part


def _filled(lines: Sequence[str], values: Mapping[str, str], phones: Sequence[str]) -> str:
    """The lines with their values. Raises KeyError for a name without one."""
    found: list[str] = []
    for repeated, run in groupby(lines, lambda line: bool(phones) and "@PHONE@" in line):
        same = list(run)
        found += _repeated(same, values, phones) if repeated else [_line(one, values) for one in same]
    return "".join(f"{line}\n" for line in found)


def _repeated(lines: Sequence[str], values: Mapping[str, str], phones: Iterable[str]) -> list[str]:
    found = []
    for phone in phones:
        here = {**values, "PHONE": phone, "DEVICE": "${EXTEN}" if is_pattern(phone) else phone}
        found += [_line(one, here) for one in lines]
    return found


def _line(text: str, values: Mapping[str, str]) -> str:
    return _VALUE.sub(lambda found: values[found[1]], text)
