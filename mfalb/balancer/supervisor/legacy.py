"""What a process that takes over has got, and how it goes on with it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from mfalb.balancer.config.models import Config
from mfalb.balancer.pools.backend_state import BackendState, follow_all
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.supervisor.formers import Formers, HandedSeat, Predecessor
from mfalb.balancer.supervisor.hand_over import CannotUpgrade, Serve
from mfalb.balancer.supervisor.offer import Offer, read_offer_untrusted
from mfalb.errors import MalformedMessage

_OFFER_TIMEOUT_S: Final = 10.0
_log = logging.getLogger("mfalb.supervisor")
_OWN_WEIGHT: Final = -1  # no operator has set one: the configuration's counts, whatever it is now


@dataclass(slots=True)
class Legacy:
    """The offer, and the channel to who made it."""

    offer: Offer
    channel: socket.socket
    predecessor: Predecessor | None = None

    @classmethod
    def received(cls, channel: socket.socket, config: Config) -> Legacy:
        """Wait for it. Raises CannotUpgrade also where this configuration takes a restart."""
        try:
            offer = read_offer_untrusted(channel, _OFFER_TIMEOUT_S)
        except MalformedMessage as error:
            raise CannotUpgrade(f"the running process hands over what cannot be read ({error.reason})") from None
        fixed = []
        if offer.plan.workers != config.workers:
            fixed.append(f"workers ({offer.plan.workers} are running)")
        if offer.plan.pin_limit != config.pins.limit:
            fixed.append(f"pins.limit ({offer.plan.pin_limit} is in use)")
        if fixed:
            raise CannotUpgrade(f"these settings take a restart: {', '.join(fixed)}")
        _log.info("taking over", extra={"pid": offer.pid, "version": offer.version})
        return cls(offer, channel)

    @property
    def seats(self) -> dict[int, HandedSeat]:
        return {} if self.predecessor is None else self.predecessor.seats

    async def order_to_serve(self) -> Serve:
        """Say that we could, and wait for our turn. Raises CannotUpgrade."""
        self.predecessor = Predecessor(self.channel)
        self.predecessor.prepared()
        return await self.predecessor.order_to_serve()

    async def assume(self, formers: Formers) -> None:
        """Say that we serve, and wait until we are known to. Who handed over is a former one from then on."""
        if self.predecessor is None:
            return
        self.predecessor.serving()
        for handed in self.seats.values():
            handed.close()
        await self.predecessor.released()
        formers.add(self.offer.pid, self.offer.own_generation, self.predecessor.detach())
        for pid, generation, channel in self.offer.kin:
            formers.add(pid, generation, channel)


def standing_of(pools: Iterable[Pool]) -> list[dict[str, Any]]:
    """What is known and ordered of all backends, for `follow_standing`."""
    return [
        BackendState.of(one).words() | ({"weight": _OWN_WEIGHT} if one.weight == one.config.weight else {})
        for pool in pools
        for one in pool.backends.values()
    ]


def follow_standing(pools: Mapping[str, Pool], states: Iterable[Mapping[str, Any]]) -> None:
    """Let our pools be so. Raises CannotUpgrade for what says something else."""
    try:
        mine = []
        for words in states:
            pool = pools.get(words["pool"])
            backend = None if pool is None else pool.backends.get(words["backend"])
            if backend is not None:
                weight = backend.config.weight if words["weight"] == _OWN_WEIGHT else words["weight"]
                mine.append({**words, "weight": weight})
        follow_all(pools, mine, monotonic())
    except (KeyError, TypeError, ValueError):
        raise CannotUpgrade("the running process tells of backends what cannot be read") from None
