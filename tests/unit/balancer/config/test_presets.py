import pytest
from unit.balancer.config.config_folder import LISTENERS, POOLS, Folder

from mfalb.balancer.config.models import Affinity, CookieAffinity, RadiusStateAffinity, TransactionAffinity
from mfalb.balancer.config.transaction_id_models import TransactionIdAffinity

KEY = "A" * 43 + "="


def affinity(folder: Folder, written: str) -> Affinity:
    folder.write("keys", KEY)
    listeners, pools = LISTENERS, POOLS
    if "radius" in written:
        folder.environment["SECRET"] = "s" * 16
        listeners = """\
listeners:
  - {name: r, protocol: radius, bind: ["127.0.0.1:1812"], pool: web,
     clients: [{name: c, network: 10.0.0.0/8, secret_env: SECRET}]}
"""
        pools = """\
pools:
  web:
    backends: [{name: a, address: "10.0.0.1:80", secret_env: SECRET}]
"""
    config, findings = folder.read(f"{listeners}{pools}    affinity: {written}\npins: {{cookie_keys_file: keys}}\n")
    assert config is not None, findings
    return config.pools["web"].affinity


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (
            "{preset: azure_mfa_sdk}",
            TransactionAffinity(
                type="transaction",
                id_element="authreqid",
                user_element="username",
                body_limit=65_536,
                lifetime_s=300.0,
            ),
        ),
        (
            "{preset: azure_mfa_mobile_app}",
            TransactionAffinity(
                type="transaction",
                id_element="ConfirmationCode",
                request_id_element="confirmationCode",
                user_element=None,
                body_limit=65_536,
                lifetime_s=600.0,
            ),
        ),
        (
            "{preset: azure_mfa_portal}",
            CookieAffinity(type="cookie", name="mfalb", path="/", idle_timeout_s=1800.0, max_life_s=43_200.0),
        ),
        (
            "{preset: privacyidea}",
            TransactionIdAffinity(
                type="transaction_id",
                answer_json=(
                    "/detail/transaction_id",
                    "/detail/transaction_ids/*",
                    "/detail/multi_challenge/*/transaction_id",
                ),
                request_path=("/validate/polltransaction/*", "/token/challenges/transaction/*"),
                request_json=("/transaction_id", "/state"),
                request_query=("transaction_id", "state"),
                request_form=("transaction_id", "state"),
                body_limit=65_536,
                lifetime_s=300.0,
            ),
        ),
        ("{preset: radius_challenge}", RadiusStateAffinity(type="radius_state", lifetime_s=300.0)),
    ],
)
def test_a_preset_stands_for_a_whole_table(folder: Folder, written: str, meant: Affinity) -> None:
    assert affinity(folder, written) == meant


def test_a_key_next_to_a_preset_wins_over_it(folder: Folder) -> None:
    read = affinity(folder, "{id_element: requestId, preset: azure_mfa_sdk, type: transaction}")
    assert isinstance(read, TransactionAffinity)
    assert (read.id_element, read.user_element) == ("requestId", "username")


NAMES = "azure_mfa_sdk, azure_mfa_mobile_app, azure_mfa_portal, privacyidea, radius_challenge"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{preset: »azure_mfa_skd}", f"preset: 'azure_mfa_skd' is not one of {NAMES}; did you mean 'azure_mfa_sdk'?"),
        ("{preset: »5}", f"preset: must be one of {NAMES}"),
        ("{preset: »[x]}", f"preset: must be one of {NAMES}"),
        (
            "{preset: azure_mfa_sdk, type: »cookie}",
            "type: preset azure_mfa_sdk is a transaction affinity; remove 'type' or 'preset'",
        ),
        (
            "{preset: azure_mfa_sdk, »lifetme: 5m}",
            (
                "unknown key 'lifetme'; accepted: preset, type, id_element, request_id_element, result_element, "
                "user_element, body_limit, lifetime; did you mean 'lifetime'?"
            ),
        ),
        (
            "{preset: azure_mfa_sdk, lifetime: »5}",
            "lifetime: 5 has no unit; write 500ms, 5s, 5m or 5h",
        ),
    ],
)
def test_a_mistake_in_a_preset_is_pointed_at(folder: Folder, written: str, message: str) -> None:
    folder.expect(f"{LISTENERS}{POOLS}    affinity: {written}\n", f"error: {message}")
