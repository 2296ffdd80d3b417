"""/livez, /readyz and /metrics as a load balancer and a Prometheus meet them, beside a silo that works."""

import http.client
import json
import re
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from msilo_lite.seeing.metrics import names
from tests.waiting import until

from . import harness
from .harness import ROOT, Peer, Serve, on

EXAMPLES = ROOT / "examples/monitoring"
LISTEN = ("--http-listen", "127.0.0.1:0", "--settle", "0.1", "--set", "max_size=1000")


@pytest.fixture
def silo(tmp_path: Path) -> Iterator[Serve]:
    with Serve(tmp_path, *LISTEN) as one:
        yield one


def url_of(silo: Serve) -> str:
    return str(re.findall(r"^health: (http://\S+)/readyz", silo.out, re.MULTILINE)[0])


def get(silo: Serve, path: str, method: str = "GET") -> tuple[int, str]:
    """Status and body."""
    request = urllib.request.Request(url_of(silo) + path, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def metrics(silo: Serve) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels."""
    status, text = get(silo, "/metrics")
    assert status == 200, text
    families = text_string_to_metric_families(text)
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def reach(silo: Serve, **wanted: float) -> dict[tuple[str, ...], float]:
    """Wait until the metrics say so: they are made once a second."""
    names_ = {(f"msilo_lite_{name}",): value for name, value in wanted.items()}

    def look() -> dict[tuple[str, ...], float]:
        found = metrics(silo)
        return found if names_.items() <= found.items() else {}

    return until(look, 10, str(wanted))


def ready(silo: Serve) -> None:
    until(lambda: get(silo, "/readyz")[0] == 200, 10, "ready")


def test_it_is_off_unless_asked_for(tmp_path: Path) -> None:
    with Serve(tmp_path) as silo:
        assert "http" not in silo.out
        assert harness.run(tmp_path, "status", "--json", *on(silo.file)).json()["http"] == ""


def test_alive_and_ready(silo: Serve) -> None:
    ready(silo)
    assert get(silo, "/livez") == (200, "ok\nloop ok\n")
    assert get(silo, "/readyz") == (200, "ok\nloop ok\nscheduler ok\nsip ok\ndatabase ok\ndisk ok\n")
    text = get(silo, "/readyz?verbose")[1]
    assert f"sip ok: listens on {silo.ready_line.split()[1]}\n" in text
    assert harness.run(silo.folder, "status", "--json", *on(silo.file)).json()["http"] == url_of(silo)
    assert get(silo, "/livez", "HEAD") == (200, "")
    assert [get(silo, "/livez", method)[0] for method in ("POST", "PUT", "DELETE", "OPTIONS")] == [405] * 4
    assert get(silo, "/../etc/passwd")[0] == 404
    assert silo.log == ""


def test_a_locked_database_is_alive_and_not_ready(silo: Serve) -> None:
    ready(silo)
    with harness.locked(silo.file):
        until(lambda: get(silo, "/readyz")[0] == 503, 10, "not ready")
        text = get(silo, "/readyz")[1]
        assert "database failed: database is locked" in text
        assert "sip ok\n" in text
        assert get(silo, "/livez")[0] == 200
    ready(silo)


def test_a_loop_that_hangs_is_not_alive(tmp_path: Path) -> None:
    """Its hook of the operator cannot hang it; a debugger that stops the process can, and then nobody answers."""
    with Serve(tmp_path, *LISTEN) as silo:
        ready(silo)
        host, port = url_of(silo).removeprefix("http://").split(":")
        silo.signal(signal.SIGSTOP)
        try:
            with socket.create_connection((host, int(port)), 5) as asking:
                asking.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
                asking.settimeout(0.5)
                with pytest.raises(TimeoutError):
                    asking.recv(100)
        finally:
            silo.signal(signal.SIGCONT)
        ready(silo)


def test_what_happens_is_counted(silo: Serve) -> None:
    with Peer("alice", silo.address) as alice, Peer("bob", silo.address) as bob, Peer("carol", silo.address) as carol:
        for n in range(3):
            alice.write("bob", f"number {n}")
        raw = alice.message("carol", "hello")
        assert [alice.ask(raw).code for _ in range(2)] == [202, 202]
        refused = alice.request("MESSAGE", "bob", "Require: x", "Content-Type: text/plain", body=b"x")
        assert alice.ask(refused).code == 420
        reach(silo, stored_messages_total=4, waiting_messages=4, held_messages=0)
        harness.run(silo.folder, "hold", "--to", "carol@home.lan", *on(silo.file))
        found = reach(silo, holds=1, held_messages=1)
        assert found["msilo_lite_refused_requests_total", "420"] == 1
        assert found["msilo_lite_duplicate_messages_total",] == 1
        assert 0 <= found["msilo_lite_oldest_message_age_seconds",] < 60
        harness.run(silo.folder, "unhold", "--every", *on(silo.file))
        reach(silo, holds=0, held_messages=0)
        carol.register()
        carol.reply(carol.receive(), 486)
        bob.register()
        bob.take(3)
        found = reach(silo, delivered_messages_total=3, waiting_messages=1, failed_attempts_total=1)
        assert found["msilo_lite_attempts_total", "486"] == 1
        assert found["msilo_lite_attempts_total", "200"] == 3
        assert found["msilo_lite_ended_messages_total", "delivered"] == 3
        assert found["msilo_lite_wakeups_total", "register"] == 2
        assert found["msilo_lite_registered_users",] == 2
        assert found["msilo_lite_delivery_delay_seconds_count",] == 3
        assert found["msilo_lite_build_info", *[key[1] for key in found if key[0] == "msilo_lite_build_info"]] == 1
        assert found["msilo_lite_database_bytes",] > 0
        assert {"in_flight_messages", "lanes", "alarm"} <= {
            key[0].removeprefix("msilo_lite_") for key, value in found.items() if value == 0
        }


def test_counters_go_on_after_a_restart(tmp_path: Path) -> None:
    with Serve(tmp_path, *LISTEN) as silo, Peer("alice", silo.address) as alice:
        alice.write("bob", "hello")
        silo.stop()
    with Serve(tmp_path, *LISTEN) as silo:
        reach(silo, stored_messages_total=1, waiting_messages=1)


def test_nobody_can_slow_the_silo_down(silo: Serve) -> None:
    """Forty connections that say nothing: messages are taken, and when they are gone, so is everything of them."""
    ready(silo)
    host, port = url_of(silo).removeprefix("http://").split(":")
    idle = [socket.create_connection((host, int(port)), 5) for _ in range(40)]
    try:
        with Peer("alice", silo.address) as alice:
            alice.write("bob", "hello")
    finally:
        for one in idle:
            one.close()

    def answers() -> bool:
        with suppress(http.client.RemoteDisconnected):  # no place is free yet
            return get(silo, "/livez")[0] == 200
        return False

    until(answers, 15, "an answer again")


def test_scrapes_at_once(silo: Serve) -> None:
    ready(silo)
    seen: list[int] = []
    threads = [threading.Thread(target=lambda: seen.append(get(silo, "/metrics")[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert seen == [200] * 8


@pytest.mark.parametrize(
    ("value", "named"),
    [("nonsense", "PORT or HOST:PORT"), ("localhost:80", "IP address"), ("127.0.0.1:99999", "65535")],
)
def test_a_wrong_address_is_named(tmp_path: Path, value: str, named: str) -> None:
    ran = harness.run(tmp_path, "serve", "--http-listen", value)
    assert (ran.code, ran.out) == (2, "")
    assert ran.sentence.startswith("msilo-lite: http_listen = ")
    assert named in ran.sentence


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        place = f"127.0.0.1:{other.getsockname()[1]}"
        ran = harness.run(
            tmp_path, "serve", "--bind", "udp:127.0.0.1:0", "--http-listen", place, *on(tmp_path / "silo.sqlite")
        )
    assert ran.code == 1
    assert f"cannot listen on http://{place}: " in ran.sentence
    assert "ready" not in ran.out


# -- what is made of them ----------------------------------------------------------------------------------------------
def expressions() -> dict[str, str]:
    """Every expression of the examples, by where it stands."""
    rules = yaml.safe_load((EXAMPLES / "msilo-lite.rules.yml").read_text(encoding="utf-8"))
    found = {rule["alert"]: rule["expr"] for group in rules["groups"] for rule in group["rules"]}
    board = json.loads((EXAMPLES / "dashboard.json").read_text(encoding="utf-8"))
    for panel in board["panels"]:
        found |= {f"{panel['title']} {one['refId']}": one["expr"] for one in panel["targets"]}
    return {**found, "variable": board["templating"]["list"][1]["query"]["query"]}


def test_the_examples_name_metrics_that_are_there(silo: Serve) -> None:
    with Peer("alice", silo.address) as alice:  # a label is there once something was counted
        assert alice.ask(alice.request("MESSAGE", "bob", "Require: x", body=b"x")).code >= 400
        assert alice.ask(alice.request("MESSAGE", "bob", body=b"x" * 1001)).code == 413  # max_size
        alice.write("alice", "to myself")
        alice.register()
        alice.take(1)
        found = reach(silo, delivered_messages_total=1)
    there = {key[0] for key in found} | {"msilo_lite_pbx_registered"}  # only with a registrar
    for place, text in expressions().items():
        named = set(re.findall(r"\b(?:msilo_lite|process)_\w+", text))
        assert named or text.startswith("up{"), place
        assert named <= there, f"{place}: {sorted(named - there)}"


def test_every_alert_says_what_it_means() -> None:
    rules = yaml.safe_load((EXAMPLES / "msilo-lite.rules.yml").read_text(encoding="utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["summary"]
            assert rule["labels"]["severity"] in ("critical", "warning", "info")
    scrape = yaml.safe_load((EXAMPLES / "prometheus.yml").read_text(encoding="utf-8"))
    assert scrape["rule_files"] == ["msilo-lite.rules.yml"]


def test_every_metric_stands_in_the_documentation() -> None:
    text = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")
    told = {
        row
        for cells in re.findall(r"^\| (`msilo_lite_.*?) \|", text, re.MULTILINE)
        for row in re.findall(r"`(\w+)", cells)
    }
    plain = {name.removesuffix("_total").removesuffix("_info") for name in told}
    assert plain == {name.removesuffix("_info") for name in names()}
