"""Compiles the data paths of RADIUS and HTTP when asked to (`MFALB_COMPILE=1 pip install .`).

It needs a C compiler and Python's headers.

mypyc makes C extensions of the same typed source. Without that variable this file does nothing, and the package is pure
Python, as `pyproject.toml` describes it.
"""

from __future__ import annotations

import os

from setuptools import setup

# What each RADIUS datagram or HTTP request passes through, and the values it is made of. Modules whose classes tests or
# other code replace at run time stay interpreted.
COMPILED = (
    "mfalb/errors.py",
    "mfalb/wire/cookies.py",
    "mfalb/wire/http.py",
    "mfalb/wire/http_bodies.py",
    "mfalb/wire/http_events.py",
    "mfalb/wire/http_fields.py",
    "mfalb/wire/http_heads.py",
    "mfalb/wire/http_target.py",
    "mfalb/wire/radius.py",
    "mfalb/wire/radius_hidden.py",
    "mfalb/wire/radius_hidden_attributes.py",
    "mfalb/net/arena.py",
    "mfalb/net/clock.py",
    "mfalb/net/batched_datagrams.py",
    "mfalb/net/datagram_poller.py",
    "mfalb/net/datagrams.py",
    "mfalb/net/entropy.py",
    "mfalb/net/peer_slots.py",
    "mfalb/net/rounds.py",
    "mfalb/net/run_sender.py",
    "mfalb/net/sockaddr.py",
    "mfalb/net/tls_end.py",
    "mfalb/telemetry/log.py",
    "mfalb/telemetry/metrics.py",
    "mfalb/telemetry/rare_log.py",
    "mfalb/balancer/pools/backend.py",
    "mfalb/balancer/pools/choice.py",
    "mfalb/balancer/pools/health_state.py",
    "mfalb/balancer/pools/least_connections.py",
    "mfalb/balancer/pools/pool.py",
    "mfalb/balancer/pools/power_of_two.py",
    "mfalb/balancer/pools/rendezvous.py",
    "mfalb/balancer/pools/retry_budget.py",
    "mfalb/balancer/pools/round_robin.py",
    "mfalb/balancer/pools/waiting_line.py",
    "mfalb/balancer/exchange/duplicates.py",
    "mfalb/balancer/exchange/flight_log.py",
    "mfalb/balancer/exchange/forwarding.py",
    "mfalb/balancer/exchange/http.py",
    "mfalb/balancer/exchange/http_affinity.py",
    "mfalb/balancer/exchange/http_hash_key.py",
    "mfalb/balancer/exchange/http_transaction_id.py",
    "mfalb/balancer/exchange/identifiers.py",
    "mfalb/balancer/exchange/radius.py",
    "mfalb/balancer/exchange/radius_accounting.py",
    "mfalb/balancer/exchange/radius_authentication.py",
    "mfalb/balancer/exchange/radius_content_signed.py",
    "mfalb/balancer/exchange/radius_dynamic_authorization.py",
    "mfalb/balancer/exchange/radius_exchange.py",
    "mfalb/balancer/exchange/radius_guards.py",
    "mfalb/balancer/exchange/radius_hash_key.py",
    "mfalb/balancer/exchange/radius_peer.py",
    "mfalb/balancer/exchange/radius_rehiding.py",
    "mfalb/balancer/exchange/radius_rules.py",
    "mfalb/balancer/exchange/radius_service.py",
    "mfalb/balancer/exchange/radius_shared.py",
    "mfalb/balancer/exchange/request_ids.py",
    "mfalb/balancer/exchange/routes.py",
    "mfalb/balancer/listeners/crowd.py",
    "mfalb/balancer/listeners/http.py",
    "mfalb/balancer/listeners/http_answer.py",
    "mfalb/balancer/listeners/http_connection.py",
    "mfalb/balancer/listeners/http_flow.py",
    "mfalb/balancer/listeners/http_host.py",
    "mfalb/balancer/listeners/http_pace.py",
    "mfalb/balancer/listeners/http_parts.py",
    "mfalb/balancer/listeners/http_record.py",
    "mfalb/balancer/listeners/http_relay.py",
    "mfalb/balancer/listeners/http_upload.py",
    "mfalb/balancer/listeners/pin_changes.py",
    "mfalb/balancer/listeners/radius.py",
    "mfalb/balancer/listeners/radius_dispatch.py",
    "mfalb/balancer/upstreams/http.py",
    "mfalb/balancer/upstreams/http_connection.py",
    "mfalb/balancer/upstreams/radius.py",
    "mfalb/balancer/upstreams/radius_carrier.py",
    "mfalb/balancer/upstreams/radsec.py",
)


IS_COMPILED = bool(os.environ.get("MFALB_COMPILE"))


def extensions() -> list[object]:
    """The extension modules to build: none, unless MFALB_COMPILE is set."""
    if not IS_COMPILED:
        return []
    try:
        from mypyc.build import mypycify  # noqa: PLC0415 - a build requirement of the compiled form only
    except ImportError:  # pip runs this file a first time to read setup_requires; it installs them before it builds
        return []
    return list(mypycify([*COMPILED, "--ignore-missing-imports"], opt_level="3"))


# setup_requires: pip asks for it before it builds, and installs mypy into the build's own environment only
setup(ext_modules=extensions(), setup_requires=["mypy>=1.14"] if IS_COMPILED else [])
