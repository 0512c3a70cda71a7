"""Varnish's test program as client and server: the scenarios of tests/vtc, one by one, each with a balancer of its own.

${web}          a listener before s1
${sticky}       before s1 and s2, with session cookies
${checked}      before nobody, which a health check finds out
${proxied}      before s1; PROXY headers are read from here
${elsewhere}    before s1; they are read from another network only
${s1} ${s2}     where the servers have to listen
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Final

import pytest
from programs.balancer import Balancer, write_secret
from programs.http_pool import http_pool, new_front
from programs.ports import LOOPBACK, free_tcp_port
from programs.varnishtest import ScenarioFailed, run_vtc

SCENARIOS: Final = sorted((Path(__file__).parents[1] / "vtc").glob("*.vtc"))
CHECK: Final = {"type": "tcp", "interval": "200ms", "timeout": "200ms", "rise": 1, "fall": 1}
LISTENERS: Final[dict[str, dict[str, object]]] = {
    "web": {},
    "sticky": {},
    "checked": {},
    "proxied": {"proxy_protocol": {"from": ["127.0.0.0/8"]}},
    "elsewhere": {"proxy_protocol": {"from": ["192.0.2.0/24"]}},
}


def run_through_balancer(scenario: Path, run_dir: Path) -> str:
    """The log of a scenario that was run with a fresh balancer between its clients and its servers."""
    s1, s2, nobody = (f"{LOOPBACK}:{free_tcp_port()}" for _ in range(3))
    key = base64.b64encode(os.urandom(32)).decode()
    fronts = {name: new_front() for name in LISTENERS}
    pools = {
        "web": http_pool(s1),
        "sticky": http_pool(s1, s2, affinity={"type": "cookie"}),
        "checked": http_pool(nobody, health_check=CHECK),
    }
    config = {
        "listeners": [
            front.listener(name, [{"pool": name if name in pools else "web"}], **LISTENERS[name])
            for name, front in fronts.items()
        ],
        "pools": pools,
        "pins": {"cookie_keys_file": write_secret(run_dir, "cookie-keys", key)},
    }
    addresses = {name: f"{LOOPBACK}:{front.port}" for name, front in fronts.items()}
    with Balancer(config, run_dir / "mfalb", secrets=[key]):
        return run_vtc(scenario, {"s1": s1, "s2": s2, **addresses})


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[path.stem for path in SCENARIOS])
def test_varnishtest_finds_what_the_scenario_says(scenario: Path, tmp_path: Path) -> None:
    log = run_through_balancer(scenario, tmp_path)
    if scenario.stem == "chunked_both_ways":  # varnishtest receives trailers, but has no word to compare them
        assert "X-Question: 7" in log
        assert "X-Answer: 8" in log


def test_a_scenario_that_goes_wrong_fails_and_shows_its_log(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.vtc"
    text = next(path for path in SCENARIOS if path.stem == "nobody_there").read_text("utf-8")
    wrong.write_text(text.replace("resp.status == 502", "resp.status == 200"), "utf-8")
    with pytest.raises(ScenarioFailed, match=r"EXPECT resp\.status"):
        run_through_balancer(wrong, tmp_path)
