"""PROXY protocol headers: whose are read, and which pools cannot send one."""

from __future__ import annotations

import pytest
from unit.balancer.config.config_folder import Folder

from mfalb.balancer.config.models import HttpListener
from mfalb.balancer.config.values import Network

WEB = """\
listeners:
  - name: web
    protocol: http
    bind: ["127.0.0.1:80"]
    routes: [{pool: web}]
    proxy_protocol: {from: [10.0.9.0/24, 10.0.8.1]}
  - {name: t, protocol: tcp, bind: ["127.0.0.1:81"], routes: [{pool: web}], proxy_protocol: {from: ["2001:db8::/32"]}}
  - name: r
    protocol: radius
    bind: ["127.0.0.1:1812"]
    clients: [{name: c, network: 10.0.0.0/8, secret_env: S}]
    pool: r
pools:
  web:
    backends: [{name: a, address: "10.0.0.1:80"}]
    send_proxy: v2
    health_check: {type: tcp}
  r:
    backends: [{name: a, address: "10.0.0.1:1812", secret_env: S, require_message_authenticator: true}]
    health_check: {type: radius}
    affinity: {preset: radius_challenge}
"""


@pytest.fixture(autouse=True)
def secret(folder: Folder) -> None:
    folder.environment["S"] = "s" * 16


def test_networks_are_read_and_a_single_address_is_one(folder: Folder) -> None:
    config, findings = folder.read(WEB)
    assert findings == []
    assert config is not None
    listener = config.listeners[0]
    assert isinstance(listener, HttpListener)
    assert listener.proxy_protocol is not None
    networks: tuple[Network, ...] = listener.proxy_protocol.from_
    assert [str(network) for network in networks] == ["10.0.9.0/24", "10.0.8.1/32"]


ANYONE = "anyone can pose as any client, in logs, limits and X-Forwarded-For; name the proxies"
CASES = {
    "nobody named": (
        "{from: [10.0.9.0/24, 10.0.8.1]}",
        "{from: »[]}",
        "error: from: must have at least one entry",
    ),
    "nothing said": (
        "    proxy_protocol: {from: [10.0.9.0/24, 10.0.8.1]}",
        "    »proxy_protocol: {}",
        "error: 'from' is missing; accepted: from",
    ),
    "another key": (
        "{from: [10.0.9.0/24, 10.0.8.1]}",
        "{from: [10.0.9.0/24], »form: [10.0.8.1]}",
        "error: unknown key 'form'; accepted: from; did you mean 'from'?",
    ),
    "the attribute's name": (
        "{from: [10.0.9.0/24, 10.0.8.1]}",
        "{from: [10.0.9.0/24], »from_: [10.0.8.1]}",
        "error: unknown key 'from_'; accepted: from; did you mean 'from'?",
    ),
    "everybody": (
        "{from: [10.0.9.0/24, 10.0.8.1]}",
        "{from: [10.0.9.0/24, »0.0.0.0/0]}",
        f"warning: from: with 0.0.0.0/0 {ANYONE}",
    ),
    "a version that nobody knows": (
        "send_proxy: v2",
        "send_proxy: »v3",
        "error: send_proxy: 'v3' is not one of v1, v2",
    ),
    "RADIUS": (
        "    health_check: {type: radius}\n",
        "    health_check: {type: radius}\n    »send_proxy: v1\n",
        "error: send_proxy: pool 'r' takes RADIUS, which has no such header; remove it",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_does_not_fit_is_named_where_it_stands(folder: Folder, name: str) -> None:
    old, new, message = CASES[name]
    assert WEB.count(old) == 1
    folder.expect(WEB.replace(old, new), message)
