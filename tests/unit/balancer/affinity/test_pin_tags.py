import pytest

from mfalb.balancer.affinity.pin_tags import pin_tags
from mfalb.balancer.affinity.radius_session import session_keys
from mfalb.balancer.affinity.radius_state import radius_state_key
from mfalb.balancer.affinity.store import TAG_BYTES
from mfalb.balancer.affinity.transaction import transaction_key
from mfalb.balancer.config.models import (
    Affinity,
    CookieAffinity,
    NoAffinity,
    RadiusStateAffinity,
    TransactionAffinity,
)
from mfalb.balancer.config.radius_models import RadiusSessionAffinity
from mfalb.wire.radius import Packet

RECORD = Packet(bytes(20), {})
KEYS = {
    "state": [radius_state_key("mfa", "vpn", b"alice", b"state")],
    "transaction": [transaction_key("mfa", "alice", "17")],
    "session": list(session_keys("mfa", "vpn", b"alice", RECORD, [b"class"])),
}


@pytest.mark.parametrize(
    ("affinity", "pool", "kind"),
    [
        (RadiusStateAffinity(type="radius_state"), "mfa", "state"),
        (TransactionAffinity(type="transaction"), "mfa", "transaction"),
        (RadiusSessionAffinity(type="radius_session", follows="mfa"), "records", "session"),
        (CookieAffinity(type="cookie"), "mfa", None),
        (NoAffinity(), "mfa", None),
    ],
)
def test_a_pool_s_tags_are_those_of_the_keys_that_bring_work_to_it(
    affinity: Affinity, pool: str, kind: str | None
) -> None:
    found = {key[-TAG_BYTES:] for one, keys in KEYS.items() if one == kind for key in keys}
    assert set(pin_tags(pool, affinity)) == found
