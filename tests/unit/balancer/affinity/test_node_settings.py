"""What nodes show one another of their settings, and what is found to differ."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfalb.balancer.affinity.node_settings import differences_untrusted, node_settings
from mfalb.balancer.config.models import Config
from mfalb.balancer.config.values import Secret

KEY, OTHER = Secret(b"k" * 32), Secret(b"o" * 32)


def settings(**change: Any) -> bytes:
    """A node's, with one thing changed."""
    backends = [
        {"name": name, "address": f"10.0.0.{n}:443"} for n, name in enumerate(change.get("names", ("a", "b")), 1)
    ]
    pools = {
        change.get("pool", "sdk"): {
            "backends": backends,
            "affinity": {"type": "transaction", "lifetime": change.get("lifetime", 300.0)},
            "algorithm": change.get("algorithm", "round_robin"),
        }
    }
    listener = {
        "name": "web",
        "protocol": "http",
        "bind": [change.get("bind", "10.9.0.1:80")],
        "routes": [{"pool": next(iter(pools))}],
    }
    pins = {"cookie_keys": change.get("keys", (KEY,))}
    return node_settings(Config.model_validate({"listeners": [listener], "pools": pools, "pins": pins}))


OURS = settings()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, ()),
        ({"bind": "10.9.0.2:80"}, ()),
        ({"algorithm": "least_connections"}, ()),
        ({"names": ("b", "a")}, ()),
        ({"names": ("a", "c")}, ("pools.sdk.backends",)),
        ({"lifetime": 60.0}, ("pools.sdk.affinity",)),
        ({"keys": (KEY, OTHER)}, ("cookie_keys",)),
        ({"keys": ()}, ("cookie_keys",)),
        ({"pool": "other"}, ("pools", "pools.sdk")),
        ({"names": ("a",), "keys": (OTHER,)}, ("cookie_keys", "pools.sdk.backends")),
    ],
)
def test_what_a_pin_or_a_cookie_stands_on_has_to_agree_and_nothing_else(
    change: dict[str, Any], found: tuple[str, ...]
) -> None:
    assert differences_untrusted(OURS, settings(**change)) == found


def test_keys_in_another_order_are_the_same_ring_while_one_is_rotated() -> None:
    assert differences_untrusted(settings(keys=(KEY, OTHER)), settings(keys=(OTHER, KEY))) == ()


def test_no_key_can_be_read_out_of_it() -> None:
    assert KEY.reveal() not in OURS
    assert KEY.reveal().hex().encode() not in OURS


@pytest.mark.parametrize(
    ("theirs", "found"),
    [
        (b"", "unreadable"),
        (b"[1]", "unreadable"),
        (b"\xff", "unreadable"),
        (b'{"version":2}', "version"),
        (b'{"version":1}', "unreadable"),
        (b'{"version":1,"pools":[]}', "unreadable"),
        (b"[" * 200_000, "unreadable"),
        (b" " * 300_000, "unreadable"),
        (OURS + b" ", "unreadable"),
    ],
)
def test_what_cannot_be_understood_differs_and_says_nothing_of_its_own(theirs: bytes, found: str) -> None:
    assert differences_untrusted(OURS, theirs) == (found,)


def test_names_that_another_node_made_up_do_not_appear() -> None:
    theirs = json.loads(OURS)
    theirs["pools"]["evil\nname"] = {}
    theirs["pools"]["sdk"] = ["evil"]
    assert differences_untrusted(OURS, json.dumps(theirs).encode()) == ("pools", "pools.sdk")


@given(st.binary(max_size=200))
def test_whatever_stands_there_is_read_without_a_fault(theirs: bytes) -> None:
    assert differences_untrusted(OURS, theirs)
