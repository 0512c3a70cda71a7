"""RADIUS settings that work, but not as their author wants: always a warning, never an error."""

from __future__ import annotations

import pytest
from unit.balancer.config.config_folder import Folder
from unit.balancer.config.radius_services import ACCOUNTING, ACCT_POOL, ALL, DYNAMIC, NAS

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
CLIENT = "{name: c, network: 10.0.0.0/8, secret_env: SECRET}"
BACKEND = 'name: a, address: "10.0.0.1:1812", secret_env: SECRET'
FORGED = "answers can be forged without it (CVE-2024-3596)"


@pytest.fixture(autouse=True)
def secrets(folder: Folder) -> None:
    folder.environment["SECRET"] = "s" * 16
    folder.environment["OTHER"] = "o" * 16


def replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"{old!r} is not in the text exactly once"
    return text.replace(old, new)


def clients(*entries: str) -> str:
    """The configuration with these clients, each written as the inside of its braces."""
    return replaced(RADIUS, f"[{CLIENT}]", f"[{', '.join(f'{{{entry}}}' for entry in entries)}]")


def listener(line: str) -> str:
    """The configuration with one more setting of the listener."""
    return replaced(RADIUS, "    pool: r\n", f"    pool: r\n    {line}\n")


def without_pins(text: str) -> str:
    return replaced(text, "affinity: {preset: radius_challenge}", "affinity: {type: none}")


def test_the_text_that_the_cases_are_made_from_is_right(folder: Folder) -> None:
    assert folder.findings(RADIUS) == []


C = "name: c, network: 10.0.0.0/8, secret_env: SECRET"


@pytest.mark.parametrize(
    ("marked", "message"),
    [
        (
            replaced(replaced(RADIUS, "    affinity: {preset: radius_challenge}\n", ""), "  r:\n", "  »r:\n"),
            (
                "pool 'r' takes RADIUS without radius_state affinity: a one-time password may reach a server that did "
                "not ask for it; write affinity: {preset: radius_challenge}"
            ),
        ),
        (clients(f"{C}, require_message_authenticator: »false"), f"require_message_authenticator: {FORGED}"),
        (
            clients(f"{C}, require_message_authenticator: »false, limit_proxy_state: false"),
            (
                "require_message_authenticator: with limit_proxy_state false as well nothing is in the way of the "
                "attack as it was published: whoever is between can turn a Reject into an Accept (CVE-2024-3596); "
                "write true for one of the two"
            ),
        ),
        (
            clients(f"{C}, send_message_authenticator: »false"),
            (
                "send_message_authenticator: whoever is between can turn a Reject to this client into an Accept "
                "(CVE-2024-3596); write false only for a device that chokes on it"
            ),
        ),
        (
            replaced(
                RADIUS,
                f"backends: [{{{BACKEND}, require_message_authenticator: true}}]",
                f"»backends: [{{{BACKEND}}}]",
            ),
            f"backends a need not sign: {FORGED}; write require_message_authenticator: true where the server can",
        ),
        (
            listener("user_limit: {sign_ins: »1}"),
            "sign_ins: who mistypes a password once is refused for 1m; write at least 2",
        ),
        (
            listener("user_limit: {sign_ins: 5, window: »9s}"),
            "window: 9s is forgotten before the phone has stopped ringing; write at least 10s",
        ),
        (
            listener("user_limit: {sign_ins: 5, window: »90m}"),
            "window: whoever knows a user's name can keep that user out for 90m; write at most 1h",
        ),
        (
            clients(C, "name: d, network: »10.0.0.1, secret_env: SECRET"),
            (
                "network: '10.0.0.1' is backend 'a' of pool 'r', too: what it passes back here is dropped as a loop; "
                "keep it a client only if it passes nothing on"
            ),
        ),
        (
            replaced(RADIUS, "affinity: {preset: radius_challenge}", "affinity: {type: radius_state, lifetime: »59s}"),
            (
                "lifetime: after 59s nobody knows which server asked for a code, and people need longer to type one; "
                "write at least 1m"
            ),
        ),
        (
            listener("in_flight_limit: »255"),
            "in_flight_limit: 255 people who look for their phones keep all others out; write at least 256",
        ),
        (
            clients("name: c, network: »0.0.0.0/0, secret_env: SECRET"),
            (
                "network: '0.0.0.0/0' is everybody: whoever learns this one secret may ask, and can guess passwords; "
                "write the networks of your NASes"
            ),
        ),
        (
            clients("name: c, network: »'::/0', secret_env: SECRET"),
            (
                "network: '::/0' is everybody: whoever learns this one secret may ask, and can guess passwords; "
                "write the networks of your NASes"
            ),
        ),
    ],
)
def test_an_unwise_radius_setting_is_a_warning_where_it_stands(folder: Folder, marked: str, message: str) -> None:
    folder.expect(marked, f"warning: {message}")
    config, _ = folder.read(marked.replace("»", ""))
    assert config is not None


