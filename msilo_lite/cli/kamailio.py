"""A kamailio.cfg, read for `msilo-lite init`: what it sets for msilo, and what of that can be carried over.

The language is that of Kamailio's src/core/cfg.lex; where it surprises, a comment says so. No text makes this raise:
what cannot be read becomes a problem that names its line. It opens no file itself and looks at no environment.
"""

from __future__ import annotations

import difflib
import json
import posixpath
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

PARAMETERS = (
    "db_url", "db_table", "sc_mid", "sc_from", "sc_to", "sc_uri_user", "sc_uri_host", "sc_body", "sc_ctype",
    "sc_exp_time", "sc_inc_time", "sc_snd_time", "sc_stored_hdrs", "sc_callid", "sc_status", "expire_time",
    "max_messages", "snd_time_avp", "extra_hdrs_avp", "use_mode", "from_address", "offline_message",
    "content_type_hdr", "contact_hdr", "use_contact", "skip_notification_flag", "outbound_proxy", "extra_hdrs",
    "add_date", "add_contact", "reminder", "check_time", "clean_period", "send_time",
)  # fmt: skip
"Every parameter of msilo, in the order of the configuration file."
_STORED = "its place is taken by relaying the MESSAGE to the silo, see examples/kamailio"
_DUMPED = "msilo and msilo-lite would both deliver from one database; take it out, or do not let both use the same file"
CALLS = {"m_store": _STORED, "m_store_addrs": _STORED, "m_dump": _DUMPED}
"Functions of msilo, and what becomes of their calls."
HEADERS = {"snd_time_avp": "X-MSilo-Send-Time", "extra_hdrs_avp": "X-MSilo-Headers"}
"Where the value of an AVP comes from instead: AVPs live in Kamailio."
EXPORT = "export msilo's table to a Kamailio SQLite file or to JSON Lines, and read that with `msilo-lite import FILE`"
DEEPEST = 10
"Files within files, and definitions within definitions; Kamailio's limit for files."
MOST = 10000
"Files read and definitions put in place, and characters of a string that #!subst changes: all can grow without end."

_ID = "[A-Za-z_][A-Za-z0-9_]*"
_GAP = r"[ \t\b\r]"
_MARK = r"(?:\#!|!!)"
_QUOTED = r'"(?:\\[\s\S]|[^"\\])*"'
# with anything but blanks behind them, #!else and #!endif are comments
_IF = rf"(?P<condition>{_MARK}(?:(?P<test>ifn?def|ifexp){_GAP}+(?P<tested>.*)|(?P<turn>else|endif){_GAP}*)(?:\n|\Z))"
_CONDITION = re.compile(_IF, re.VERBOSE)
_TOKEN = re.compile(
    rf"""{_IF}
    | (?P<define>{_MARK}(?P<how>try|re)?def(?:ine)?{_GAP}+(?P<name>{_ID}){_GAP}*(?P<value>(?:\\\n|[^\n])*))
    | (?P<hidden>{_MARK}def(?:exp|env)s?{_GAP}+(?P<unknown>{_ID})[^\n]*)
    | (?P<undefine>{_MARK}(?:try)?undef(?:ine)?{_GAP}+(?P<gone>{_ID}))
    | (?P<subst>{_MARK}subst(?P<defs>defs?)?\s*(?P<rule>{_QUOTED})?)
    | (?P<include>{_MARK}?(?P<manner>include|import)_file(?!\w)\s*(?P<path>[^ \t\r\n]*))
    | (?P<load>loadmodule\s*["'](?:[^"'\n]*/)?(?P<module>\w+)[^"'\n]*["'])
    | (?P<blank>[ \t\b\r\n]+|\\\n|(?:\#|//)[^\n]*)
    | (?P<string>{_QUOTED}(?:[ \t\b\r\n]*{_QUOTED})*|'[^']*')
    | (?P<open>/\*|["'])
    | (?P<pvar>\$[\w.]*\(?)
    | (?P<word>\w+)
    | (?P<other>[\s\S])""",
    re.VERBOSE | re.ASCII,
)
# comments nest; within $(...), quotes and # are nothing special
_CLOSING = {"*": re.compile(r"(/\*)|\*/"), "(": re.compile(r"(\()|\)")}
_ESCAPE = re.compile(rb'\\(?:([nrat"\\])|(x[0-9a-fA-F]{1,2}|[0-7]{2,3})|\n)')
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"a": b"\a", b"t": b"\t", b'"': b'"', b"\\": b"\\"}
_NUMBER = re.compile("0|[1-9][0-9]{,17}|0x[0-9a-fA-F]{1,15}")
_TRUTH = {"yes": 1, "true": 1, "on": 1, "enable": 1, "no": 0, "false": 0, "off": 0, "disable": 0}
# #!subst: patterns of plain text, a dot being just a dot, for which comes a text without pseudo-variables or groups
_RULE = re.compile(
    r"(?P<mark>[^\\])(?P<old>(?:\\[^A-Za-z0-9]|(?!(?P=mark))[^\\\[\]*^$+?(){}|])+)(?P=mark)"
    r"(?P<new>(?:\\[^0-9u]|(?!(?P=mark))[^\\$])*)(?P=mark)(?P<flags>[gs]*)"
)


