"""Settings that work, but not as their author wants: always a warning, never an error."""

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
WEB = LISTENERS + POOLS
SLOW = "is less than people need to answer a call or type a code; write at least 1m"
NO_CHECK = "has no health check: a dead server is noticed by failing sign-ins only; write health_check: {type:"


@pytest.fixture(autouse=True)
def secrets(folder: Folder) -> None:
    folder.environment["SECRET"] = "s" * 16
    folder.write("keys", "A" * 43 + "=")


def replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"{old!r} is not in the text exactly once"
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("marked", "message"),
    [
        (
            WEB + "    affinity: {preset: azure_mfa_sdk}\n    response_timeout: »59s\n",
            f"response_timeout: 59s {SLOW}",
        ),
        (
            WEB + "    affinity: {preset: privacyidea}\n    response_timeout: »59s\n",
            f"response_timeout: 59s {SLOW}",
        ),
        (
            WEB + "    affinity: {preset: privacyidea, lifetime: »30s}\n",
            (
                "lifetime: after 30s nobody knows which server asked for a code, and people need longer to type one; "
                "write at least 1m"
            ),
        ),
        (
            WEB + "    affinity: {preset: privacyidea}\n    retries: {idempotent: »true}\n",
            "idempotent: where a sign-in may be a GET, one that is sent again can text or ring twice; write false",
        ),
        (RADIUS + "    response_timeout: »500ms\n", f"response_timeout: 500ms {SLOW}"),
        (
            replaced(WEB, "{pool: web}", "{path: /MultiFactorAuthWebServiceSdk, pool: »web}"),
            (
                "pool: callers of the Web Service SDK send a code in two requests, so none affinity loses one-way SMS "
                "sign-ins; give pool 'web' affinity: {preset: azure_mfa_sdk}"
            ),
        ),
        (
            replaced(WEB, "{pool: web}", "{path: /phonefactorwebservicesdk/PfWsSdk.asmx, pool: »web}")
            + "    affinity: {type: cookie}\npins: {cookie_keys_file: keys}\n",
            (
                "pool: callers of the Web Service SDK keep no cookies, so cookie affinity loses one-way SMS sign-ins; "
                "give pool 'web' affinity: {preset: azure_mfa_sdk}"
            ),
        ),
        (
            replaced(replaced(WEB, "    health_check: {type: http}\n", ""), "  web:\n", "  »web:\n"),
            f"pool 'web' {NO_CHECK} http}}",
        ),
        (
            replaced(replaced(RADIUS, "    health_check: {type: radius}\n", ""), "  r:\n", "  »r:\n"),
            f"pool 'r' {NO_CHECK} radius}}",
        ),
        (
            replaced(RADIUS, "    health_check: {type: radius}", "    »health_check: {type: tcp}"),
            "pool 'r' takes RADIUS over UDP, of which a tcp check says nothing; write radius",
        ),
        (
            replaced(RADIUS, "{type: radius}", "{type: radius, interval: 500ms, fast: »true}"),
            (
                "fast: a server that is silent for 500ms counts as dead; RFC 3539 section 3.4.1 wants 6s at least, so "
                "keep this to laboratories and tests"
            ),
        ),
        (
            WEB + "    upstream_tls: {verify: »false}\n",
            "verify: anyone on the way can pose as the server and read passwords; write true and name its 'ca'",
        ),
        (
            WEB + "admin: {bind: »'0.0.0.0:9300'}\n",
            "bind: status and metrics have no authentication; bind them to 127.0.0.1 or keep others out by firewall",
        ),
        (
            WEB + "admin: {bind: »'lb.contoso.com:9300'}\n",
            "bind: status and metrics have no authentication; bind them to 127.0.0.1 or keep others out by firewall",
        ),
    ],
)
def test_an_unwise_setting_is_a_warning(folder: Folder, marked: str, message: str) -> None:
    folder.expect(marked, f"warning: {message}")
    config, _ = folder.read(marked.replace("»", ""))
    assert config is not None


@pytest.mark.parametrize(
    "text",
    [
        WEB + "    response_timeout: 5s\n",
        RADIUS,
        replaced(RADIUS, "{type: radius}", "{type: radius, interval: 6s, fast: false}"),
        WEB + "    affinity: {preset: azure_mfa_sdk}\n    response_timeout: 60s\n",
        WEB + "    affinity: {preset: privacyidea}\n",
        WEB
        + "    affinity: {preset: privacyidea, request_query: [], request_path: []}\n    retries: {idempotent: true}\n",
        WEB + "    upstream_tls: {verify: true}\n",
        WEB + "admin: {bind: '[::1]:9300'}\n",
        WEB + "admin: {bind: 'localhost:9300'}\n",
        replaced(WEB, "{pool: web}", "{path: /MultiFactorAuthWebServiceSdk, pool: web}")
        + "    affinity: {preset: azure_mfa_sdk}\n",
    ],
)
def test_a_wise_setting_is_not_commented_on(folder: Folder, text: str) -> None:
    assert folder.findings(text) == []