TO_30_S = "to 30s (RFC 5080 section 2.2.2)"


@pytest.mark.parametrize(
    ("cache", "message"),
    [
        (
            "4900ms",
            f"4900ms: a client that asks again after that makes the phone ring again; write 5s {TO_30_S}",
        ),
        (
            "31s",
            f"31s: no client asks again after so long a time, and each answer takes memory; write 5s {TO_30_S}",
        ),
        (
            "9s",
            f"9s: NPS with the MFA extension drops what it takes for a duplicate for 10s; write 10s {TO_30_S}",
        ),
    ],
)
def test_c4_a_stored_answer_is_kept_for_5_to_30_seconds_and_for_10_where_people_are_called(
    folder: Folder, cache: str, message: str
) -> None:
    folder.expect(listener(f"answer_cache: »{cache}"), f"warning: answer_cache: {message}")


@pytest.mark.parametrize("cache", ["10s", "15s", "30s"])
def test_c4_times_that_the_rfc_names_are_not_commented_on(folder: Folder, cache: str) -> None:
    assert folder.findings(listener(f"answer_cache: {cache}")) == []


def test_c4_without_pins_five_seconds_are_enough(folder: Folder) -> None:
    findings = folder.findings(without_pins(listener("answer_cache: 5s")))
    assert not [finding for finding in findings if "answer_cache" in finding]


# ------------------------------------------------------------------------------------------ nested networks


@pytest.mark.parametrize(
    ("inside", "others"),
    [
        ("secret_env: OTHER", "secret"),
        ("secret_env: SECRET, limit_proxy_state: false", "limit_proxy_state"),
        ("secret_env: OTHER, limit_proxy_state: false", "secret and another limit_proxy_state"),
        ("secret_env: SECRET, rate_limit: 5", "rate_limit"),
    ],
)
def test_a_network_inside_another_with_other_settings_is_a_warning_that_names_both(
    folder: Folder, inside: str, others: str
) -> None:
    folder.expect(
        clients(C, f"name: d, network: »10.1.0.0/16, {inside}"),
        "warning: network: '10.1.0.0/16' of client 'd' lies in '10.0.0.0/8' of client 'c' on line 5 and has another "
        f"{others}; in it 'd' counts",
    )


def test_the_closest_network_around_is_the_one_that_is_named(folder: Folder) -> None:
    text = clients(
        "name: inner, network: 10.1.2.0/24, secret_env: OTHER",
        C,
        "name: middle, network: 10.1.0.0/16, secret_env: SECRET",
    )
    (finding,) = folder.findings(text)
    assert "'10.1.2.0/24' of client 'inner' lies in '10.1.0.0/16' of client 'middle'" in finding


def test_a_host_inside_a_network_is_nested_as_well_and_so_is_all_of_ipv6(folder: Folder) -> None:
    text = clients(
        C,
        "name: host, network: 10.9.9.9, secret_env: OTHER",
        "name: all6, network: '2000::/3', secret_env: SECRET",
        "name: site6, network: '2001:db8::/32', secret_env: OTHER",
    )
    findings = folder.findings(text)
    assert ["'host' lies in '10.0.0.0/8'" in findings[0], "'site6' lies in '2000::/3'" in findings[1]] == [True, True]
    assert len(findings) == 2


@pytest.mark.parametrize(
    "text",
    [
        clients(C, "name: d, network: 10.1.0.0/16, secret_env: SECRET"),
        clients(C, "name: d, network: 11.0.0.0/8, secret_env: OTHER"),
        clients(C, "name: d, network: 'a00::/8', secret_env: OTHER"),  # the same bits, another family
        listener("user_limit: {sign_ins: 2, window: 10s}"),
        listener("user_limit: {sign_ins: 10, window: 1h}"),
        clients(C, "name: d, network: 10.0.0.2, secret_env: SECRET"),
        replaced(RADIUS, '"10.0.0.1:1812"', '"mfa1.contoso.com:1812"'),
        replaced(clients(C, "name: d, network: 127.0.0.1, secret_env: SECRET"), '"10.0.0.1:1812"', '"127.0.0.1:1813"'),
        replaced(RADIUS, "affinity: {preset: radius_challenge}", "affinity: {type: radius_state, lifetime: 60s}"),
        listener("in_flight_limit: 256"),
        clients("name: c, network: 0.0.0.0/1, secret_env: SECRET", "name: d, network: '8000::/1', secret_env: SECRET"),
    ],
)
def test_a_wise_radius_setting_is_not_commented_on(folder: Folder, text: str) -> None:
    assert folder.findings(text) == []


