"""TCP listeners, their routes and their pools: what is there twice and what does not fit together."""

from __future__ import annotations

import pytest
from unit.balancer.config.config_folder import Folder

TCP = """\
listeners:
  - name: tls
    protocol: tcp
    bind: ["127.0.0.1:443"]
    routes: [{sni: adfs.contoso.com, pool: adfs}]
  - {name: web, protocol: http, bind: ["127.0.0.1:80"], routes: [{pool: web}]}
  - name: r
    protocol: radius
    bind: ["127.0.0.1:443"]
    clients: [{name: c, network: 10.0.0.0/8, secret_env: S}]
    pool: r
pools:
  adfs:
    backends: [{name: a, address: "10.0.0.1:443"}]
    health_check: {type: tcp}
  web:
    backends: [{name: a, address: "10.0.0.1:80"}]
    health_check: {type: http}
  r:
    backends: [{name: a, address: "10.0.0.1:1812", secret_env: S, require_message_authenticator: true}]
    health_check: {type: radius}
    affinity: {preset: radius_challenge}
"""


@pytest.fixture(autouse=True)
def secret(folder: Folder) -> None:
    folder.environment["S"] = "s" * 16


def test_the_text_that_the_cases_are_made_from_is_right(folder: Folder) -> None:
    assert folder.findings(TCP) == []


ROUTE = "[{sni: adfs.contoso.com, pool: adfs}]"
BACKEND = '[{name: a, address: "10.0.0.1:443"}]'
UNCHECKED = "has no health check: a dead server is noticed by failing sign-ins only; write health_check: {type: tcp}"
CASES = {
    "a name twice": (
        ROUTE,
        "[{sni: adfs.contoso.com, pool: adfs}, »{sni: ADFS.contoso.com., pool: adfs}]",
        "error: route: 'adfs.contoso.com' has a route on line 5 already; remove one",
    ),
    "two defaults": (
        ROUTE,
        "[{pool: adfs}, »{pool: adfs}]",
        "error: route: 'any name' has a route on line 5 already; remove one",
    ),
    "no such pool": (
        ROUTE,
        "[{sni: x.contoso.com, pool: adfs}, {pool: »adsf}]",
        "error: pool: there is no pool 'adsf'; defined: adfs, r, web; did you mean 'adfs'?",
    ),
    "an address that http has": (
        '["127.0.0.1:80"]',
        '[»"127.0.0.1:443"]',
        "error: bind: TCP address '127.0.0.1:443' is bound on line 4 already; an address serves one listener",
    ),
    "RADIUS servers": (
        ROUTE,
        "[{sni: adfs.contoso.com, pool: adfs}, {pool: »r}]",
        "error: pool: 'r' takes RADIUS already; TCP needs a pool of its own",
    ),
    "a wildcard inside": (
        ROUTE,
        '[{sni: »"a.*.com", pool: adfs}]',
        "error: sni: 'a.*.com': only a whole first label may be a wildcard; write *.contoso.com",
    ),
    "an address with a port as a name": (
        ROUTE,
        '[{sni: »"adfs.contoso.com:443", pool: adfs}]',
        "error: sni: 'adfs.contoso.com:443' is no IP address",
    ),
    "an affinity": (
        f"{BACKEND}\n    health_check: {{type: tcp}}",
        f"{BACKEND}\n    health_check: {{type: tcp}}\n    affinity: {{type: »transaction}}",
        "error: affinity: pool 'adfs' takes TCP, of which nothing is read that could be a pin; remove it",
    ),
    "a secret": (
        BACKEND,
        '[»{name: a, address: "10.0.0.1:443", secret_env: S}]',
        "error: backend 'a' takes TCP, which uses no secret; remove it",
    ),
    "a RADIUS check": (
        f"{BACKEND}\n    health_check: {{type: tcp}}",
        f"{BACKEND}\n    health_check: {{type: »radius}}",
        "error: type: pool 'adfs' takes TCP, which radius cannot check; write tcp",
    ),
    "no check": (
        f"  adfs:\n    backends: {BACKEND}\n    health_check: {{type: tcp}}",
        f"  »adfs:\n    backends: {BACKEND}",
        f"warning: pool 'adfs' {UNCHECKED}",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_does_not_fit_is_named_where_it_stands(folder: Folder, name: str) -> None:
    old, new, message = CASES[name]
    assert TCP.count(old) == 1
    folder.expect(TCP.replace(old, new), message)


def test_a_pool_with_upstream_tls_cannot_take_bytes_as_they_are(folder: Folder) -> None:
    text = TCP.replace(ROUTE, "[{sni: adfs.contoso.com, pool: adfs}, {pool: »web}]")
    text = text.replace("    health_check: {type: http}\n", "    health_check: {type: http}\n    upstream_tls: {}\n")
    trouble = "has upstream_tls, which TCP cannot use: bytes pass as they are; it needs a pool of its own"
    folder.expect(text, f"error: pool: 'web' {trouble}")


def test_a_pool_that_only_tcp_uses_counts_as_used_and_one_that_nobody_uses_does_not(folder: Folder) -> None:
    unused = TCP.replace("{pool: web}", "{pool: adfs}").replace("  web:", "  »web:")
    folder.expect(unused, "warning: pool 'web' is not used by any listener")
