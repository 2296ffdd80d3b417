"""Kamailio's pseudo-variables in our parameters: a setting into a `Template`, that and a request into text.

Each variable is what Kamailio 5.6.3 prints for it; the few places where we differ on purpose say so. Pure: the request,
where it came from and the time are arguments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ..sip.lines import unfolded
from ..sip.wire import ALONE, COMPACT, OWN_PREFIX, Request
from ..value import value

PLAIN = (
    "fu", "fU", "fd", "fn", "tu", "tU", "td", "tn", "ru", "rU", "rd", "ou", "oU", "od",
    "ci", "ct", "cT", "rb", "si", "sp", "Ts", "TS",
)  # fmt: skip
"Variables without argument."
EXAMPLES = {"hdr": "Subject", "time": "hour", "timef": "%H:%M"}
"Variables with an argument, each with one that works."
FIELDS = ("sec", "min", "hour", "mday", "mon", "year", "wday", "yday", "isdst")
"Arguments of $time."
NULL = "<null>"
"What Kamailio prints in a text for a variable without value."
SCRIPTED = frozenset({"avp", "var", "vz", "vn", "shv", "shvinc", "sht", "xavp", "xavu", "xavi", "dlg_var"})
"Variables that Kamailio's script sets; there is no script here."
SYNONYMS = {
    "from": "$fu", "from.user": "$fU", "from.domain": "$fd", "to": "$tu", "to.user": "$tU", "to.domain": "$td",
    "ruri": "$ru", "ruri.user": "$rU", "ruri.domain": "$rd", "ouri": "$ou", "src_ip": "$si", "ua": "$hdr(User-Agent)",
    "Tf": "$timef(%c)", "TF": "$timef(%c)",
}  # fmt: skip
"Kamailio's other names for what we have."
FRAME = (ALONE | {"via", "route", "record-route"}) - {"content-type"}
"Headers that the SIP stack writes: a second one would make another request of it."
_HEADERS = {"ci": "call-id", "ct": "contact", "cT": "content-type"}
_PEOPLE = {"f": "from", "t": "to"}
_NESTED = r"(?:[^()]|\([^()]*\))*"
_VARIABLE = re.compile(
    r"\$(?:(?P<dollar>\$|\(\$\))|(?P<open>\()?(?P<name>[A-Za-z0-9_.?]*)"
    rf"(?:\((?P<argument>{_NESTED})\))?(?(open)(?P<rest>{_NESTED})\)))"
)
_INDEX = re.compile(r"\[(-?[0-9]{1,9}|\*)\]")
_TOKEN = re.compile(r"[A-Za-z0-9.!%*_+`'~-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_DIRECTIVE = re.compile(r"%[-_0^#]?[0-9]{0,2}[EO]?[aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZ%]")
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_ADDRESS = re.compile(
    rf'(?:(?P<name>{_QUOTED}[ \t]*|[^"<>;\\]*)<[ \t]*(?P<inside>[^<>" \t\r\n]+)[ \t]*>|(?P<bare>[^<>"; \t\r\n]+))'
    rf'[ \t]*(?:;(?:[^<"]|{_QUOTED})*)?',
    re.DOTALL,
)
_URI = re.compile(
    r"sips?:(?:(?P<user>[^@:]+)(?::[^@:;?]*)?@)?(?P<host>\[[^\[\]@]*\]|[a-z0-9][a-z0-9._-]*)(?::[0-9]*)?(?:[;?][^@]*)?"
    r"|tel:(?P<number>[^@:;?]+)(?:[:;?][^@]*)?",
    re.IGNORECASE | re.ASCII,
)


@value
class Subject:
    """What variables are looked up in."""

    request: Request
    host: str
    "Source IP address, without brackets."
    port: int
    now: int
    "UTC seconds."


@dataclass(frozen=True, slots=True)
class Variable:
    """One pseudo-variable."""

    text: str
    "As written."
    name: str
    argument: str = ""
    index: int | None = 0
    "Which one of several headers, negative from the end; None: all of them."

    def value(self, subject: Subject) -> str | None:
        """Its value, or None for null; may hold control characters."""
        request, kind, part = subject.request, self.name[0], self.name[1:]
        if self.name == "hdr":
            return self._header(request)
        if self.name in EXAMPLES:
            return _time(self.argument, datetime.fromtimestamp(subject.now, UTC).astimezone())
        if self.name in _HEADERS:
            value = request.get(_HEADERS[self.name])
            return value or None if self.name == "ct" else value
        if kind in _PEOPLE:
            return _of_address(request.get(_PEOPLE[kind]) or "", part)
        if self.name == "rb":  # to the end of the datagram, whatever Content-Length says
            return request.body.decode("utf-8", "surrogateescape")
        if kind in "ro":  # nothing here rewrites a Request-URI: it is the original
            return request.target if part == "u" else _of_uri(request.target, part)
        return subject.host if self.name == "si" else str(subject.port if self.name == "sp" else subject.now)

    def _header(self, request: Request) -> str | None:
        """One line, a list in it not taken apart; unfolded and without blanks at its end, unlike Kamailio's."""
        wanted = _long(self.argument)
        values = [value for key, value in request.headers if wanted in (key, "*")]
        if self.index is None:
            return ",".join(values) if values else None
        return values[self.index] if -len(values) <= self.index < len(values) else None


