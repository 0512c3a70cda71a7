"""Names that refer to nothing, things that are there twice, and things that do not fit together."""

import pytest
from unit.balancer.config.config_folder import LISTENERS, POOLS, Folder

RADIUS = """\
listeners:
  - name: r
    protocol: radius
    bind: ["127.0.0.1:1812"]
    clients: [{name: c, network: 10.0.0.0/8, secret_env: SECRET}]
    pool: r
pools:
  r:
    backends: [{name: a, address: "10.0.0.1:1812", secret_env: SECRET, require_message_authenticator: true}]
    health_check: {type: radius}
    affinity: {preset: radius_challenge}
"""


@pytest.fixture(autouse=True)
def secrets(folder: Folder) -> None:
    folder.environment["SECRET"] = "s" * 16
    folder.write("keys", "A" * 43 + "=")


def replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"{old!r} is not in the text exactly once"
    return text.replace(old, new)


def test_the_texts_that_the_cases_are_made_from_are_right(folder: Folder) -> None:
    assert folder.findings(LISTENERS + POOLS) == []
    assert folder.findings(RADIUS) == []


WEB = LISTENERS + POOLS
TWO = WEB.replace("pools:", "  - {name: NAME, protocol: http, bind: [BIND], routes: [{pool: web}]}\npools:")
HTTP_CASES = [
    ("[{pool: web}]", "[{pool: »wbe}]", "pool: there is no pool 'wbe'; defined: web; did you mean 'web'?"),
    ("[{pool: web}]", "[{pool: web}, {path: /x, pool: »sdk}]", "pool: there is no pool 'sdk'; defined: web"),
    (
        "[{pool: web}]",
        "[{pool: web, path: /A}, »{pool: web, path: /a/}]",
        "route: 'any host /a' has a route on line 2 already; remove one",
    ),
    (
        "protocol: http,",
        "protocol: »https,",
        "protocol: https needs 'tls' with a certificate; add it or write protocol: http",
    ),
    (
        'bind: ["127.0.0.1:8080"]',
        'bind: ["127.0.0.1:8080", »"127.0.0.1:8080"]',
        "bind: TCP address '127.0.0.1:8080' is bound on line 2 already; an address serves one listener",
    ),
    (
        'bind: ["127.0.0.1:8080"]',
        'bind: ["[::1]:8080", »"[0:0::1]:8080"]',
        "bind: TCP address '[::1]:8080' is bound on line 2 already; an address serves one listener",
    ),
    (
        'address: "10.0.0.1:80"}',
        'address: "10.0.0.1:80"}, {name: »a, address: "10.0.0.2:80"}',
        "name: backend 'a' is in this pool on line 5 already",
    ),
    (
        'address: "10.0.0.1:80"}',
        'address: "10.0.0.1:80"}, {name: b, address: »"10.0.0.1:80"}',
        "address: '10.0.0.1:80' is in this pool on line 5 already; for a larger share use 'weight'",
    ),
    (
        '{name: a, address: "10.0.0.1:80"}',
        '{name: a, address: "MFA1:80"}, {name: b, address: »"mfa1.:80"}',
        "address: 'mfa1:80' is in this pool on line 5 already; for a larger share use 'weight'",
    ),
    (
        '{name: a, address: "10.0.0.1:80"}',
        '»{name: a, address: "10.0.0.1:80", secret_env: SECRET}',
        "backend 'a' takes HTTP, which uses no secret; remove it",
    ),
    ("{type: http}", "{type: »radius}", "type: pool 'web' takes HTTP, which radius cannot check; write http"),
    (
        "health_check: {type: http}",
        "health_check: {type: http}\n    affinity: {preset: »radius_challenge}",
        (
            "affinity: pool 'web' takes HTTP, which has no radius_state affinity; write type: cookie, transaction or "
            "transaction_id"
        ),
    ),
    (
        "health_check: {type: http}",
        "health_check: {type: http}\n    affinity: {type: »cookie}",
        (
            "affinity: cookies are encrypted and need keys; add pins: {cookie_keys_file: path} with a line from "
            "'mfalb keygen'"
        ),
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), HTTP_CASES)
def test_what_does_not_fit_in_an_http_configuration(folder: Folder, old: str, new: str, message: str) -> None:
    folder.expect(replaced(WEB, old, new), f"error: {message}")


@pytest.mark.parametrize(
    ("name", "bind", "message"),
    [
        ("»web", "'127.0.0.1:8081'", "name: listener 'web' is defined on line 2 already; choose another"),
        (
            "two",
            "»'127.0.0.1:8080'",
            "bind: TCP address '127.0.0.1:8080' is bound on line 2 already; an address serves one listener",
        ),
    ],
)
def test_two_listeners_have_their_own_names_and_addresses(folder: Folder, name: str, bind: str, message: str) -> None:
    folder.expect(TWO.replace("NAME", name).replace("BIND", bind), f"error: {message}")


