"""Do all nodes mean the same by a pin? What has to agree between them, as text that nodes show one another.

A pin names a pool (within its key) and a backend, and a cookie is opened with a key: a node with other names, another
affinity or other keys takes what it meets for something else. The text holds names and digests, never a key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from mfalb.balancer.config.models import Config, Pool

_VERSION: Final = 1
_DIGEST_CHARACTERS: Final = 16
_LIMIT_BYTES: Final = 256 * 1024  # more than any configuration makes of itself
_OTHER_VERSION: Final = "version"
_UNREADABLE: Final = "unreadable"


def node_settings(config: Config) -> bytes:
    """What a node with this configuration shows the others."""
    pools = {name: _pool_settings(pool) for name, pool in config.pools.items()}
    keys = [_digest(b"mfalb cookie key for comparison" + key.reveal()) for key in config.pins.cookie_keys]
    settings = {"version": _VERSION, "pools": pools, "cookie_keys": sorted(keys)}
    return json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()


def _pool_settings(pool: Pool) -> dict[str, str]:
    affinity = json.dumps(pool.affinity.model_dump(mode="json"), sort_keys=True).encode()
    names = "\n".join(sorted(backend.name for backend in pool.backends)).encode()
    return {"affinity": _digest(affinity), "backends": _digest(names)}


def _digest(octets: bytes) -> str:
    return sha256(octets).hexdigest()[:_DIGEST_CHARACTERS]


def differences_untrusted(ours: bytes, theirs: bytes) -> tuple[str, ...]:
    """What differs, in words for the log: "pools.mfa.backends", "cookie_keys". Only names of our own appear.

    A pool that they have and we lack is "pools": its name is theirs, and may be anything.
    """
    if ours == theirs:
        return ()
    mine, other = json.loads(ours), _read_untrusted(theirs)
    if other is None:
        return (_UNREADABLE,)
    if other.get("version") != _VERSION:
        return (_OTHER_VERSION,)
    found = [] if other.get("cookie_keys") == mine["cookie_keys"] else ["cookie_keys"]
    pools = other.get("pools")
    if not isinstance(pools, dict):
        return (_UNREADABLE,)
    if pools.keys() - mine["pools"].keys():
        found.append("pools")
    for name, settings in mine["pools"].items():
        found += _pool_differences(name, settings, pools.get(name))
    return tuple(sorted(found)) or (_UNREADABLE,)


def _pool_differences(name: str, mine: Mapping[str, str], theirs: object) -> list[str]:
    if not isinstance(theirs, dict):
        return [f"pools.{name}"]
    return [f"pools.{name}.{key}" for key, digest in mine.items() if theirs.get(key) != digest]


def _read_untrusted(octets: bytes) -> dict[str, Any] | None:
    if len(octets) > _LIMIT_BYTES:
        return None
    try:
        read = json.loads(octets)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None
