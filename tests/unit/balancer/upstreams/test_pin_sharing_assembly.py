"""What a configuration makes of shared pins."""

from __future__ import annotations

from typing import Any

from unit.balancer.affinity.node_pins import pin_hub
from unit.still_loop import run

from mfalb.balancer.affinity.node_settings import node_settings
from mfalb.balancer.config.models import Config
from mfalb.balancer.upstreams.pin_sharing import PinSharing
from mfalb.balancer.upstreams.pin_sharing_assembly import follow_settings, share_pins
from mfalb.net.tls_files import TlsFiles

STORE = {"type": "valkey", "addresses": ["192.0.2.1:6379"], "node": "dmz-a"}


def config(*names: str, store: dict[str, Any] | None = None) -> Config:
    backends = [{"name": name, "address": f"192.0.2.{n}:443"} for n, name in enumerate(names, 1)]
    pools = {"sdk": {"backends": backends, "affinity": {"type": "transaction"}}}
    listener = {"name": "web", "protocol": "http", "bind": ["192.0.2.9:80"], "routes": [{"pool": "sdk"}]}
    return Config.model_validate({"listeners": [listener], "pools": pools, "pins": {"store": store}})


def shared(settings: Config) -> PinSharing | None:
    return share_pins(settings, pin_hub(10), {}, TlsFiles(b"s" * 48, 5.0), lambda: None)


def test_without_a_store_nothing_is_shared() -> None:
    assert shared(config("a")) is None


def test_a_node_has_its_name_its_settings_and_all_backends_and_follows_a_new_configuration() -> None:
    async def story() -> None:
        first, second = config("a", "b", store=STORE), config("b", "c", store=STORE)
        sharing = shared(first)
        assert sharing is not None
        try:
            assert (sharing.watch.node, sharing.known) == ("dmz-a", frozenset(("a", "b")))
            assert sharing.watch.settings == node_settings(first)
            follow_settings(sharing, second)
            assert (sharing.known, sharing.watch.settings) == (frozenset(("b", "c")), node_settings(second))
        finally:
            await sharing.close()

    run(story())