def test_the_admin_address_is_no_listener_s(folder: Folder) -> None:
    folder.expect(
        f"{WEB}admin: {{bind: »'127.0.0.1:8080'}}\n",
        "error: bind: TCP address '127.0.0.1:8080' is bound on line 2 already; an address serves one listener",
    )


def test_tcp_and_udp_may_share_an_address(folder: Folder) -> None:
    assert folder.findings(f"{RADIUS}admin: {{bind: '127.0.0.1:1812'}}\n") == []


def test_a_pool_without_listeners_is_only_a_warning(folder: Folder) -> None:
    pool = '  »spare: {backends: [{name: a, address: "10.0.0.1:80"}], health_check: {type: tcp}}\n'
    folder.expect(WEB + pool, "warning: pool 'spare' is not used by any listener")


def test_a_reference_to_a_broken_pool_is_no_second_error(folder: Folder) -> None:
    folder.expect(
        replaced(WEB, '"10.0.0.1:80"', '»"10.0.0.1:0"'),
        "error: address: '10.0.0.1:0' has no port from 1 to 65535 after its last colon",
    )


CLIENT = "{name: c, network: 10.0.0.0/8, secret_env: SECRET}"
SIGNS = "secret_env: SECRET, require_message_authenticator: true"
RADIUS_CASES = [
    ("pool: r\n", "pool: »x\n", "pool: there is no pool 'x'; defined: r"),
    (
        CLIENT,
        f"{CLIENT}, {{name: »c, network: 10.1.0.0/16, secret_env: SECRET}}",
        "name: client 'c' is defined on line 5 already; choose another",
    ),
    (
        CLIENT,
        f"{CLIENT}, {{name: d, network: »10.0.0.0/8, secret_env: SECRET}}",
        "network: '10.0.0.0/8' belongs to the client on line 5 already; a network has one secret",
    ),
    (
        'bind: ["127.0.0.1:1812"]',
        'bind: ["127.0.0.1:1812", »"127.0.0.1:1812"]',
        "bind: UDP address '127.0.0.1:1812' is bound on line 4 already; an address serves one listener",
    ),
    (
        'bind: ["127.0.0.1:1812"]',
        'bind: [»"127.0.0.1:1812", "[::1]:1812", "127.0.0.1:1813", "0.0.0.0:1812"]',
        (
            "bind: UDP address '127.0.0.1:1812' is one of those that '0.0.0.0:1812' on line 4 stands for; remove one "
            "of the two"
        ),
    ),
    (
        'bind: ["127.0.0.1:1812"]',
        'bind: ["[::]:1812", "127.0.0.1:1812", »"[::1]:1812", "localhost:1812"]',
        "bind: UDP address '[::1]:1812' is one of those that '[::]:1812' on line 4 stands for; remove one of the two",
    ),
    (
        '{name: a, address: "10.0.0.1:1812", secret_env: SECRET,',
        '»{name: a, address: "10.0.0.1:1812",',
        "backend 'a' takes RADIUS and needs 'secret_file' or 'secret_env'",
    ),
    (
        "authenticator: true}",
        f'authenticator: true}}, {{name: b, address: »"10.0.0.1:1812", {SIGNS}}}',
        "address: '10.0.0.1:1812' is in this pool on line 9 already; for a larger share use 'weight'",
    ),
    (
        "authenticator: true}",
        f'authenticator: true}}, {{name: »a, address: "10.0.0.2:1812", {SIGNS}}}',
        "name: backend 'a' is in this pool on line 9 already",
    ),
    ("{type: radius}", "{type: »http}", "type: pool 'r' takes RADIUS, which http cannot check; write radius"),
    (
        "{preset: radius_challenge}",
        "{preset: »azure_mfa_sdk}",
        "affinity: pool 'r' takes RADIUS authentication, which has no transaction affinity; write type: radius_state",
    ),
    (
        "affinity: {preset: radius_challenge}",
        "affinity: {type: »cookie}\npins: {cookie_keys_file: keys}",
        "affinity: pool 'r' takes RADIUS authentication, which has no cookie affinity; write type: radius_state",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), RADIUS_CASES)
def test_what_does_not_fit_in_a_radius_configuration(folder: Folder, old: str, new: str, message: str) -> None:
    folder.expect(replaced(RADIUS, old, new), f"error: {message}")


def test_radius_and_http_do_not_share_a_pool(folder: Folder) -> None:
    web = "  - {name: w, protocol: http, bind: ['127.0.0.1:80'], routes: [{pool: r}]}\n"
    text = replaced(replaced(RADIUS, "  - name: r\n", f"{web}  - name: r\n"), "pool: r\n", "pool: »r\n")
    folder.expect(text, "error: pool: 'r' takes HTTP from a route already; RADIUS needs a pool of its own")


def test_networks_may_be_nested_since_the_longest_prefix_wins(folder: Folder) -> None:
    nested = f"{CLIENT}, {{name: d, network: 10.1.0.0/16, secret_env: SECRET}}"
    assert folder.findings(replaced(RADIUS, CLIENT, nested)) == []