def test_a_limit_by_user_without_pins_counts_each_round_of_a_sign_in(folder: Folder) -> None:
    text = without_pins(replaced(RADIUS, "    pool: r\n", "    pool: r\n    »user_limit: {sign_ins: 5}\n"))
    (pinless,) = folder.findings(without_pins(RADIUS))
    limit, other = folder.findings(text.replace("»", ""))
    assert limit == (
        "7:5: warning: user_limit: pool 'r' has no radius_state affinity, so each round of EAP and each code typed "
        "counts as a sign-in; write affinity: {preset: radius_challenge} there"
    )
    assert other.split(":", 2)[2] == pinless.split(":", 2)[2]


def test_a_network_of_another_listener_is_not_in_the_way(folder: Folder) -> None:
    second = (
        "  - {name: s, protocol: radius, bind: ['127.0.0.1:1645'], pool: r, "
        "clients: [{name: d, network: 10.1.0.0/16, secret_env: OTHER}]}\n"
    )
    assert folder.findings(replaced(RADIUS, "pools:\n", f"{second}pools:\n")) == []


def test_no_warning_shows_a_secret(folder: Folder) -> None:
    text = clients(C, "name: d, network: 10.0.0.1, secret_env: OTHER, require_message_authenticator: false")
    findings = "\n".join(folder.findings(text))
    assert findings
    assert "s" * 16 not in findings
    assert "o" * 16 not in findings


# -------------------------------------------------------------- accounting and dynamic authorization


def test_three_services_that_fit_together_are_not_commented_on(folder: Folder) -> None:
    assert folder.findings(ALL) == []


def test_accounting_is_not_measured_by_what_people_need(folder: Folder) -> None:
    """No person is waited for, and requests are authenticated by their content: none of the warnings for sign-ins."""
    patience = replaced(ALL, "session, follows: auth}\n", "session, follows: auth}\n    response_timeout: 5s\n")
    assert folder.findings(patience) == []
    assert folder.findings(replaced(ALL, "    affinity: {type: radius_session, follows: auth}\n", "")) == []


NO_EFFECT = "this is for authentication and has no effect here; remove it"
SAME_NAME = "so nothing follows its sessions; give a NAS the same name everywhere: vpn"


@pytest.mark.parametrize(
    ("marked", "message"),
    [
        (
            replaced(ALL, ACCOUNTING, ACCOUNTING.replace("SECRET}", "SECRET, »require_message_authenticator: true}")),
            f"require_message_authenticator: {NO_EFFECT}",
        ),
        (
            replaced(ALL, DYNAMIC, DYNAMIC.replace("SECRET}", "SECRET, »limit_proxy_state: false}")),
            f"limit_proxy_state: {NO_EFFECT}",
        ),
        (
            replaced(ALL, ACCT_POOL, ACCT_POOL.replace("SECRET}", "SECRET, »limit_proxy_state: true}")),
            f"limit_proxy_state: {NO_EFFECT}",
        ),
        (
            replaced(ALL, NAS, NAS.replace("SECRET}", "SECRET, »require_message_authenticator: true}")),
            f"require_message_authenticator: {NO_EFFECT}",
        ),
        (
            replaced(ALL, ACCOUNTING, ACCOUNTING.replace("{name: vpn,", "{name: »vpn-acct,")),
            f"name: no client 'vpn-acct' signs in at pool 'auth', {SAME_NAME}",
        ),
        (
            replaced(ALL, NAS, NAS.replace("name: vpn,", "name: »gate,")),
            f"name: no client 'gate' signs in at pool 'auth', {SAME_NAME}",
        ),
        (
            replaced(
                replaced(ALL, ACCT_POOL, ACCT_POOL.replace("    health_check: {type: radius}\n", "")),
                "  acct:\n",
                "  »acct:\n",
            ),
            (
                "pool 'acct' has no health check: a dead server is noticed by lost records only; write health_check: "
                "{type: radius}"
            ),
        ),
    ],
)
def test_an_unwise_setting_of_accounting_or_dynamic_authorization_is_a_warning(
    folder: Folder, marked: str, message: str
) -> None:
    folder.expect(marked, f"warning: {message}")