@dataclass(frozen=True, slots=True)
class Found:
    """A parameter that is in force."""

    name: str
    value: str | int
    line: int
    file: str


@dataclass(frozen=True, slots=True)
class Carried:
    """What became of a kamailio.cfg."""

    settings: Mapping[str, str | int]
    "Settings of msilo-lite, by msilo's names."
    problems: tuple[str, ...]
    "What could not be carried over, and what to do in Kamailio; a sentence each."
    toml: str
    "The whole configuration file."


def carry_over(
    text: str, file: str, read: Callable[[str], str], check: Callable[[str, str | int], str | None]
) -> Carried:
    """Turn a kamailio.cfg into a configuration of ours.

    `read` gives the text of an included file, by its name beside `file`, or raises OSError. `check` says why a setting
    cannot have a value.
    """
    script = _Script(file, read)
    script.run(text)
    settings: dict[str, str | int] = {}
    blocks = [_comment(f"Settings of msilo-lite, carried over from {file} by `msilo-lite init --from-kamailio`.")]
    blocks += ["# Not seen there: what Kamailio takes from its command line (-A, -w) and from its environment."]
    for found in sorted(script.found.values(), key=lambda one: PARAMETERS.index(one.name)):
        where = f"{found.file}, line {found.line}"
        value, remark = _converted(found, script.folder)
        refusal = _refusal(found.name, value, check)
        if refusal is None:
            settings[found.name] = value
            script.problems += [f"{where}: {duty}"] if (duty := _duty(found)) else []
            blocks += ["", _comment(where + remark), f"{found.name} = {_toml(value)}"]
        else:
            script.problems.append(f"{where}: {found.name} is not carried over: {refusal}")
            blocks += ["", _comment(f"{where}: {refusal}"), _plain(f"# {found.name} = {_toml(value)}")]
    told = tuple(dict.fromkeys(map(_plain, script.problems)))
    blocks += ["", "# Not carried over:", *(_comment(f"- {one}") for one in told)] if told else []
    return Carried(settings, told, "\n".join(blocks) + "\n")


def _converted(found: Found, folder: str) -> tuple[str | int, str]:
    """The value as we need it, and a remark where it is not the one that was found."""
    value = found.value
    if not isinstance(value, str) or not value:
        return value, ""
    if found.name in HEADERS:
        return f"$hdr({HEADERS[found.name]})", f": was {value}"
    if found.name != "db_url":
        return value, ""
    # the name between the third slash and a question mark goes to SQLite as it stands
    match = re.match(r"sqlite://[^/]*/([^?]*)", value)
    if match is None or not match[1] or match[1].startswith((":memory:", "/")):
        return f"sqlite:///{match[1]}" if match else value, ""
    path = posixpath.join(folder, match[1])
    return f"sqlite:///{path}", f": was {value}, which Kamailio opens in its working folder ({folder}, or that of -w)"


def _refusal(name: str, value: str | int, check: Callable[[str, str | int], str | None]) -> str | None:
    if isinstance(value, str) and re.search("[\ud800-\udfff\ufffd]", value):
        return "it is not UTF-8 text"
    scheme = str(value).partition(":")[0]
    if name == "db_url" and scheme != "sqlite":
        return f"{scheme} databases are not served; {EXPORT}"
    return check(name, value)


def _duty(found: Found) -> str | None:
    """What the script has to do for a parameter that was carried over."""
    name, value = found.name, found.value
    if name in HEADERS and value:
        named = re.search(r"avp\([^()]*\)", str(value))
        avp = named[0] if named else f"avp({value})"
        # extra_hdrs_avp ends in CR LF, and another CR LF would end the headers of the request
        shown = f"${avp}" if name == "snd_time_avp" else f"$({avp}{{s.trim}})"
        lines = f'append_hf("{HEADERS[name]}: {shown}\\r\\n"); msg_apply_changes();'
        lines += " (one header line only)" if name == "extra_hdrs_avp" else ""
    elif name == "skip_notification_flag" and value != -1:
        lines = f'if (isflagset({value})) append_hf("X-MSilo-Flags: {value}\\r\\n");'
    else:
        return None
    return f"{name} lives in the script: before relaying, write {lines} and make Kamailio a peer with `control = true`"


