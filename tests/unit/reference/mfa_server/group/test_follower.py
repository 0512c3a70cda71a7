from __future__ import annotations

import pytest

from mfalb.reference.mfa_server.group.follower import Lag, PeerTls


@pytest.mark.parametrize(
    ("level_at", "now", "seconds"),
    [(None, 100.0, None), (100.0, 100.5, 0.0), (100.0, 101.0, 0.0), (100.0, 110.0, 9.0)],
)
def test_lag_is_the_time_since_all_was_there_less_what_a_heartbeat_takes(
    level_at: float | None, now: float, seconds: float | None
) -> None:
    assert Lag(level_at=level_at).seconds(now) == seconds


def test_a_private_key_is_not_shown() -> None:
    assert "private" not in repr(PeerTls(b"ca", b"private", b"chain"))
