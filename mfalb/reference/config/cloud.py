"""Settings of the cloud MFA Service."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from mfalb.reference.config.values import Endpoint


class Answering(Enum):
    """Who answers the phones: nobody needs to (after `answer_delay_s`, always yes), or whoever is at a handset page."""

    AUTO = "auto"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """The cloud MFA Service.

    `answer_delay_s` is how long a person takes to answer a phone where nobody has to; `ring_s` is how long it rings.
    With `activation_codes` it serves activated servers only; without any it serves everybody. `state` is the file that
    its groups are kept in; None for memory. `handsets` is where the pages of the phones are, which browsers open;
    without it they are at `endpoint`, if that asks for no client certificate. `control` is where fault switches are
    set.
    """

    endpoint: Endpoint = Endpoint()  # noqa: RUF009 - a frozen value; ruff does not follow it into the other file
    answer_delay_s: float = 1.0
    activation_codes: tuple[str, ...] = field(default=(), repr=False)
    state: str | None = None
    answering: Answering = Answering.AUTO
    ring_s: float = 60.0
    handsets: Endpoint | None = None
    control: Endpoint | None = None