def _toml(value: str | int) -> str:
    """A value in TOML, whose strings are JSON's but for DEL."""
    return str(value) if isinstance(value, int) else json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _plain(text: str) -> str:
    """One line for people: without passwords of URLs, and nothing that TOML or a terminal would take for more."""
    return re.sub("[\x00-\x1f\x7f-\x9f\ud800-\udfff]+", " ", re.sub(r"(://[^:/@\s]*:)\S*@", r"\1***@", text))


def _comment(text: str) -> str:
    lines = textwrap.wrap(_plain(text), 116, break_long_words=False, break_on_hyphens=False, subsequent_indent="  ")
    return "\n".join(f"# {line}" for line in lines)


def _value(parts: list[_Token], *, evaluated: bool) -> str | int | None:
    """What a parameter is set to, None where only Kamailio knows. `evaluated`: modparamx computes strings with $."""
    match [part.kind for part in parts]:
        case ["string"]:
            return None if evaluated and "$" in parts[0].value else parts[0].value
        case ["word"] | ["-", "word"]:
            word = parts[-1].value
            number = int(word, 0) if _NUMBER.fullmatch(word) else _TRUTH.get(word)
            return -number if number is not None and len(parts) > 1 else number
    return None


def _unescaped(text: str) -> str:
    """The value of strings beside each other. Kamailio's strings are bytes and end at NUL."""

    def char(match: re.Match[bytes]) -> bytes:
        named, code = match.groups()
        if code:
            return bytes([int(code.lstrip(b"x"), 16 if code.startswith(b"x") else 8) & 255])
        return _ESCAPED[named] if named else b""

    if text.startswith("'"):
        return text[1:-1].partition("\0")[0]
    parts = (part[1:-1].encode("utf-8", "surrogatepass") for part in re.findall(_QUOTED, text))
    return b"".join(_ESCAPE.sub(char, part) for part in parts).partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _unslashed(text: str) -> str:
    return re.sub(r"\\([\s\S])", lambda match: {"n": "\n", "r": "\r", "t": "\t"}.get(match[1], match[1]), text)


class _Token(NamedTuple):
    kind: str
    "string, word, pvar, or the character itself."
    value: str
    line: int
    file: str

    @property
    def where(self) -> str:
        return f"{self.file}, line {self.line}"


