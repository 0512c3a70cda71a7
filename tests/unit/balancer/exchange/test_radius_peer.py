from __future__ import annotations

from mfalb.balancer.exchange.radius_peer import RadiusPeer, Secrets


def test_equal_secrets_are_one_object_and_different_ones_are_not() -> None:
    secrets = Secrets()
    one, same, other = secrets.of(b"one secret"), secrets.of(bytes(bytearray(b"one secret"))), secrets.of(b"another")
    assert one is same
    assert one is not other
    assert (one.value, other.value) == (b"one secret", b"another")


def test_a_peer_shows_nothing_of_its_secret() -> None:
    peer = RadiusPeer("vpn", Secrets().of(b"throw-away-secret"), requires_message_authenticator=True)
    assert "throw-away" not in repr(peer)


def test_each_peer_has_counts_of_its_own() -> None:
    secret = Secrets().of(b"one secret")
    one, other = (RadiusPeer(name, secret, requires_message_authenticator=True) for name in ("vpn", "wifi"))
    one.drops["loop"] += 1
    assert (one.drops["loop"], other.drops["loop"]) == (1, 0)
