"""Promise: the balancer serves with either form of datagram sockets, takes the fast one where it can, says which."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from programs.balancer import Balancer
from programs.ports import free_udp_port
from programs.process import Launch
from programs.pyrad_client import PyradClient
from programs.radius_pool import radius_pool
from programs.radius_server import RadiusServer

from mfalb.net.datagram_form import PLAIN_VARIABLE
from mfalb.wire import radius

SLOWER = "warning one system call for each RADIUS datagram: slower form=plain reason="


def without_cffi(run_dir: Path) -> dict[str, str]:
    """The environment of a program that cannot import cffi."""
    hidden = run_dir / "hidden"
    hidden.mkdir()
    (hidden / "cffi.py").write_text("raise ImportError('no cffi here')\n", "utf-8")
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(hidden), os.environ.get("PYTHONPATH"))))}


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("batched", "info RADIUS datagrams form=batched"),
        ("asked for", f'{SLOWER}"MFALB_PLAIN_DATAGRAMS is set"'),
        ("without cffi", f'{SLOWER}"ImportError: no cffi here"'),
    ],
)
def test_a_user_signs_in_on_each_form_and_the_log_tells_once_which_it_is(form: str, line: str, tmp_path: Path) -> None:
    environments = {"batched": {}, "asked for": {PLAIN_VARIABLE: "1"}, "without cffi": without_cffi(tmp_path)}
    launch = Launch(environment=environments[form])
    with RadiusServer("b1", "towards-the-server-1") as server:
        made = radius_pool((server,), tmp_path)
        (listener,) = made.config["listeners"]
        made.config["listeners"].append({**listener, "name": "second", "bind": [f"127.0.0.1:{free_udp_port()}"]})
        with (
            Balancer(made.config, tmp_path / "mfalb", secrets=made.secrets, launch=launch) as balancer,
            PyradClient(made.port, made.client_secret) as client,
        ):
            asked = client.request([(radius.USER_NAME, b"alice")], "hello")
            answer = client.ask(asked)
            assert answer is not None
            assert answer[0] == radius.ACCESS_ACCEPT
            assert client.ask(asked) == answer, "a retransmit must get the stored bytes"
            assert len(server.requests) == 1
            assert [one.partition(" ")[2] for one in balancer.log().splitlines() if " form=" in one] == [line]
