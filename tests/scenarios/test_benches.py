"""Promise: the benches of the RADIUS side run, measure real programs, and notice wrong answers.

What they measure is not judged here, only that it was measured: tests share the machine with others.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "bench"))

from backends import responder  # noqa: E402 - path first
from generator import Generator, sign_requests  # noqa: E402
from programs.ports import free_udp_port  # noqa: E402

from mfalb.wire.radius import SharedSecret  # noqa: E402


def bench(script: str, results: Path, *options: str) -> dict[str, Any]:
    """The result of a bench run as from a shell."""
    command = [sys.executable, str(ROOT / "bench" / f"{script}.py"), "--results", str(results), *options]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stderr
    assert (results / f"{script}.png").stat().st_size > 10_000
    result: dict[str, Any] = json.loads((results / f"{script}.json").read_text("utf-8"))
    return result


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
