"""RADIUS listeners for accounting and dynamic authorization, their pools, and what follows what."""

import pytest
from unit.balancer.config.config_folder import Folder
from unit.balancer.config.radius_services import ACCT_POOL, ALL, NAS, replaced

from mfalb.balancer.config.models import Backend
from mfalb.balancer.config.radius_models import Nas
from mfalb.balancer.config.values import Address

USER_LIMIT = "    user_limit: {sign_ins: 5}\n"


@pytest.fixture(autouse=True)
def secret(folder: Folder) -> None:
    folder.environment["SECRET"] = "s" * 16


def test_the_text_that_the_cases_are_made_from_is_right(folder: Folder) -> None:
    assert folder.findings(ALL) == []


ERRORS = [
    (
        "    pool: acct\n",
        "    pool: »auth\n",
        "pool: 'auth' is there for authentication already; accounting has another port and needs a pool of its own",
    ),
    (
        "    pool: acct\n",
        f"    pool: acct\n    »{USER_LIMIT.strip()}\n",
        "user_limit: accounting begins no sign-ins that could be counted; remove it",
    ),
    (
        "    pool: nases\n",
        f"    pool: nases\n    »{USER_LIMIT.strip()}\n",
        "user_limit: dynamic_authorization begins no sign-ins that could be counted; remove it",
    ),
    (
        "    pool: acct\n",
        "    pool: acct\n    »follows: auth\n",
        (
            "follows: on a listener this is for dynamic_authorization; accounting follows by its pool's affinity: "
            "{type: radius_session, follows: ...}"
        ),
    ),
    ("    follows: auth\n", "    follows: »atuh\n", "follows: there is no pool 'atuh'; did you mean 'auth'?"),
    ("    follows: auth\n", "    follows: »acct\n", "follows: no listener for authentication leads to pool 'acct'"),
    ("session, follows: auth}", "session, follows: »atuh}", "follows: there is no pool 'atuh'; did you mean 'auth'?"),
    (
        "session, follows: auth}",
        "session, follows: »nases}",
        "follows: no listener for authentication leads to pool 'nases'",
    ),
    (
        'name: mfa1, address: "10.0.1.11:1813"',
        'name: acct1, address: "10.0.1.11:1813"',
        ("follows: pools 'acct' and 'auth' have no backend in common; servers are the same when their names are: mfa1"),
    ),
    (
        "{type: radius_session, follows: auth}",
        "{type: »radius_state}",
        "affinity: pool 'acct' takes RADIUS accounting, which has no radius_state affinity; write type: radius_session",
    ),
    (
        "{preset: radius_challenge}",
        "{type: »radius_session, follows: auth}",
        (
            "affinity: pool 'auth' takes RADIUS authentication, which has no radius_session affinity; write type: "
            "radius_state"
        ),
    ),
    (
        f"{NAS}]\n",
        f"{NAS}]\n    affinity: {{type: »radius_state}}\n",
        (
            "affinity: pool 'nases' takes RADIUS dynamic_authorization, which has no radius_state affinity; a request "
            "names its NAS, so remove it"
        ),
    ),
    (
        NAS,
        '»{name: vpn, address: "vpn.contoso.com:3799", secret_env: SECRET}',
        (
            "backend 'vpn': a request cannot name it by the host 'vpn.contoso.com'; write nas: {addresses: [...]} or "
            "nas: {identifiers: [...]}"
        ),
    ),
    (
        NAS,
        '»{name: vpn, address: "10.0.5.1:3799", secret_env: SECRET, nas: {addresses: []}}',
        (
            "backend 'vpn': a request cannot name it by the host '10.0.5.1'; write nas: {addresses: [...]} or nas: "
            "{identifiers: [...]}"
        ),
    ),
    (
        NAS,
        '{name: vpn, address: "10.0.5.1:3799", secret_env: SECRET, »weight: 2}',
        "weight: a request names its NAS, and nothing is balanced; remove it",
    ),
    (
        NAS,
        '{name: vpn, address: "10.0.5.1:3799", secret_env: SECRET, nas: {addresses: [»10.0.5.0/24]}}',
        "addresses: '10.0.5.0/24' is no IP address; write one without a port or prefix length",
    ),
    (
        'address: "10.0.1.11:1813", secret_env: SECRET}',
        'address: "10.0.1.11:1813", secret_env: SECRET, »nas: {identifiers: [x]}}',
        "nas: this is for pools that a listener with service: dynamic_authorization leads to; remove it",
    ),
    (
        'address: "10.0.1.11:1812"',
        'address: »"127.0.0.1:1812"',
        (
            "address: '127.0.0.1:1812' is where listener 'auth' itself is bound (line 4): its requests would come back "
            "to it; write the server's"
        ),
    ),
    (
        "{name: vpn, network: 10.0.5.0/24, secret_env: SECRET}]\n    pool: auth",
        "{name: vpn, network: »'::ffff:10.0.0.0/104', secret_env: SECRET}]\n    pool: auth",
        (
            "network: nobody comes from '::ffff:a00:0/104': IPv4 clients are known by their IPv4 addresses; write "
            "10.0.0.0/8"
        ),
    ),
]


