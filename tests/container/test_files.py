"""The container files as texts: what they promise, without building anything."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from msilo_lite.cli.unit import SERVE
from msilo_lite.settings.config import Config

from .conftest import ROOT
from .image import BASES, steps

ADDON = ROOT / "examples/home-assistant/msilo-lite"
COMPOSE = ROOT / "examples/docker-compose"
FILES = (ROOT / "Containerfile", ADDON / "Dockerfile", COMPOSE / "kamailio.Dockerfile")


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def last(file: Path, word: str) -> str:
    return [step.rest for step in steps(file.read_text()) if step.word == word][-1]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_begins_from_debian_and_says_whether_it_was_run(file: Path) -> None:
    first = next(step for step in steps(file.read_text()) if step.word == "FROM")
    assert first.rest.partition(" AS ")[0] in BASES
    assert file.read_text().startswith("# ")


def test_the_container_is_no_root_and_looks_after_itself() -> None:
    file = ROOT / "Containerfile"
    assert last(file, "USER") == "msilo"
    assert last(file, "VOLUME") == "/data"
    assert '"health"' in last(file, "HEALTHCHECK")
    assert all(f'"{word}"' in last(file, "CMD") for word in SERVE)


def test_the_add_on_is_of_this_version_and_machine() -> None:
    config = read(ADDON / "config.yaml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert config["version"] == project["version"]
    assert config["arch"] == ["amd64"]
    assert config["timeout"] > 34  # the daemon's own patience with phones


def test_every_option_is_a_setting_with_words() -> None:
    config, words = read(ADDON / "config.yaml"), read(ADDON / "translations/en.yaml")["configuration"]
    assert set(config["schema"]) <= set(Config.model_fields)
    assert set(config["options"]) <= set(config["schema"])
    assert set(words) == set(config["schema"])
    assert all(set(one) == {"name", "description"} for one in words.values())
    needed = {name for name, kind in config["schema"].items() if not str(kind).endswith("?")}
    assert needed == set(config["options"])  # what has no default may be left out


def test_the_options_are_a_configuration() -> None:
    Config.model_validate(read(ADDON / "config.yaml")["options"])
    (block,) = [one for one in (ADDON / "DOCS.md").read_text().split("```") if one.startswith("yaml\n")]
    Config.model_validate(yaml.safe_load(block.removeprefix("yaml\n")))


def test_the_compose_file_names_what_is_there() -> None:
    compose = read(COMPOSE / "compose.yaml")
    assert set(compose) == {"name", "services", "volumes"}
    silo, kamailio = compose["services"]["silo"], compose["services"]["kamailio"]
    for service in (silo, kamailio):
        context = (COMPOSE / service["build"]["context"]).resolve()
        assert (context / service["build"]["dockerfile"]).is_file()
        assert service["network_mode"] == "host"
    source, _, rest = kamailio["volumes"][0].partition(":")
    assert (COMPOSE / source).is_file()
    assert rest.partition(":")[0] in last(COMPOSE / "kamailio.Dockerfile", "ENTRYPOINT")
    settings = {name.removeprefix("MSILO_").lower() for name in silo["environment"]}
    assert settings <= set(Config.model_fields)
    assert silo["volumes"] == ["silo:/data"]
    assert "silo" in compose["volumes"]
    assert kamailio["depends_on"]["silo"]["condition"] == "service_healthy"


@pytest.mark.parametrize("file", [COMPOSE / "compose.yaml", ADDON / "Dockerfile"], ids=lambda file: file.name)
def test_what_no_engine_has_run_says_so_first(file: Path) -> None:
    assert (
        "debootstrap" in "".join(file.read_text().splitlines(keepends=True)[:1]) or "No engine" in file.read_text()[:60]
    )
