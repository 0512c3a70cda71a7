"""Promise: the benches run, measure real programs, and notice wrong answers.

What they measure is not judged here, only that it was measured: tests share the machine with others.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "bench"))

from backends import responder  # noqa: E402 - path first
from contenders.nginx import nginx_program  # noqa: E402
from generator import Generator, sign_requests  # noqa: E402
from handshakes import Visit, connect_again_and_again, given_session  # noqa: E402
from http_load import ClosedLoop, Target  # noqa: E402
from programs.certificates import make_certificate  # noqa: E402
from programs.ports import LOOPBACK, free_tcp_port, free_udp_port  # noqa: E402
from programs.process import Launch  # noqa: E402

from mfalb.wire.radius import SharedSecret  # noqa: E402


def bench(script: str, results: Path, *options: str, has_picture: bool = True) -> dict[str, Any]:
    """The result of a bench run as from a shell."""
    command = [sys.executable, str(ROOT / "bench" / f"{script}.py"), "--results", str(results), *options]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stderr
    assert not has_picture or (results / f"{script}.png").stat().st_size > 10_000
    result: dict[str, Any] = json.loads((results / f"{script}.json").read_text("utf-8"))
    return result


def test_the_pins_bench_measures_what_waits_for_its_pin_and_what_does_not(tmp_path: Path) -> None:
    options = ["--rounds", "1", "--requests", "30", "--pins", "2000"]
    result = bench("pins", tmp_path, *options, has_picture=False)
    stored, shared, free = (result["contenders"][name]["metrics"] for name in ("mfalb_valkey", "mfalb", "no_pins"))
    for name in ("challenge_p50", "continued_p99", "reject_p50"):
        assert min(stored[name]["min"], shared[name]["min"], free[name]["min"]) > 0
    assert stored["continued_elsewhere_p50"]["min"] > 0
    assert stored["challenge_added_p99"]["unit"] == shared["challenge_added_p99"]["unit"] == "us"
    assert shared["table_pins"]["median"] == 2000
    assert shared["table_put_p99"]["min"] >= shared["table_put_p50"]["min"] > 0
    assert len([note for note in result["notes"] if "added to a challenge" in note]) == 2


def test_the_workers_bench_gives_what_a_unit_costs_with_one_worker_and_with_two(tmp_path: Path) -> None:
    result = bench("workers", tmp_path, "--rounds", "1", "--seconds", "0.3", has_picture=False)
    for name in ("workers_1", "workers_2"):
        metrics = result["contenders"][name]["metrics"]
        for work in ("transaction", "request_plain", "request_tls", "connection_tls"):
            assert metrics[f"cpu_us_per_{work}"]["min"] > 0
    assert [note for note in result["notes"] if note.startswith("cpu_us_per_transaction workers_2/workers_1:")]
    assert not [note for note in result["notes"] if "errors" in note or "wrong" in note]


def test_the_radius_bench_measures_with_two_secrets_and_with_one(tmp_path: Path) -> None:
    options = ["--rounds", "1", "--seconds", "0.3", "--outstanding", "8,128", "--contenders", "mfalb"]
    result = bench("radius", tmp_path, *options)
    metrics = result["contenders"]["mfalb"]["metrics"]
    for end in ("", "@8", "@same_secret", "@8@same_secret"):
        assert metrics[f"transactions_per_s{end}"]["min"] > 0
        assert metrics[f"cpu_us_per_transaction{end}"]["min"] > 0
        assert 0 < metrics[f"p50_us{end}"]["min"] <= metrics[f"p99_us{end}"]["max"]
        assert metrics[f"lost{end}"]["max"] == 0
    assert not [note for note in result["notes"] if "wrong" in note or "could not be started" in note]
    assert [note for note in result["notes"] if note.startswith("generator and responder alone")]


def test_the_https_bench_measures_every_work(tmp_path: Path) -> None:
    options = ["--rounds", "1", "--seconds", "0.3", "--connections", "4", "--contenders", "mfalb,haproxy"]
    result = bench("https", tmp_path, *options, "--rate", "1280")
    for contender in ("mfalb", "haproxy"):
        medians = {name: one["median"] for name, one in result["contenders"][contender]["metrics"].items()}
        for end in ("plain@4", "tls@4"):
            assert medians[f"requests_per_s_{end}"] > 0
            assert medians[f"cpu_us_per_request_{end}"] > 0
        assert medians["connections_per_s_tls"] > 0
        is_refused = any(note.startswith(contender) and "resume" in note for note in result["notes"])
        assert ("connections_per_s_tls_resumed" in medians) != is_refused, result["notes"]
        assert medians["bytes_per_s_10mb_down"] > 1_000_000
        assert medians["bytes_per_s_10mb_up"] > 1_000_000
        assert medians["rss_kb_per_idle_tls"] > 1
        # On a busy machine a pace may be too much; then there are no times, and the notes say so.
        for rate, work in (("", "half of its capacity"), ("@same_rate", "the same rate for all")):
            is_missed = f"{contender}: {work}: the pace was not kept" in result["notes"]
            has_times = 0 < medians.get(f"p50_ms{rate}", 0) <= medians.get(f"p99_ms{rate}", 0)
            assert has_times != is_missed, result["notes"]
    assert not [note for note in result["notes"] if "errors" in note or "could not be started" in note]
    assert [note for note in result["notes"] if note.startswith("clients and backends alone")]


def test_every_contender_of_the_https_bench_serves_plain_and_tls_without_errors(tmp_path: Path) -> None:
    options = ["--rounds", "1", "--seconds", "0.2", "--connections", "4", "--works", "plain,tls,new_tls,bulk"]
    result = bench("https", tmp_path, *options, "--contenders", "nginx,envoy,aiohttp_handler")
    for contender in ("nginx", "envoy", "aiohttp_handler"):
        metrics = result["contenders"][contender]["metrics"]
        assert metrics["cpu_us_per_request_plain@4"]["min"] > 0
        assert metrics["cpu_us_per_request_tls@4"]["min"] > 0
        assert metrics["connections_per_s_tls"]["min"] > 0
        assert metrics["bytes_per_s_10mb_up"]["min"] > 0
    assert not [note for note in result["notes"] if "errors" in note or "could not be started" in note]


_TLS_SITE = """
http {{
    access_log off;
    server {{
        listen {host}:{port} ssl;
        ssl_certificate {cert};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_tickets {tickets};
        location / {{ return {status} "hello"; }}
    }}
}}
"""


@pytest.fixture
def tls_site(tmp_path: Path) -> Iterator[Callable[..., Visit]]:
    """Starts an nginx that answers `status`, and gives visits to it."""
    files = make_certificate(tmp_path / "tls", "bench.example", LOOPBACK)
    context = ssl.create_default_context(cafile=files.ca)
    with ExitStack() as running:

        def start(name: str, *, tickets: str = "on", status: int = 200) -> Visit:
            port, run_dir = free_tcp_port(), tmp_path / name
            values = {"host": LOOPBACK, "port": port, "cert": files.cert, "key": files.key}
            config = _TLS_SITE.format(**values, tickets=tickets, status=status)
            running.enter_context(nginx_program(name, config, run_dir, Launch()))
            return Visit(port, context)

        yield start


def test_new_connections_make_full_handshakes_and_resume_only_when_asked_to(tls_site: Callable[..., Visit]) -> None:
    visit = tls_site("site")
    full = connect_again_and_again(visit, lanes=4, seconds=0.1)
    resumed = connect_again_and_again(replace(visit, session=given_session(visit)), lanes=4, seconds=0.1)
    assert min(full.count, resumed.count) > 4
    assert full.wrong == resumed.wrong == 0


def test_a_server_that_takes_no_session_up_is_found_out(tls_site: Callable[..., Visit]) -> None:
    visit, other = tls_site("site"), tls_site("no_tickets", tickets="off")
    assert given_session(visit) is not None
    assert given_session(other) is None
    made = connect_again_and_again(replace(other, session=given_session(visit)), lanes=4, seconds=0.1)
    assert made.wrong == made.count > 0


def test_answers_other_than_200_are_errors_of_the_load(tls_site: Callable[..., Visit]) -> None:
    visit = tls_site("site", status=503)
    made = connect_again_and_again(visit, lanes=4, seconds=0.1)
    assert made.wrong == made.count > 0
    with ClosedLoop(Target(visit.port, is_tls=True), connections=4) as loop:
        pass
    assert loop.errors > 0


def test_the_failover_bench_shows_that_a_refused_port_costs_a_user_of_mfalb_no_time_out(tmp_path: Path) -> None:
    options = ["--repetitions", "1", "--window", "2", "--every", "1", "--users", "2", "--timeout", "1", "--tries", "1"]
    result = bench("failover", tmp_path, *options)
    mfalb, alone = (result["contenders"][way]["metrics"] for way in ("mfalb", "primary_secondary"))
    for client in ("radclient", "nas", "nas_dead_time"):
        assert alone[f"first_ms_refused@{client}"]["min"] >= 1000, "the client did not wait for the failed primary"
        assert alone[f"first_ms_silent@{client}"]["min"] >= 1000
        assert mfalb[f"failed_attempts_refused@{client}"]["max"] == 0
    assert mfalb["first_ms_refused@nas"]["max"] < 1000
    assert len(mfalb) == len(alone) == 33


def test_generator_and_responder_notice_that_the_other_one_signs_with_another_secret(tmp_path: Path) -> None:
    port, secret = free_udp_port(), SharedSecret(b"not the backends'")
    with responder("responder", tmp_path, [port]) as server:
        tally = Generator(sign_requests(2_000, secret), secret, outstanding=8).run(port, 0.2)
        server.stop()
        assert json.loads(server.log().splitlines()[-1])["bad"] > 0
    assert tally.answered > 0
    assert tally.bad > 0
