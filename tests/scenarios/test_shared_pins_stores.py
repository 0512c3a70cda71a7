"""Promise: the pin store may want a password, speak TLS, be found by Sentinels, or be a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from programs.balancer import write_secret
from programs.certificates import CertificateFiles, make_certificate
from programs.challenge import begin_all, finish_all
from programs.freeradius import FreeRadius
from programs.process import wait_until
from programs.redis import (
    PASSWORD,
    Redis,
    authenticated,
    cluster_of_three,
    over_tls,
    store_config,
    watched_by_sentinels,
)
from programs.two_nodes import Node, radius_node, two_radius_nodes

Servers = tuple[FreeRadius, FreeRadius]
USERS = [f"user{number}" for number in range(20)]


def assert_sign_ins_meet(one: Node, two: Node) -> None:
    outcome = finish_all(two.target, begin_all(one.target, USERS), seed=1)
    assert outcome.accepted == len(USERS), f"{outcome}"
    assert two.operations("look_up", "found") >= len(USERS)


def failures(node: Node, reason: str) -> float:
    return node.balancer.metrics().total("mfalb_pin_store_failures_total", reason=reason)


def test_with_a_password_it_serves_and_with_a_wrong_one_the_node_serves_alone_and_says_why(
    otp_servers: Servers, tmp_path: Path
) -> None:
    with authenticated(tmp_path) as redis:
        right = store_config(redis, password_file=write_secret(tmp_path / "store", "right", PASSWORD))
        with two_radius_nodes(otp_servers, tmp_path, right, secrets=[PASSWORD]) as nodes:
            assert_sign_ins_meet(*nodes)
        wrong = store_config(redis, password_file=write_secret(tmp_path / "store", "wrong", "not-" + PASSWORD))
        for name, pins in (("wrong", wrong), ("none", store_config(redis))):
            with radius_node(name, otp_servers, tmp_path, pins, secrets=[PASSWORD]) as node:
                wait_until(lambda log=node.balancer.log: "pin store is away" in log(), "told")  # type: ignore[misc]
                assert "reason=not_authenticated" in node.balancer.log()
                outcome = finish_all(node.target, begin_all(node.target, USERS), seed=2)
                assert outcome.accepted == len(USERS)
                assert failures(node, "not_authenticated") >= 1


def test_over_tls_with_our_certificate_and_not_to_one_of_another_name(
    otp_servers: Servers, certificate: CertificateFiles, tmp_path: Path
) -> None:
    ours = {"ca": str(certificate.ca), "cert": str(certificate.cert), "key": str(certificate.key)}
    with over_tls(tmp_path, certificate) as redis:
        for name, tls in (("host", ours), ("named", {**ours, "server_name": "radius.example.test"})):
            with two_radius_nodes(otp_servers, tmp_path / name, store_config(redis, tls=tls)) as nodes:
                assert_sign_ins_meet(*nodes)
        stranger = make_certificate(tmp_path / "stranger", "127.0.0.1")
        for name, tls in (
            ("other-name", {**ours, "server_name": "other.example.test"}),
            ("other-ca", {**ours, "ca": str(stranger.ca)}),
        ):
            with radius_node(name, otp_servers, tmp_path, store_config(redis, tls=tls)) as node:
                wait_until(lambda log=node.balancer.log: "pin store is away" in log(), "told")  # type: ignore[misc]
                assert "reason=tls" in node.balancer.log()
                assert not node.is_store_up


def test_when_sentinels_make_the_replica_master_the_nodes_follow_and_old_pins_are_there(
    otp_servers: Servers, tmp_path: Path
) -> None:
    with watched_by_sentinels(tmp_path) as watched, two_radius_nodes(otp_servers, tmp_path, watched.store) as nodes:
        one, two = nodes
        assert_sign_ins_meet(one, two)
        begun = begin_all(one.target, USERS)
        wait_until(lambda: watched.replica.pins().keys() == watched.master.pins().keys(), "all is replicated")
        watched.master.kill()
        wait_until(lambda: watched.replica.is_master, "promoted", deadline_s=30)
        (probe,) = begin_all(one.target, ["probe"])  # whoever still thinks of the old master learns of the new one
        for node in nodes:
            node.wait_for_store()
        outcome = finish_all(two.target, [*begun, probe], seed=3)
        assert outcome.accepted == len(begun) + 1, f"{outcome}"
        assert_sign_ins_meet(two, one)


def test_a_replica_takes_no_pins_and_is_told_of_as_read_only(otp_servers: Servers, tmp_path: Path) -> None:
    with Redis(tmp_path, name="master") as master:
        follow = [f"replicaof 127.0.0.1 {master.port}"]
        with (
            Redis(tmp_path, name="replica", settings=follow) as replica,
            radius_node("a", otp_servers, tmp_path, store_config(replica)) as node,
        ):
            wait_until(lambda: "reason=read_only" in node.balancer.log(), "told", deadline_s=20)
            assert finish_all(node.target, begin_all(node.target, USERS), seed=1).accepted == len(USERS)


def test_a_cluster_spreads_the_pins_over_its_masters_and_without_one_of_them_nodes_serve_alone(
    otp_servers: Servers, tmp_path: Path
) -> None:
    with cluster_of_three(tmp_path) as masters:
        pins: Mapping[str, Any] = {
            "store": {
                "type": "valkey",
                "addresses": [one.address for one in masters[:2]],
                "cluster": True,
                "timeout": "1s",
            }
        }
        with two_radius_nodes(otp_servers, tmp_path, pins) as nodes:
            assert_sign_ins_meet(*nodes)
            held = [int(one.command("DBSIZE")) for one in masters]
            assert sum(held) >= len(USERS), f"{held}"
            assert min(held) > 0, f"one master holds nothing: {held}"
            masters[0].kill()
            for node in nodes:
                outcome = finish_all(node.target, begin_all(node.target, USERS), seed=2)
                assert outcome.accepted == len(USERS), f"{outcome}"
            wait_until(lambda: not nodes[0].is_store_up, "it is told that the store is away", deadline_s=20)
