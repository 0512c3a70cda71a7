"""The store that nodes share: what cannot be used, what is of no use, and what is not safe."""

from __future__ import annotations

from importlib.machinery import ModuleSpec

import pytest
from unit.balancer.config.config_folder import Folder

from mfalb.balancer.config import pin_references

HEAD = """\
listeners:
  - name: r
    protocol: radius
    bind: ["127.0.0.1:1812"]
    clients: [{name: c, network: 10.0.0.0/8, secret_env: S}]
    pool: r
pools:
  r:
    backends: [{name: a, address: "10.0.0.1:1812", secret_env: S, require_message_authenticator: true}]
    health_check: {type: radius}
    affinity: {preset: radius_challenge}
"""
STORE = HEAD + 'pins:\n  store: {type: valkey, addresses: ["127.0.0.1:6379"]}\n'


@pytest.fixture(autouse=True)
def secret(folder: Folder) -> None:
    folder.environment["S"] = "s" * 16


def test_the_text_that_the_cases_are_made_from_is_right_and_the_defaults_are_as_documented(folder: Folder) -> None:
    config, findings = folder.read(STORE)
    assert findings == []
    assert config is not None
    assert config.pins.store is not None
    store = config.pins.store
    assert (store.timeout_s, store.prefix, store.cluster, store.node, store.tls) == (0.05, "mfalb:", False, None, None)


def test_whoever_shares_nothing_has_no_store(folder: Folder) -> None:
    config, findings = folder.read(HEAD)
    assert findings == []
    assert config is not None
    assert config.pins.store is None


BODY = '{type: valkey, addresses: ["127.0.0.1:6379"]}'
SEVERAL = "store: several 'addresses' are those of Sentinels or of a cluster"
KEYS = (
    "type, addresses, sentinel, sentinel_password_file, sentinel_password_env, cluster, user, password_file, "
    "password_env, tls, timeout, prefix, node"
)
MISTAKES = {
    "another kind": (
        '{type: »memcached, addresses: ["127.0.0.1:6379"]}',
        "type: 'memcached' is not one of valkey",
    ),
    "no address": ("{type: valkey, addresses: »[]}", "addresses: must have at least one entry"),
    "an address without a port": (
        '{type: valkey, addresses: [»"valkey.contoso.com"]}',
        "addresses: 'valkey.contoso.com' is no address; write host:port, for example 10.0.1.11:443 or [::1]:443",
    ),
    "several servers": (
        '»{type: valkey, addresses: ["127.0.0.1:1", "127.0.0.1:2"]}',
        f"{SEVERAL}; write 'sentinel: NAME' or 'cluster: true' too, or keep one address",
    ),
    "Sentinels of a cluster": (
        '»{type: valkey, addresses: ["127.0.0.1:1"], cluster: true, sentinel: pins}',
        "store: 'cluster' and 'sentinel' are two ways to find a store; keep one of them",
    ),
    "a user alone": (
        '»{type: valkey, addresses: ["127.0.0.1:1"], user: mfalb}',
        "store: 'user' is of no use without 'password_file' or 'password_env'; write one of them",
    ),
    "a password for no Sentinel": (
        '»{type: valkey, addresses: ["127.0.0.1:1"], sentinel_password_env: S}',
        "store: 'sentinel_password' is of no use without 'sentinel'; leave it out",
    ),
    "a password in the file": (
        '{type: valkey, addresses: ["127.0.0.1:1"], password: »hunter2}',
        "password: a secret does not stand in this file; write 'password_file: path' or 'password_env: NAME'",
    ),
    "a prefix with spaces": (
        '{type: valkey, addresses: ["127.0.0.1:1"], prefix: »"a b"}',
        "prefix: 'a b' is no prefix; use up to 64 visible ASCII characters",
    ),
    "a time without a unit": (
        '{type: valkey, addresses: ["127.0.0.1:1"], timeout: »50}',
        "timeout: 50 has no unit; write 500ms, 50s, 50m or 50h",
    ),
    "half a certificate": (
        '{type: valkey, addresses: ["127.0.0.1:1"], tls: »{cert: x.pem}}',
        "tls: 'cert' is of no use without 'key'; write both or neither",
    ),
    "an unknown key": (
        '{type: valkey, addresses: ["127.0.0.1:1"], »prefx: x}',
        f"unknown key 'prefx'; accepted: {KEYS}; did you mean 'prefix'?",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_shown_where_it_stands(folder: Folder, case: str) -> None:
    body, message = MISTAKES[case]
    folder.expect(STORE.replace(BODY, body), f"error: {message}")


def test_an_authority_that_cannot_be_read_is_an_error(folder: Folder) -> None:
    missing = folder.path / "ca.pem"
    folder.expect(
        STORE.replace(BODY, '{type: valkey, addresses: ["127.0.0.1:1"], tls: {ca: »ca.pem}}'),
        f"error: ca: cannot read '{missing}': no such file or directory",
    )


def test_without_the_library_it_is_said_how_to_get_it(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(_name: str) -> ModuleSpec | None:
        return None

    monkeypatch.setattr(pin_references, "find_spec", find_spec)
    folder.expect(
        STORE.replace("valkey,", "»valkey,"),
        "error: type: valkey needs a Python package that is not here; run: pip install 'mfalb[valkey]'",
    )


FORGERS = "store: whoever reaches it without a password can send users to another server"
WARNINGS = {
    "no password": (
        '  »store: {type: valkey, addresses: ["10.0.0.9:6379"], tls: {}}',
        f"{FORGERS}; write 'password_file' and set the same in the store",
    ),
    "no TLS": (
        '  »store: {type: valkey, addresses: ["valkey.contoso.com:6379"], password_env: S}',
        "store: without 'tls' the password can be read, and pins forged, on the way to it",
    ),
    "patience": (
        '  store: {type: valkey, addresses: ["localhost:6379"], timeout: »5s}',
        "timeout: a sign-in may wait 5s for a store that fails, and NASes send again meanwhile; write 50ms to 1s",
    ),
}


@pytest.mark.parametrize("case", WARNINGS)
def test_what_is_not_wise_is_warned_of(folder: Folder, case: str) -> None:
    body, message = WARNINGS[case]
    folder.expect(STORE.replace(f"  store: {BODY}", body), f"warning: {message}")


def test_a_store_for_nothing_is_warned_of(folder: Folder) -> None:
    *_, last = folder.findings(STORE.replace("preset: radius_challenge", "type: none"))
    assert last == (
        "13:3: warning: store: no pool has an affinity whose pins stand in a table, so there is nothing to share; "
        "cookies need only the same 'cookie_keys' on all nodes"
    )
