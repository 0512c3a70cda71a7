"""What carries RADIUS exchanges to the backends of a pool, whatever its transport is, and who is told of their ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from mfalb.balancer.exchange.radius_exchange import RadiusExchange
from mfalb.balancer.pools.backend import Backend

REST_S: Final = 5.0  # a client's own identifier is not used again so soon where a late answer to it may come
NO_SOCKET: Final = "no_socket"  # for want of descriptors or memory of our own; a metric label

Sign = Callable[[RadiusExchange, int], bytes]  # the datagram for an exchange's backend under that identifier


class Events(Protocol):
    """Who is told what became of an exchange."""

    def answered(self, exchange: RadiusExchange, datagram: bytes, now: float) -> str | None:
        """Why the datagram was discarded; None when it was the answer."""

    def stray_answer(self) -> None: ...

    def failed(self, error: Exception) -> None:
        """The program made a mistake with one datagram."""

    def refused(self, exchange: RadiusExchange) -> None:
        """The backend's host did not take it, which is evidence, too."""

    def unsent(self, exchange: RadiusExchange) -> None:
        """It did not leave. What there is for evidence was told apart."""

    def not_sent(self, exchange: RadiusExchange, reason: str, now: float) -> None:
        """It did not leave for want of something of ours (`reason`, a metric label): no evidence about its backend."""


class RadiusCarrier(ABC):
    """What carries exchanges to the backends of a pool: UDP sockets (here) or TLS connections (`radsec`).

    No Protocol: compiled code calls the methods of one by their names, 0.1 us each.
    """

    @abstractmethod
    def send(self, exchange: RadiusExchange, now: float) -> None:
        """Give the exchange an identifier at its backend and send it; what it held before is released.

        Raises BackendFailure and MalformedMessage when it cannot be sent anywhere, and nothing was.
        """

    @abstractmethod
    def resend(self, exchange: RadiusExchange, now: float) -> bool:
        """A client asks again: send to the same backend again if the transport wants that. False when nothing was."""

    def take_up(self, _exchange: RadiusExchange, _number: int, _identifier: int) -> bool:
        """Go on with what a predecessor has sent from the socket of that number. Nothing is sent. False if it cannot.

        Raises MalformedMessage as `send` does.
        """
        return False

    def number_of(self, _exchange: RadiusExchange) -> int:
        """Of the socket that holds an exchange, by which a successor can go on with it; 0 where it cannot."""
        return 0

    def let_go_of_sockets(self) -> None:
        """A successor has those that can be handed over, and what they carry. Connections stay."""
        return

    @abstractmethod
    def flush(self) -> None:
        """Send what has gathered since the last flush."""

    @abstractmethod
    def release(self, exchange: RadiusExchange, now: float) -> None:
        """The exchange is over, or goes elsewhere: its identifier may be used again.

        For `REST_S` not by its number, unless the one answer to the one datagram that was sent has come.
        """

    def expire(self, _now: float) -> None:
        """Let go of what no longer counts. Called about once a second."""
        return

    @abstractmethod
    def dropped_by_kernel(self, backend_name: str) -> int:
        """Answers of a backend that were lost because nobody read them in time."""

    @abstractmethod
    def follow(self, backends: Mapping[str, Backend]) -> None:
        """The pool has these backends now. Who has left, or has another address, is asked nothing more where it was."""

    @abstractmethod
    def close(self) -> None:
        """Let go of every socket."""


def rests_until(exchange: RadiusExchange, now: float) -> float:
    """Until when nothing else should be asked under an exchange's identifier: an answer may still come, or another."""
    return 0.0 if exchange.is_answered and exchange.transmissions <= 1 else now + REST_S
