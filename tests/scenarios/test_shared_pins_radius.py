"""Promise: a RADIUS sign-in that begins at one node ends well at another, through the store that they share."""

from __future__ import annotations

from pathlib import Path

from programs.challenge import begin_all, finish_all
from programs.freeradius import FreeRadius
from programs.redis import Redis, store_config
from programs.two_nodes import two_radius_nodes

Servers = tuple[FreeRadius, FreeRadius]
USERS = [f"user{number}" for number in range(60)]


def test_sign_ins_begun_at_one_node_all_end_at_the_other(otp_servers: Servers, tmp_path: Path) -> None:
    with Redis(tmp_path) as redis, two_radius_nodes(otp_servers, tmp_path, store_config(redis)) as (one, two):
        begun = begin_all(one.target, USERS)
        outcome = finish_all(two.target, begun, seed=1)
        assert outcome.accepted == len(USERS), f"{outcome}"
        assert min(server.sign_ins() for server in otp_servers) >= len(USERS) // 5, "one server was hardly used"
        assert two.operations("look_up", "found") == len(USERS)
        assert one.operations("store", "stored") >= len(USERS)
        assert set(redis.pins().values()) == {"1 otp1", "1 otp2"}, "names of backends, and nothing else"
