"""Promise: a RADIUS sign-in that begins at one node goes on well at another, through the store that they share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from programs.balancer import Balancer
from programs.certificates import CertificateFiles
from programs.challenge import begin_all, finish_all
from programs.eapol import EapTarget, Method, mac_of, sign_in, write_supplicant_config
from programs.freeradius import FreeRadius, TestUser
from programs.ports import LOOPBACK
from programs.process import wait_until
from programs.radclient import Target
from programs.radius_pool import radius_pool
from programs.redis import Redis, store_config
from programs.two_nodes import two_radius_nodes
from programs.udp_spreader import UdpSpreader

Servers = tuple[FreeRadius, FreeRadius]
USERS = [f"user{number}" for number in range(60)]
STATIONS = 12
EAP_WORKERS = 4


def has_library(balancer: Balancer) -> bool:
    """Whether a worker has loaded the store's library, part of which is no Python."""
    return any("libvalkey" in Path(f"/proc/{pid}/maps").read_text("utf-8") for pid in balancer.workers)


def test_sign_ins_begun_at_one_node_all_end_at_the_other(otp_servers: Servers, tmp_path: Path) -> None:
    with Redis(tmp_path) as redis, two_radius_nodes(otp_servers, tmp_path, store_config(redis)) as (one, two):
        there, back = begin_all(one.target, USERS), begin_all(two.target, USERS)
        outcomes = finish_all(two.target, there, seed=1), finish_all(one.target, back, seed=2)
        assert [outcome.accepted for outcome in outcomes] == [len(USERS)] * 2, f"{outcomes}"
        assert min(server.sign_ins() for server in otp_servers) >= len(USERS) // 5, "one server was hardly used"
        assert (one.operations("look_up", "found"), two.operations("look_up", "found")) == (len(USERS),) * 2
        assert one.operations("store", "stored") >= len(USERS)
        values = {"1 otp1", "1 otp2", "1 otp1 ended", "1 otp2 ended"}
        assert set(redis.pins().values()) <= values, "names of backends and ends, and nothing else"
        ended = 2 * len(USERS)
        wait_until(lambda: sum(value.endswith(" ended") for value in redis.pins().values()) == ended, "ends are told")
        assert has_library(one.balancer)


def test_without_the_store_about_half_of_them_fail(otp_servers: Servers, tmp_path: Path) -> None:
    """The proof that the test above can fail."""
    pools = [radius_pool(otp_servers, tmp_path / name) for name in ("a", "b")]
    one, two = (Balancer(pool.config, tmp_path / name) for pool, name in zip(pools, ("a", "b"), strict=True))
    with one, two:
        (to_one, to_two) = (Target(LOOPBACK, pool.port, pool.client_secret, parallel=8) for pool in pools)
        outcome = finish_all(to_two, begin_all(to_one, USERS), seed=1)
        assert not has_library(one), "who shares nothing loads nothing for it"
        assert "mfalb_pin_store" not in one.get("/metrics").decode()
    assert 0.2 <= outcome.accepted / len(USERS) <= 0.8, f"{outcome}"


@contextmanager
def one_node(servers: Servers, run_dir: Path, secrets: Sequence[str]) -> Iterator[list[Target]]:
    """The pins lie in memory that its workers share."""
    pool = radius_pool(servers, run_dir)
    config = {**pool.config, "workers": EAP_WORKERS}
    with Balancer(config, run_dir / "mfalb", secrets=(*pool.secrets, *secrets)):
        yield [Target(LOOPBACK, pool.port, pool.client_secret)]


@contextmanager
def two_nodes(servers: Servers, run_dir: Path, secrets: Sequence[str]) -> Iterator[list[Target]]:
    with Redis(run_dir) as redis:
        shared = {**store_config(redis), "workers": EAP_WORKERS}
        with two_radius_nodes(servers, run_dir, shared, secrets=secrets) as nodes:
            yield [node.target for node in nodes]


@pytest.mark.parametrize("nodes", [one_node, two_nodes])
def test_eap_goes_on_though_each_packet_comes_to_another_node_and_worker_from_another_port(
    eap_servers: Servers,
    certificate: CertificateFiles,
    tmp_path: Path,
    nodes: Callable[[Servers, Path, Sequence[str]], AbstractContextManager[list[Target]]],
) -> None:
    user, configs = TestUser(), {method: tmp_path / f"{method.name}.conf" for method in Method}
    for method, config in configs.items():
        write_supplicant_config(config, method, user, certificate)
    with (
        nodes(eap_servers, tmp_path, [user.password]) as targets,
        UdpSpreader([target.port for target in targets]) as spreader,
    ):
        target = EapTarget(LOOPBACK, spreader.port, targets[0].secret)
        stations = itertools.product(configs.values(), range(STATIONS))
        results = [sign_in(target, config, mac_of(number)) for config, number in stations]
    failed = [result for result in results if not result.is_perfect]
    assert not failed, f"{len(failed)} of {len(results)} failed; the first one:\n{failed[0]}\n{failed[0].log_tail}"
    assert sum(server.sign_ins() for server in eap_servers) == len(results)
    assert min(spreader.brought.values()) >= len(results) * 3, f"{spreader.brought}"
    assert min(server.sign_ins() for server in eap_servers) >= len(results) // 5, "one server was hardly used"


def test_a_pin_of_another_version_a_foreign_value_and_an_unknown_backend_are_passed_over_and_counted(
    otp_servers: Servers, tmp_path: Path
) -> None:
    odd = {"other_version": ["SET", "2 otp1 x"], "foreign": ["SET", "\x01\x02"], "unknown_backend": ["SET", "1 nobody"]}
    with Redis(tmp_path) as redis, two_radius_nodes(otp_servers, tmp_path, store_config(redis)) as (one, two):
        for reason, (verb, value) in odd.items():
            (begun,) = begin_all(one.target, [reason])
            for key in redis.pins():
                redis.command(verb, key, value, "PX", "60000")
            finish_all(two.target, [begun], seed=1)
            assert two.operations("look_up", reason) == 1, reason
            redis.command("FLUSHALL")
        (begun,) = begin_all(one.target, ["list"])
        for key in redis.pins():
            redis.command("DEL", key)
            redis.command("RPUSH", key, "1 otp1")
        finish_all(two.target, [begun], seed=1)
        assert two.operations("look_up", "foreign") == 2, "a value of another type is none of ours"
        assert two.is_store_up, "and no failure of the store"


def test_nodes_that_are_set_otherwise_are_told_of_by_both_sides_and_those_that_agree_are_not(
    otp_servers: Servers, tmp_path: Path
) -> None:
    with Redis(tmp_path) as redis, two_radius_nodes(otp_servers, tmp_path, store_config(redis)) as (one, two):
        assert two.differs("a") == 0, "the second one has seen the first"
        pool = radius_pool(otp_servers, tmp_path / "c", affinity={"type": "radius_state", "lifetime": "1m"})
        store = {**store_config(redis)["store"], "node": "c"}
        with Balancer({**pool.config, "pins": {"store": store}}, tmp_path / "c") as other:
            wait_until(lambda: "differing=pools.mfa.affinity" in other.log(), "the newcomer tells", deadline_s=20)
            assert other.metrics().total("mfalb_node_settings_differ") == 2
            wait_until(lambda: one.differs("c") == 1, "the others tell it, too", deadline_s=30)
            assert one.differs("b") == 0
            assert "node=c differing=pools.mfa.affinity" in one.balancer.log()