class _Script:
    """A kamailio.cfg with all that it includes: tokens, and the few statements that matter here."""

    def __init__(self, file: str, read: Callable[[str], str]) -> None:
        self.found: dict[str, Found] = {}
        self.seen: set[str] = set()
        "Names of the parameters that are set, also to a value that is not known."
        self.calls: dict[str, list[str]] = {}
        self.folder = "/"
        "Kamailio's working folder."
        self.problems: list[str] = []
        self._file = file
        self._read = read
        self._live: list[tuple[bool, str]] = []
        self._defines: dict[str, str | None] = {}
        "None: defined, but only Kamailio knows as what."
        self._rules: list[tuple[str, str, int]] = []
        self._entered = 0

    def run(self, text: str) -> None:
        """Read to the end."""
        tokens = list(self._tokens(text, self._file))
        for number, token in enumerate(tokens):
            after = tokens[number + 1 : number + 9]
            match token.kind, token.value, *(one.kind for one in after[:2]):
                case "word", "modparam" | "modparamx", *_:
                    self._modparam(token, after)
                case "word", name, "(", *_ if name in CALLS:
                    self.calls.setdefault(name, []).append(token.where)
                case "word", "workdir" | "wdir", "=", "string":
                    self.folder = posixpath.join("/", after[1].value)
        self.problems += [f"{where}: no #!endif ends what begins here" for _, where in self._live]
        self.problems += [f"{' and '.join(places)}: {name}(): {CALLS[name]}" for name, places in self.calls.items()]
        if "db_url" not in self.seen:
            self.problems.append(f"{self._file} sets no db_url for msilo, which means a MySQL database to it; {EXPORT}")

    def _modparam(self, word: _Token, after: list[_Token]) -> None:
        kinds = [one.kind for one in after]
        if kinds[:5] != ["(", "string", ",", "string", ","] or ")" not in kinds:
            self.problems.append(f"{word.where}: this {word.value} cannot be read; see what it sets")
            return
        # a regular expression without regard to case, in which nobody writes more than alternatives
        if "msilo" not in after[1].value.lower().strip("^$()").split("|"):
            return
        name, given = after[3].value, after[5 : kinds.index(")")]
        if name not in PARAMETERS:
            nearest = difflib.get_close_matches(name[:64], PARAMETERS, 1, 0.0)[0]
            self.problems.append(f"{word.where}: msilo has no parameter {name}; the nearest is {nearest}")
            return
        self.seen.add(name)
        self.found.pop(name, None)
        value = _value(given, evaluated=word.value == "modparamx")
        if value is None:
            shown = " ".join(part.value for part in given)
            self.problems.append(f"{word.where}: only Kamailio knows what {name} = {shown} is; write it in by hand")
        else:
            self.found[name] = Found(name, value, word.line, word.file)

    def _tokens(self, text: str, file: str, line: int = 1, within: tuple[str, ...] = ()) -> Iterator[_Token]:
        """What counts of a text: of a file, or of a definition that stands in that line."""
        self._entered += 1
        at = 0
        while at < len(text):
            # where lines do not count, Kamailio finds a condition even in a comment
            live = all(truth for truth, _ in self._live)
            match = (_TOKEN.match if live else _CONDITION.search)(text, at)
            if match is None:
                return
            here = _Token(str(match.lastgroup), match[0], line + text.count("\n", at, match.start()), file)
            at = match.end()
            if here.kind == "open" or (here.kind == "pvar" and here.value.endswith("(")):
                at = self._end(text, at, here)
            line = here.line + text.count("\n", match.start(), at)
            if here.kind in ("word", "include"):
                yield from self._within(match, here, within)
            elif here.kind == "string":
                yield here._replace(value=self._substituted(_unescaped(here.value)))
            elif here.kind in ("pvar", "other"):
                yield here._replace(kind=here.value, value=text[match.start() : at])
            elif here.kind not in ("blank", "open"):
                self._directive(match, here)

    def _end(self, text: str, at: int, here: _Token) -> int:
        """Where what is open closes."""
        depth = 1
        ends = _CLOSING.get(here.value[-1])
        for match in ends.finditer(text, at) if ends else ():
            depth += 1 if match[1] else -1
            if not depth:
                return match.end()
        self.problems.append(f"{here.where}: {here.value} is not closed, and nothing behind it could be read")
        return len(text)

    def _within(self, match: re.Match[str], here: _Token, within: tuple[str, ...]) -> Iterator[_Token]:
        """What an included file or a definition stands for; a word that is none stands for itself."""
        far = len(within) >= DEEPEST or self._entered >= MOST or here.value in within
        if here.kind == "word":
            value = None if far else self._defines.get(here.value)
            yield from [here] if value is None else self._tokens(value, here.file, here.line, (*within, here.value))
            return
        path = self._substituted(match["path"])
        name = _unslashed(path[1:-1]) if path[:1] == path[-1:] == '"' else ""
        folder = "" if here.file == self._file else posixpath.dirname(here.file)
        for place in dict.fromkeys((posixpath.join(folder, name), name)) if name and not far else ():
            try:
                text = self._read(place)
            except (OSError, ValueError):
                continue
            yield from self._tokens(text, place, within=(*within, here.value))
            return
        if match["manner"] == "include" or far or not name:
            self.problems.append(f"{here.where}: the file {path} cannot be read, and what it sets is missing")

    def _directive(self, match: re.Match[str], here: _Token) -> None:
        if here.kind == "condition":
            self._condition(match, here)
        elif here.kind == "subst":
            self._subst(match, here)
        elif here.kind == "undefine":
            self._defines.pop(match["gone"], None)
        elif here.kind == "hidden":
            self._defines[match["unknown"]] = None
        elif here.kind == "load":
            self._defines[f"MOD_{match['module']}"] = ""
        elif match["how"] != "try" or match["name"] not in self._defines:
            self._defines[match["name"]] = match["value"].replace("\\\n", "")

    def _condition(self, match: re.Match[str], here: _Token) -> None:
        if test := match["test"]:
            known = re.split(r"\W", match["tested"], maxsplit=1)[0] in self._defines
            self._live.append((test == "ifexp" or known == (test == "ifdef"), here.where))
            if test == "ifexp":
                self.problems.append(f"{here.where}: #!ifexp is not worked out, what follows is taken to be in force")
        elif not self._live:
            self.problems.append(f"{here.where}: nothing was begun that this #!{match['turn']} could end")
        else:
            truth, where = self._live.pop()
            self._live += [(not truth, where)] if match["turn"] == "else" else []

    def _subst(self, match: re.Match[str], here: _Token) -> None:
        rule = _RULE.fullmatch(self._substituted(_unescaped(match["rule"] or '""')))
        if rule is None:
            self.problems.append(f"{here.where}: what this #!subst changes stands unchanged here; see where it matters")
            return
        old, new = _unslashed(rule["old"]), _unslashed(rule["new"])
        self._rules.append((old, new, -1 if "g" in rule["flags"] else 1))
        if match["defs"]:
            self._defines[old] = f'"{new}"' if match["defs"] == "defs" else new

    def _substituted(self, text: str) -> str:
        for old, new, count in self._rules:
            text = text.replace(old, new, count) if len(text) < MOST else text
        return text
