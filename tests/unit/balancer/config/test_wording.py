"""Each kind of mistake in a single value or table: where it is pointed at, and what the operator reads there."""

import pytest
from unit.balancer.config.config_folder import LISTENERS, POOLS, Folder

WEB = "name: web, protocol: http, bind: ['127.0.0.1:80'], routes: [{pool: web}]"
BIND = "bind: ['127.0.0.1:80']"
ROUTES = "routes: [{pool: web}]"
BACKENDS = "backends: [{name: a, address: '10.0.0.1:80'}]"
HTTP_CHECK_KEYS = (
    "type, method, path, headers, body_file, expect_status, expect_header, expect_body, host, user, password_file, "
    "password_env, body_limit, interval, fast_interval, down_interval, timeout, rise, fall"
)
HC = "health_check: {type: http}"
LISTENER_KEYS = (
    "name, protocol, bind, tls, routes, trusted_proxies, proxy_protocol, limits, forwarding, request_id, accept"
)
POOL_KEYS = (
    "algorithm, hash, slow_start, panic_threshold, backends, upstream_tls, health_check, passive_check, affinity, "
    "send_proxy, queue, retries, connect_timeout, response_timeout"
)
ROOT_KEYS = "listeners, pools, workers, admin, tls, log, drain_timeout, pins"
PRESET_NAMES = "azure_mfa_sdk, azure_mfa_mobile_app, azure_mfa_portal, privacyidea, radius_challenge"
TOO_FAST = (
    "is less than RFC 3539 section 3.4.1 allows (servers that are slow would look dead); write at least 6s, or fast: "
    "true in a laboratory"
)
NAME_RULE = "use 1 to 64 letters, digits, '.', '_' or '-', with a letter or digit at both ends"
A_LIST = "must be a list: [one, two], or one entry a line after '- '"

ROOT_MISTAKES = [
    (
        f"»listners: []\n{LISTENERS}{POOLS}",
        f"unknown key 'listners'; accepted: {ROOT_KEYS}; did you mean 'listeners'?",
    ),
    (
        f"{LISTENERS}{POOLS}»zebra: 1\n",
        "unknown key 'zebra'; accepted: listeners, pools, workers, admin, tls, log, drain_timeout, pins",
    ),
    (f"»{POOLS}", "'listeners' is missing; accepted: listeners, pools, workers, admin, tls, log, drain_timeout, pins"),
    (f"{POOLS}listeners: »[]\n", "listeners: must have at least one entry"),
    (f"{POOLS}listeners: »{{}}\n", f"listeners: {A_LIST}"),
    (f"{POOLS}»listeners:\n", f"listeners: is empty; {A_LIST}"),
    (f"{LISTENERS}{POOLS}admin: »9300\n", "admin: must be a table: one 'key: value' a line"),
    (
        f"{LISTENERS}{POOLS}admin: {{bind: »9300}}\n",
        "bind: '9300' is no address; write host:port in quotes, for example '10.0.1.11:443'",
    ),
    (
        f"{LISTENERS}{POOLS}log: {{level: »inof}}\n",
        "level: 'inof' is not one of debug, info, warning, error; did you mean 'info'?",
    ),
    (f"{LISTENERS}{POOLS}log: {{level: »5}}\n", "level: this is not one of debug, info, warning, error"),
    (f"{LISTENERS}{POOLS}log: {{format: »xml}}\n", "format: 'xml' is not one of text, json"),
    (f"{LISTENERS}{POOLS}log: {{access: »yes}}\n", "access: must be true or false"),
    (f"{LISTENERS}{POOLS}pins: {{limit: »0}}\n", "limit: must be at least 1, not 0"),
    (f"{LISTENERS}{POOLS}pins: {{limit: »many}}\n", "limit: must be a whole number"),
    (f"{LISTENERS}{POOLS}pins: {{limit: »1.5}}\n", "limit: must be a whole number"),
    (
        f"{LISTENERS}{POOLS}pins: {{»limit_s: 5}}\n",
        "unknown key 'limit_s'; accepted: limit, cookie_keys_file, cookie_keys_env, store; did you mean 'limit'?",
    ),
]

