"""The other nodes that share our pins, and what of their settings differs from ours."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Final

from mfalb.balancer.affinity.node_settings import differences_untrusted

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_NAMES_LOGGED: Final = 8

_log = logging.getLogger("mfalb.pins")


class NodeWatch:
    """`node` is our name among them, `settings` what we tell. `differing` holds, for each node seen, what differs."""

    def __init__(self, node: str, settings: bytes) -> None:
        self.node = node
        self.settings = settings
        self.differing: dict[str, tuple[str, ...]] = {}

    def compare(self, others: Mapping[str, bytes]) -> None:
        """What the others have told. A change is logged once; a name that could be none of ours is passed over."""
        found = {
            name: differences_untrusted(self.settings, theirs)
            for name, theirs in others.items()
            if _NAME.fullmatch(name) is not None
        }
        for name, differences in found.items():
            if differences != self.differing.get(name, ()):
                self._tell(name, differences)
        self.differing = found

    def _tell(self, name: str, differences: tuple[str, ...]) -> None:
        if differences:
            shown = ", ".join(differences[:_NAMES_LOGGED]) + (", ..." if len(differences) > _NAMES_LOGGED else "")
            _log.warning("another node has other settings: pins of one may fail at the other", extra={
                "node": name, "differing": shown,
            })  # fmt: skip
        else:
            _log.info("another node has the same settings as we have", extra={"node": name})
