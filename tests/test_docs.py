"""The documentation against the program: commands, options, settings, version, examples."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import typer.main
from flit_core.buildapi import build_wheel

from docs.examples import examples
from msilo_lite.cli.app import app
from msilo_lite.cli.recipe import KINDS, Wanted, example_of, recipe_for
from msilo_lite.settings.config import Config

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
PROMPT = re.compile(r"^(?:\$ |# )?(?:[A-Z_]+=\S+ )*(?=(?:\S*/)?msilo-lite\b)")


def commands() -> dict[str, Any]:
    """Every command and sub-command by its full name, as the command line knows it."""
    found: dict[str, Any] = {}

    def walk(prefix: str, group: Any) -> None:
        for name, command in group.commands.items():
            found[f"{prefix}{name}"] = command
            if hasattr(command, "commands"):
                walk(f"{prefix}{name} ", command)

    walk("", typer.main.get_command(app))
    return found


COMMANDS = commands()
LEAVES = [name for name, command in COMMANDS.items() if not hasattr(command, "commands")]
DOCUMENTS = ["README.md", *sorted(str(one.relative_to(ROOT)) for one in ROOT.glob("examples/*/README.md"))]


def shell_lines(text: str) -> list[str]:
    """Command lines of msilo-lite in fenced shell blocks and in indented ones, without prompt and comment."""
    blocks = re.findall(r"^```(?:console|sh|shell|bash)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += [line.strip() for line in text.splitlines() if line.startswith("    ")]
    return [PROMPT.sub("", line) for line in lines if PROMPT.match(line)]


def problem(line: str) -> str:
    """What is wrong with a command line, or nothing."""
    words = [word for word in shlex.split(line, comments=True) if word not in ("&", "|", ">")][1:]
    command: Any = typer.main.get_command(app)
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        if words[0] not in command.commands and hasattr(command, "default"):
            words.insert(0, command.default)
        if words[0] not in command.commands:
            return f"there is no command {words[0]}"
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    known |= {"--help", "-h", "--install-completion", "--show-completion"}
    unknown = [word for word in words if word.startswith("-") and word.partition("=")[0] not in known]
    return f"there is no option {unknown[0]}" if unknown else ""


def test_the_checker_finds_mistakes() -> None:
    text = "```console\n$ msilo-lite lisst\n$ MSILO_SETTLE=1 msilo-lite serve --sttle 2\n$ make serve\n```\n"
    assert [problem(line) for line in shell_lines(text)] == ["there is no command lisst", "there is no option --sttle"]
    assert problem("msilo-lite config show --json") == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    command = COMMANDS[name]
    assert re.match(r"[A-Z].*\.$", (command.help or "").strip(), re.DOTALL), f"{name} has no help"
    for parameter in command.params:
        if parameter.name != "help":
            assert getattr(parameter, "help", ""), f"{name}: {parameter.name} has no help"


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_has_an_example_that_works(name: str) -> None:
    example = (COMMANDS[name].epilog or "").partition("Example: ")[2]
    lines = [PROMPT.sub("", one.strip()) for one in example.split("·")]
    assert lines[0].startswith(f"msilo-lite {name}"), f"{name} has no example"
    assert [problem(line) for line in lines] == [""] * len(lines)


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_stands_in_the_readme(name: str) -> None:
    assert f"`msilo-lite {name}" in README


@pytest.mark.parametrize("name", Config.model_fields)
def test_every_setting_stands_in_its_page_and_has_words_of_its_own(name: str) -> None:
    assert re.search(rf"^\| .*`{name}`.* \|", SETTINGS, re.MULTILINE), f"no row for {name}"
    assert (Config.model_fields[name].description or "").endswith(".")


def test_no_page_names_a_setting_that_is_gone() -> None:
    def named(text: str) -> set[str]:
        rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
        return {key for row in rows for key in re.findall(r"`(\w+)`", row)}

    assert named(SETTINGS) == set(Config.model_fields)
    assert named(README.partition("## Settings")[2].partition("\n## ")[0]) < set(Config.model_fields)


def test_the_page_of_settings_tells_the_defaults() -> None:
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", SETTINGS, re.MULTILINE)
    told = {
        key: value
        for names, values in rows
        for key, value in zip(re.findall(r"`(\w+)`", names), re.findall(r"`([^`]*)`", values), strict=False)
    }
    config = Config.model_validate({})
    for key in ("bind", "trusted", "expire_time", "settle", "max_in_flight", "check_time", "clean_period", "log_level"):
        value = getattr(config, key)
        expected = str(list(value)).replace("'", '"') if isinstance(value, tuple) else str(value)
        assert told.get(key) == expected


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_line_is_a_real_one(document: str) -> None:
    lines = shell_lines((ROOT / document).read_text(encoding="utf-8"))
    assert lines
    assert {line: problem(line) for line in lines if problem(line)} == {}


def test_toml_examples_are_configurations() -> None:
    pages = [README, *(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))]
    blocks = [block for page in pages for block in re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)]
    assert len(blocks) > 3
    for block in blocks:
        Config.model_validate(tomllib.loads(block))


@pytest.mark.parametrize("file", examples(), ids=lambda file: "/".join(file.parts[-2:]))
def test_examples_are_made_from_the_recipes(file: Path) -> None:
    assert file.read_text(encoding="utf-8") == examples()[file], "run: make docs"


@pytest.mark.parametrize("pbx", KINDS)
def test_the_side_of_the_silo_in_an_example_is_what_init_writes(pbx: str) -> None:
    readme = (ROOT / "examples" / pbx / "README.md").read_text(encoding="utf-8")
    told = [
        tomllib.loads(re.sub("(?m)^    ", "", block))
        for block in re.findall(r"(?:^    \w+ = .*\n)+", readme, re.MULTILINE)
    ]
    made = {one.name: one.value for one in recipe_for(Wanted(pbx, "127.0.0.1:5060", ("home.lan",))).settings}
    if "password" in made:  # a new one each time
        made["password"] = "silo-password"
    assert made in told


@pytest.mark.parametrize("pbx", KINDS)
def test_what_was_not_run_says_so_in_its_first_line(pbx: str) -> None:
    """Those that a Debian has are run by the tests in any case."""
    for file in example_of(pbx).values():
        first = file.removeprefix('<?xml version="1.0"?>\n').splitlines()[0]
        assert ("ried with" in first or "stand-ins" in first) == (pbx not in ("asterisk", "kamailio"))


def test_the_recipes_are_in_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with ZipFile(tmp_path / build_wheel(str(tmp_path))) as wheel:
        inside = {name for name in wheel.namelist() if name.startswith("msilo_lite/recipes/")}
    assert inside == {f"msilo_lite/recipes/{pbx}/{file}" for pbx in KINDS for file in example_of(pbx)}


def test_the_changelog_begins_with_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[?v?([\w.]+)", changelog, re.MULTILINE)
    assert newest is not None
    assert newest[1] == project["version"]


def test_every_example_explains_itself() -> None:
    folders = [one for one in (ROOT / "examples").iterdir() if one.is_dir()]
    assert folders
    for folder in folders:
        assert (folder / "README.md").is_file(), f"{folder.name} has no README.md"
        assert f"examples/{folder.name}" in README


@pytest.mark.parametrize("document", [*DOCUMENTS, "CHANGELOG.md"])
def test_links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    targets = [one for one in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in one]
    assert [one for one in targets if not ((ROOT / document).parent / one).exists()] == []