LISTENER_MISTAKES = [
    (
        f"{{name: web, protocol: »radus, {BIND}, {ROUTES}}}",
        "protocol: 'radus' is not one of http, https, tcp, radius, radsec; did you mean 'radius'?",
    ),
    (f"{{name: web, protocol: »5, {BIND}, {ROUTES}}}", "protocol: must be one of http, https, tcp, radius, radsec"),
    (
        f"{{name: web, protocol: »[http], {BIND}, {ROUTES}}}",
        "protocol: must be one of http, https, tcp, radius, radsec",
    ),
    (f"»{{name: web, {BIND}, {ROUTES}}}", "'protocol' is missing; write one of http, https, tcp, radius, radsec"),
    (f"»{{protocol: http, {BIND}, {ROUTES}}}", f"'name' is missing; accepted: {LISTENER_KEYS}"),
    (f"{{name: »5, protocol: http, {BIND}, {ROUTES}}}", "name: must be text; put it in quotes"),
    (f"{{name: »a b, protocol: http, {BIND}, {ROUTES}}}", f"name: 'a b' is no name; {NAME_RULE}"),
    (f"{{name: web, protocol: http, bind: »'127.0.0.1:80', {ROUTES}}}", f"bind: {A_LIST}"),
    (
        f"{{name: web, protocol: http, bind: ['127.0.0.1:80', »x], {ROUTES}}}",
        "bind: 'x' is no address; write host:port, for example 10.0.1.11:443 or [::1]:443",
    ),
    (f"{{name: web, protocol: http, {BIND}, routes: [»{{path: /}}]}}", "'pool' is missing; accepted: host, path, pool"),
    (
        f"{{name: web, protocol: http, {BIND}, routes: [{{pool: web, »hots: x}}]}}",
        "unknown key 'hots'; accepted: host, path, pool; did you mean 'host'?",
    ),
    (
        f"{{name: web, protocol: http, {BIND}, routes: [{{pool: web, path: »x}}]}}",
        "path: 'x' is no path; begin with '/', without spaces, '?' or '#'",
    ),
    (f"{{{WEB}, limits: {{idle_timeout: »75}}}}", "idle_timeout: 75 has no unit; write 500ms, 75s, 75m or 75h"),
    (
        f"{{{WEB}, limits: {{header_bytes: »32k}}}}",
        "header_bytes: '32k' is no size; write a whole number and its unit: 512B, 64KiB, 1MiB or 1GiB",
    ),
    (f"{{{WEB}, limits: {{header_count: »7}}}}", "header_count: must be at least 8, not 7"),
    (f"{{{WEB}, limits: {{header_count: »1001}}}}", "header_count: must be at most 1000, not 1001"),
    (f"{{{WEB}, »tls: {{}}}}", "'certificates' is missing; accepted: client_certificates, ticket_key, certificates"),
    (
        f"{{{WEB}, trusted_proxies: [»10.0.0.1/8]}}",
        "trusted_proxies: '10.0.0.1/8' names an address inside a network; did you mean '10.0.0.0/8'?",
    ),
]

POOL_MISTAKES = [
    (
        f"{BACKENDS}, »helth_check: {{type: http}}",
        f"unknown key 'helth_check'; accepted: {POOL_KEYS}; did you mean 'health_check'?",
    ),
    (f"{HC}, backends: »[]", "backends: must have at least one entry"),
    (
        f"{HC}, backends: [{{name: a, address: '10.0.0.1:80', weight: »-1}}]",
        "weight: must be at least 0, not -1",
    ),
    (f"{HC}, backends: [{{name: a, address: '10.0.0.1:80', weight: »true}}]", "weight: must be a whole number"),
    (
        f"{BACKENDS}, health_check: {{type: »htpp}}",
        "type: 'htpp' is not one of http, tcp, sdk, radius; did you mean 'http'?",
    ),
    (f"{BACKENDS}, »health_check: {{path: /}}", "'type' is missing; write one of http, tcp, sdk, radius"),
    (
        f"{BACKENDS}, health_check: {{type: tcp, »path: /}}",
        "unknown key 'path'; accepted: type, interval, fast_interval, down_interval, timeout, rise, fall",
    ),
    (
        f"{BACKENDS}, health_check: {{type: http, »http: 1}}",
        f"unknown key 'http'; accepted: {HTTP_CHECK_KEYS}",
    ),
    (
        f"{BACKENDS}, health_check: {{type: radius, »timeout: 4s}}",
        "unknown key 'timeout'; accepted: type, fast, interval, rise, fall",
    ),
    (f"{BACKENDS}, health_check: {{type: radius, interval: »5999ms}}", f"interval: 5999ms {TOO_FAST}"),
    (f"{BACKENDS}, health_check: {{type: radius, fast: false, interval: »1s}}", f"interval: 1s {TOO_FAST}"),
    (f"{BACKENDS}, health_check: {{type: radius, interval: »1s, fast: false}}", f"interval: 1s {TOO_FAST}"),
    (
        f"{BACKENDS}, health_check: {{type: http, expect_status: [200, »99]}}",
        "expect_status: must be at least 100, not 99",
    ),
    (
        f"{BACKENDS}, {HC}, algorithm: »roundrobin",
        (
            "algorithm: 'roundrobin' is not one of round_robin, least_connections, power_of_two, hash; did you mean "
            "'round_robin'?"
        ),
    ),
    (f"{BACKENDS}, {HC}, panic_threshold: »0", "panic_threshold: must be more than 0.0, not 0"),
    (f"{BACKENDS}, {HC}, panic_threshold: »1.5", "panic_threshold: must be at most 1.0, not 1.5"),
    (f"{BACKENDS}, {HC}, panic_threshold: »50%", "panic_threshold: must be a number"),
    (f"{BACKENDS}, {HC}, slow_start: »30", "slow_start: 30 has no unit; write 500ms, 30s, 30m or 30h"),
    (
        f"{BACKENDS}, {HC}, algorithm: hash, »hash: {{}}",
        "'key' is missing; write one of source, path, user_name, calling_station_id, client, header, cookie, query",
    ),
    (
        f"{BACKENDS}, {HC}, algorithm: hash, hash: {{key: »sauce}}",
        (
            "key: 'sauce' is not one of source, path, user_name, calling_station_id, client, header, cookie, query; "
            "did you mean 'source'?"
        ),
    ),
    (
        f"{BACKENDS}, {HC}, algorithm: hash, »hash: {{key: header}}",
        "'name' is missing; accepted: name, key, load_factor",
    ),
    (
        f"{BACKENDS}, {HC}, algorithm: hash, hash: {{key: query, name: »a&b c}}",
        "name: 'a&b c' names no header, cookie or query parameter; use 1 to 64 letters, digits, '_' or '-'",
    ),
    (
        f"{BACKENDS}, {HC}, algorithm: hash, hash: {{key: source, load_factor: »1}}",
        "load_factor: must be at least 1.01, not 1",
    ),
    (
        f"{BACKENDS}, {HC}, algorithm: hash, hash: {{key: source, »name: x}}",
        "unknown key 'name'; accepted: key, load_factor",
    ),
    (
        f"{BACKENDS}, {HC}, »affinity: {{}}",
        (
            "'type' is missing; write one of none, cookie, transaction, transaction_id, radius_state, radius_session, "
            f"or preset: one of {PRESET_NAMES}"
        ),
    ),
    (f"{BACKENDS}, {HC}, upstream_tls: {{ca: »5}}", "ca: must be the path of a file"),
    (
        f"{BACKENDS}, {HC}, affinity: {{type: transaction, »cookie: x}}",
        (
            "unknown key 'cookie'; accepted: preset, type, id_element, request_id_element, result_element, "
            "user_element, body_limit, lifetime"
        ),
    ),
]