@dataclass(frozen=True, slots=True)
class Template:
    """The value of a parameter: text with pseudo-variables in it."""

    text: str
    "As configured."
    parts: tuple[str | Variable, ...]
    rows: tuple[Template, ...] = ()
    "The lines of a template of header lines."

    @classmethod
    def parse(cls, text: str) -> Template:
        """Raises ValueError with a sentence that names the variable and says what to write instead."""
        return cls(text, _parts(text))

    @classmethod
    def parse_lines(cls, text: str) -> Template:
        """A template of header lines, CR LF between them. Raises ValueError too where a line can be no header."""
        rows = tuple(cls.parse(line) for line in unfolded(text) if line.strip(" \t"))
        for row in rows:
            _check_line(row)
        return cls(text, _parts(text), rows)

    @property
    def fixed(self) -> bool:
        """Whether it holds no variable."""
        return not any(isinstance(part, Variable) for part in self.parts)

    def expand(self, subject: Subject | None) -> str | None:
        """The text; without a subject every variable is null.

        None for a lone variable that is null, where Kamailio's msilo would write `<null>` on the wire. May hold control
        characters: not for headers.
        """
        values = [part if isinstance(part, str) else part.value(subject) if subject else None for part in self.parts]
        return None if values == [None] else "".join(NULL if value is None else value for value in values)

    def expand_line(self, subject: Subject | None) -> str | None:
        """The same for a place in a header: what came out of a variable cannot start a line (RFC 3261 7.3.1)."""
        text = self.expand(subject)
        return None if text is None else _CONTROL.sub(" ", text)

    def lines(self, subject: Subject | None) -> tuple[tuple[str, str], ...] | None:
        """Names and values of the header lines; None where all of them are lone variables that are null.

        A line whose name came out of a variable is left out where it is no header, one of the stack's or one of those
        that steer us.
        """
        given = [(row, text) for row in self.rows if (text := row.expand_line(subject)) is not None]
        if self.rows and not given:
            return None
        return tuple(pair for row, text in given if (pair := _header_line(text, row.parts[0])))


def _parts(text: str) -> tuple[str | Variable, ...]:
    """Text and variables in turn, `$$` for a dollar sign. Raises ValueError."""
    parts: list[str | Variable] = []
    literal, at = "", 0
    for found in _VARIABLE.finditer(text):
        literal += text[at : found.start()]
        at = found.end()
        if found["dollar"]:
            literal += "$"
        elif not found["open"] and found["argument"] is None and text.startswith("(", at):
            raise ValueError(f"{found[0]}( lacks a closing parenthesis; write one, as in $hdr(Subject)")
        else:
            parts += [literal, _variable(found)]
            literal = ""
    return tuple(part for part in [*parts, literal + text[at:]] if part)


def _variable(found: re.Match[str]) -> Variable:
    """Raises ValueError for one that we do not have."""
    text, name, argument, rest = found[0], found["name"], found["argument"], found["rest"] or ""
    if name not in PLAIN and name not in EXAMPLES:
        raise ValueError(_unknown(text, name))
    plain = f"${name}" if argument is None else f"${name}({argument})"
    if name in PLAIN and argument is not None:
        raise ValueError(f"{text} has an argument, ${name} takes none; write $({name}) where a parenthesis follows it")
    if name in EXAMPLES and not argument:
        raise ValueError(f"{text} lacks its argument; write {_example(name)}")
    if "{" in rest:
        raise ValueError(f"{text} has a transformation, which is not supported; write {plain}")
    index = _INDEX.fullmatch(rest)
    if rest and (index is None or name != "hdr"):
        raise ValueError(f"{text} ends in {rest!r}, which means nothing here; write {plain}")
    argument = (argument or "").rstrip(" \t") if name == "hdr" else argument or ""
    if name == "hdr" and not _TOKEN.fullmatch(argument):
        raise ValueError(f"{text} names no header; write its name alone, such as $hdr(Subject)")
    if name == "time" and argument not in FIELDS and "%" not in argument:
        raise ValueError(f"{text} asks for no part of a time; write one of {', '.join(FIELDS)}, or $time(%H:%M)")
    return Variable(text, name, argument, 0 if index is None else None if index[1] == "*" else int(index[1]))


