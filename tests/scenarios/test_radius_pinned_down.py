"""Promise: what continues a sign-in at a server that is gone is refused as the operator says, and reaches no other."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from programs.balancer import Balancer
from programs.process import wait_until
from programs.pyrad_client import PyradClient
from programs.radius_pool import STATE_PINS, radius_pool
from programs.radius_server import RadiusServer

from mfalb.wire import radius

STATE = b"of the server that is gone"


@pytest.mark.parametrize("refusal", ["reject", "silence"])
def test_b13_a_state_whose_server_is_gone_is_rejected_or_met_with_silence_as_configured(
    tmp_path: Path, refusal: str
) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(RadiusServer(name, f"towards-the-server-{name}")) for name in ("b1", "b2")]
        for server in servers:
            server.answers = lambda request, server=server: [  # type: ignore[misc]
                server.signed(request, radius.ACCESS_CHALLENGE, radius.attribute(radius.STATE, STATE))
            ]
        pool = radius_pool(servers, tmp_path, affinity={**STATE_PINS, "when_pinned_down": refusal})
        balancer = stack.enter_context(Balancer(pool.config, tmp_path / "mfalb", secrets=pool.secrets))
        client = stack.enter_context(PyradClient(pool.port, pool.client_secret, timeout_s=1.0))
        wait_until(lambda: balancer.metrics().total("mfalb_backend_up") == 2, "both servers to be up")
        first = client.sign_in((radius.USER_NAME, b"alice"))
        assert first is not None
        assert first[0] == radius.ACCESS_CHALLENGE
        (issuer,) = (server for server in servers if server.requests)
        (other,) = (server for server in servers if not server.requests)
        issuer.close()
        wait_until(lambda: balancer.metrics().total("mfalb_backend_up", backend=issuer.name) == 0, "it to be down")
        second = client.sign_in((radius.USER_NAME, b"alice"), (radius.STATE, STATE), password="123456")
        if refusal == "reject":
            assert second is not None
            assert second[0] == radius.ACCESS_REJECT
        else:
            assert second is None
            assert balancer.metrics().total("mfalb_listener_drops_total", reason="pinned_down") == 1
        assert other.requests == []
        begun_anew = client.sign_in((radius.USER_NAME, b"alice"))
        assert begun_anew is not None
        assert begun_anew[0] == radius.ACCESS_CHALLENGE