@pytest.mark.parametrize(("text", "message"), ROOT_MISTAKES)
def test_mistakes_at_the_top_level_are_pointed_at(folder: Folder, text: str, message: str) -> None:
    folder.expect(text, f"error: {message}")


@pytest.mark.parametrize(("listener", "message"), LISTENER_MISTAKES)
def test_mistakes_in_a_listener_are_pointed_at(folder: Folder, listener: str, message: str) -> None:
    folder.expect(f"{POOLS}listeners:\n  - {listener}\n", f"error: {message}")


@pytest.mark.parametrize(("pool", "message"), POOL_MISTAKES)
def test_mistakes_in_a_pool_are_pointed_at(folder: Folder, pool: str, message: str) -> None:
    folder.expect(f"{LISTENERS}pools:\n  web: {{{pool}}}\n", f"error: {message}")


def test_a_missing_key_of_a_named_table_is_pointed_at_by_the_table_s_name(folder: Folder) -> None:
    text = f"{LISTENERS}pools:\n  »web:\n    health_check: {{type: http}}\n"
    folder.expect(text, f"error: 'backends' is missing; accepted: {POOL_KEYS}")


def test_a_pool_s_name_is_checked_where_it_stands(folder: Folder) -> None:
    pools = POOLS.replace("  web:", "  »a b:")
    messages = [message for message in folder.findings(LISTENERS + pools.replace("»", "")) if "is no name" in message]
    assert [message.split(" error")[0] for message in messages] == ["4:3:"]


def test_a_session_cannot_idle_for_longer_than_it_lives(folder: Folder) -> None:
    folder.write("keys", "A" * 43 + "=\n")
    folder.expect(
        f"{LISTENERS}{POOLS}    affinity: »{{type: cookie, idle_timeout: 2h, max_life: 1h}}\n"
        "pins: {cookie_keys_file: keys}\n",
        "error: affinity: idle_timeout is longer than max_life; no session can be idle for longer than it lives",
    )


def test_every_problem_of_a_file_is_told_in_one_run(folder: Folder) -> None:
    text = """\
listeners:
  - {name: web, protocol: htp, bind: ["127.0.0.1:8080"], routes: [{pool: web}]}
  - {name: two, protocol: http, bind: ["127.0.0.1:8081"], routes: [{pool: wbe}]}
pools:
  web:
    backends: [{name: a, address: "10.0.0.1"}, {name: a, address: "10.0.0.1:80"}]
  other:
    backends: [{name: a, address: "10.0.0.1:80"}, {name: a, address: "10.0.0.2:80"}]
    helth_check: {type: http}
  third:
    backends: [{name: a, address: "10.0.0.1:80"}, {name: a, address: "10.0.0.2:80"}]
    health_check: {type: http}
log: {level: loud}
"""
    found = [
        [*finding.split(":", 4)[:2], finding.split("error: ")[1].split(":")[0]] for finding in folder.findings(text)
    ]
    assert found == [
        ["2", "27", "protocol"],
        ["3", "75", "pool"],
        ["6", "35", "address"],
        ["9", "5", "unknown key 'helth_check'; accepted"],
        ["11", "58", "name"],
        ["13", "14", "level"],
    ]
