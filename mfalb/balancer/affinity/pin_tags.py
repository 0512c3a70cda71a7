"""Whose pin is it? A key ends with a tag of its kind and pool, so that the table can be counted pool by pool."""

from __future__ import annotations

from typing import assert_never

from mfalb.balancer.affinity.radius_session import BY_CLASS, BY_STATION
from mfalb.balancer.affinity.radius_state import BY_STATE
from mfalb.balancer.affinity.store import pin_tag
from mfalb.balancer.affinity.transaction import BY_TRANSACTION
from mfalb.balancer.affinity.transaction_id import BY_TRANSACTION_ID
from mfalb.balancer.config.models import Affinity, CookieAffinity, NoAffinity, RadiusStateAffinity, TransactionAffinity
from mfalb.balancer.config.radius_models import RadiusSessionAffinity
from mfalb.balancer.config.transaction_id_models import TransactionIdAffinity


def pin_tags(pool: str, affinity: Affinity) -> tuple[bytes, ...]:
    """The tags of the pins that bring work to this pool; none where it has no pins in the table.

    What accounting is found by is made by the pool that it follows, but is the pool's that keeps the records.
    """
    match affinity:
        case RadiusStateAffinity():
            return (pin_tag(BY_STATE, pool),)
        case TransactionAffinity():
            return (pin_tag(BY_TRANSACTION, pool),)
        case TransactionIdAffinity():
            return (pin_tag(BY_TRANSACTION_ID, pool),)
        case RadiusSessionAffinity():
            return (pin_tag(BY_CLASS, affinity.follows), pin_tag(BY_STATION, affinity.follows))
        case CookieAffinity() | NoAffinity():
            return ()
        case _:
            assert_never(affinity)
