from mfalb.balancer.affinity.radius_state import radius_state_key


def test_a_challenge_is_known_by_pool_client_user_and_state_together() -> None:
    keys = {
        radius_state_key(pool, client, user, state)
        for pool in ("mfa", "vpn")
        for client in ("nas1", "nas2")
        for user in (b"alice", b"bob", b"")
        for state in (b"SMS", b"SMSx", b"")
    }
    assert len(keys) == 2 * 2 * 3 * 3
    assert radius_state_key("mfa", "nas1", b"alice", b"SMS") in keys