@pytest.mark.parametrize(
    ("bind", "address", "is_own"),
    [
        ("0.0.0.0:1812", "127.0.0.1:1812", True),
        ("0.0.0.0:1812", "127.0.0.2:1812", True),
        ("[::]:1812", "[::1]:1812", True),
        ("[::1]:1812", "[0::1]:1812", True),
        ("mfa.contoso.com:1812", "MFA.contoso.com:1812", True),
        ("0.0.0.0:1812", "10.0.1.11:1812", False),  # ours or not: the file does not say
        ("0.0.0.0:1812", "[::1]:1812", False),
        ("127.0.0.1:1812", "127.0.0.1:1645", False),
        ("127.0.0.1:1812", "127.0.0.2:1812", False),
        ("127.0.0.1:1812", "mfa.contoso.com:1812", False),
    ],
)
def test_a_backend_is_not_the_listener_itself(folder: Folder, bind: str, address: str, *, is_own: bool) -> None:
    text = replaced(replaced(ALL, "127.0.0.1:1812", bind), "10.0.1.11:1812", address)
    found = [finding for finding in folder.findings(text) if "itself is bound" in finding]
    assert len(found) == is_own


def test_a_server_over_tls_may_have_the_port_of_a_listener_over_udp(folder: Folder) -> None:
    tls = "upstream_tls: {ca: ca.pem, verify: true}\n    affinity: {preset: radius_challenge}"
    text = replaced(replaced(ALL, "10.0.1.11:1812", "127.0.0.1:1812"), "affinity: {preset: radius_challenge}", tls)
    assert not [finding for finding in folder.findings(text) if "itself is bound" in finding]


@pytest.mark.parametrize(("old", "new", "message"), ERRORS)
def test_what_does_not_fit_is_an_error_at_its_place(folder: Folder, old: str, new: str, message: str) -> None:
    text = replaced(ALL, old, new)
    if "»" not in text:  # the fault is between two places, and told at the one that names the other
        text = replaced(text, "session, follows: auth}", "session, follows: »auth}")
    config, findings = folder.read(text.replace("»", ""))
    line = text[: text.index("»")].count("\n") + 1
    column = text.index("»") - text.rfind("\n", 0, text.index("»"))
    assert f"{line}:{column}: error: {message}" in findings
    assert config is None


NO_MFA9 = '{name: mfa9, address: "10.0.1.19:1813", secret_env: SECRET}'
MFA2 = '{name: mfa2, address: "10.0.1.12:1812", secret_env: SECRET, require_message_authenticator: true}'
VPN2 = '»{name: vpn2, address: "10.0.5.2:3799", secret_env: SECRET, nas: {identifiers: [gate]}}'
WARNINGS = [
    (
        replaced(
            replaced(ALL, "session, follows: auth}", "session, follows: »auth}"),
            'backends: [{name: mfa1, address: "10.0.1.11:1812"',
            f'backends: [{MFA2}, {{name: mfa1, address: "10.0.1.11:1812"',
        ),
        "follows: pool 'acct' has no backend mfa2: accounting of the sessions begun there is balanced",
    ),
    (
        replaced(ALL, "clients: [{name: mfa1,", "clients: [{name: »mfa7,"),
        "name: pool 'auth' has no backend 'mfa7', so what it asks for ties nothing to it; its backends are mfa1",
    ),
    (
        replaced(replaced(ALL, "    follows: auth\n", ""), NAS, f"{NAS[:-1]}, nas: {{identifiers: [gate]}}}}, {VPN2}"),
        "backend 'vpn2': 'gate' names 'vpn' as well; a request that says no more than that is refused",
    ),
]


@pytest.mark.parametrize(("marked", "message"), WARNINGS)
def test_what_will_hardly_do_what_is_meant_is_a_warning(folder: Folder, marked: str, message: str) -> None:
    folder.expect(marked, f"warning: {message}")


def test_an_accounting_server_that_lets_nobody_in_is_not_commented_on(folder: Folder) -> None:
    more = ACCT_POOL.replace("backends: [", f"backends: [{NO_MFA9}, ")
    assert folder.findings(replaced(ALL, ACCT_POOL, more)) == []


def test_a_listener_is_for_authentication_unless_it_says_otherwise(folder: Folder) -> None:
    marked = replaced(ALL, "    service: accounting\n", "    service: »acounting\n")
    findings = folder.findings(marked.replace("»", ""))
    assert findings[0].endswith(
        "error: service: 'acounting' is not one of authentication, accounting, dynamic_authorization; did you mean "
        "'accounting'?"
    )


@pytest.mark.parametrize(
    ("host", "nas", "identifiers", "addresses"),
    [
        ("10.0.5.1", None, (), ["10.0.5.1"]),
        ("2001:db8::1", Nas(identifiers=("gate",)), ("gate",), ["2001:db8::1"]),
        ("vpn.contoso.com", Nas(identifiers=("gate",)), ("gate",), []),
        ("10.0.5.1", Nas.model_validate({"addresses": ["192.0.2.1", "2001:db8::1"]}), (), ["192.0.2.1", "2001:db8::1"]),
    ],
)
def test_a_nas_is_known_by_its_host_unless_its_addresses_are_written(
    host: str, nas: Nas | None, identifiers: tuple[str, ...], addresses: list[str]
) -> None:
    backend = Backend(name="vpn", address=Address(host, 3799), nas=nas)
    assert backend.nas_identifiers == identifiers
    assert [str(address) for address in backend.nas_addresses] == addresses
