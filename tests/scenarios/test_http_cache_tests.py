"""http-cache-tests (npm), 350 conversations of a client and its origin: through the balancer they end as without it.

It is no cache, so most of them say that nothing was stored; what they try on the way are status codes and methods,
conditional requests, Vary, Age, Expires and Cache-Control in every spelling, header fields kept and passed on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from programs.balancer import Balancer
from programs.http_pool import http_pool, new_front
from programs.ports import LOOPBACK, free_tcp_port
from programs.process import Launch, Logged, Program, find_program

PINNED: Final = Path(__file__).parents[1] / "npm"
RUN_S: Final = 120.0

Results = dict[str, Any]
"""By a conversation's name: true, or what was not as expected."""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Installed as pinned, in a directory of its own."""
    directory = tmp_path_factory.mktemp("npm")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(PINNED / name, directory)
    command = [find_program("npm"), "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    subprocess.run(command, cwd=directory, check=True, timeout=RUN_S)
    return directory / "node_modules" / "http-cache-tests"


class Origin(Program):
    """The suite's server: each conversation tells it how to behave."""

    def __init__(self, suite: Path, run_dir: Path) -> None:
        self.port: Final = free_tcp_port()
        where = {"protocol": "http", "port": str(self.port), "pidfile": str(run_dir / "pid")}
        environment = {f"npm_config_{name}": value for name, value in where.items()}
        argv = [find_program("node"), str(suite / "server" / "server.mjs")]
        super().__init__("origin", argv, run_dir, ready=Logged("Listening"), launch=Launch(environment=environment))


def begun(suite: Path, port: int) -> subprocess.Popen[str]:
    """All its conversations with what listens there."""
    settings = {"npm_config_base": f"http://{LOOPBACK}:{port}", "npm_package_config_id": ""}
    command = [find_program("node"), "--no-warnings", "cli.mjs"]
    return subprocess.Popen(command, cwd=suite, env=os.environ | settings, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def results(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Results, Results]]:
    """Without the balancer, and through it; both at the same time, since most of it is waiting."""
    run_dir, front = tmp_path_factory.mktemp("conversations"), new_front()
    with ExitStack() as stack:
        origin = stack.enter_context(Origin(suite, run_dir / "origin"))
        config = {
            "listeners": [front.listener("web", [{"pool": "origin"}])],
            "pools": {"origin": http_pool(f"{LOOPBACK}:{origin.port}")},
        }
        stack.enter_context(Balancer(config, run_dir / "mfalb"))
        runs = [begun(suite, port) for port in (origin.port, front.port)]
        try:
            direct, through = (json.loads(run.communicate(timeout=RUN_S)[0]) for run in runs)
        finally:
            for run in runs:
                run.kill()
                run.communicate()
        yield direct, through


def test_what_ends_well_without_the_balancer_ends_well_through_it_and_nothing_else_does(
    results: tuple[Results, Results],
) -> None:
    direct, through = ({name for name, result in some.items() if result is True} for some in results)
    assert direct == through
    assert len(direct) > 100


def test_what_does_not_end_well_is_nothing_but_the_cache_that_is_missing_and_origins_that_break_off(
    results: tuple[Results, Results],
) -> None:
    """Of an origin that breaks off its client hears 502, where it would have been cut off itself."""
    different = {name for name, result in results[0].items() if kind_of(result) != kind_of(results[1][name])}
    # These have a framing that is a lie: a length that is not the body's, a coding that nobody knows (refused with 502)
    lies = {
        "headers-store-Content-Length",
        "304-etag-update-response-Content-Length",
        "headers-store-Transfer-Encoding",
    }
    assert {name for name in different if not name.startswith("stale-")} <= lies


def kind_of(result: object) -> object:
    """Without its words, which differ from one run to the next."""
    return result[0] if isinstance(result, list) else result