def _unknown(text: str, name: str) -> str:
    """What to write in place of a variable that we do not have."""
    if not name[:1].isalpha():
        return f"{text} names no variable; write $$ for a dollar sign"
    if name in SCRIPTED:
        return (
            f"{text} is set by Kamailio's script; let a peer with control = true say it in a header of the request, "
            "and write that, such as $hdr(X-MSilo-Send-Time)"
        )
    if name in SYNONYMS:
        return f"{text} goes by another name here; write {SYNONYMS[name]}"
    short = name[:2]
    if short in PLAIN:
        return f"{text} is not a known variable; write ${short}, or $({short}){name[2:]} where text follows it"
    known = tuple(EXAMPLES) if f"{name}(" in text else (*PLAIN, *EXAMPLES)
    near = min(known, key=lambda one: (_distance(one.lower(), name.lower()), _distance(one, name)))
    return f"{text} is not a known variable; write {_example(near)}"


def _example(name: str) -> str:
    return f"${name}({EXAMPLES[name]})" if name in EXAMPLES else f"${name}"


def _distance(a: str, b: str) -> int:
    """How many characters to change, add or take away (Levenshtein)."""
    row = list(range(len(b) + 1))
    for one in a:
        above, row = row, [row[0] + 1]
        for other, over, corner in zip(b, above[1:], above, strict=False):
            row.append(min(over + 1, row[-1] + 1, corner + (one != other)))
    return row[-1]


def _check_line(row: Template) -> None:
    """Raises ValueError where the text of a line shows that it can be no header."""
    lead = row.parts[0]
    if isinstance(lead, Variable):
        if lead.name != "hdr":  # $fu alone would read as a header named sip
            raise ValueError(f"{row.text!r} is no header line; write a name first, such as X-Info: {lead.text}")
        return
    name, colon, _ = lead.partition(":")
    name = name.strip(" \t")
    if not colon and row.fixed:
        raise ValueError(f"{row.text!r} is no header line; write a name and a colon first, such as X-Info: stored")
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is no header name; write letters, digits and dashes before the colon")
    if colon and _long(name) in FRAME:
        raise ValueError(f"{name} is written by the SIP stack; leave the line out, or name it X-{name}")


def _header_line(text: str, lead: str | Variable) -> tuple[str, str] | None:
    """Name and value of a line that begins with `lead`; the operator's own names are taken as they are."""
    name, colon, value = (item.strip(" \t") for item in text.partition(":"))
    key = _long(name)
    own = isinstance(lead, str) and ":" in lead
    if not colon or not _TOKEN.fullmatch(name) or (not own and (key in FRAME or key.startswith(OWN_PREFIX))):
        return None
    return name, value


def _long(name: str) -> str:
    """A header's name as `Request` has it."""
    return COMPACT.get(name.lower(), name.lower())


def _of_address(value: str, part: str) -> str | None:
    """u: the URI as written; n: the display name, quotes included; U and d: user and host of the URI."""
    form = _ADDRESS.fullmatch(value)
    if form is None:
        return None
    if part == "n":
        return (form["name"] or "").strip(" \t") or None
    uri: str = form["inside"] or form["bare"]
    return uri if part == "u" else _of_uri(uri, part)


def _of_uri(uri: str, part: str) -> str | None:
    """U: the user part as written, escapes and parameters included, no password; d: the host with its brackets."""
    form = _URI.fullmatch(uri)
    return None if form is None else form["user"] or form["number"] if part == "U" else form["host"]


def _time(form: str, at: datetime) -> str | None:
    """A part of the local time as a number, or strftime; directives that C does not know stay as they are."""
    if form == "wday":
        return str(at.isoweekday() % 7 + 1)
    if form == "isdst":  # ahead of its winter time; C says the reverse for Ireland and Morocco
        offsets = [datetime(at.year, month, 1).astimezone().utcoffset() or timedelta() for month in (1, 7)]
        return str(int((at.utcoffset() or timedelta()) > min(offsets)))
    if form in FIELDS:
        return str(getattr(at.timetuple(), f"tm_{form}"))
    return _DIRECTIVE.sub(lambda found: at.strftime(found[0]), form) or None
