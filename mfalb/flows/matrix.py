"""Doors and calls of several services → the matrix of flows between their hosts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import assert_never

from mfalb.flows.names import Names
from mfalb.flows.values import Call, Caller, Comers, Door, Flow, Service, Spot, is_every_address, is_loopback

_ANYBODY: tuple[str, ...] = ()


def matrix(services: Sequence[Service], names: Names) -> list[Flow]:
    """Every flow that the services need from one host to another, each once and none that another one contains.

    Flows within a host are left out. A host that nobody told is named after the file of its service.
    """
    site = _Site(tuple(_Placed(service, _hosts_of(service, names)) for service in services), names)
    return sorted(_without_contained(_merged(_between_hosts(site.flows()))), key=_order)


@dataclass(frozen=True, slots=True)
class _Placed:
    """A service, and the addresses of its host."""

    service: Service
    hosts: tuple[str, ...]


def _hosts_of(service: Service, names: Names) -> tuple[str, ...]:
    """Where it was said to run; else where it listens, for only there it can."""
    told = service.runs_on or tuple(door.spot.host for door in service.traffic.doors if door.spot.host is not None)
    hosts = [address for host in told for address in names.of(host)]
    hosts = [host for host in hosts if not (is_loopback(host) or is_every_address(host))]
    return tuple(dict.fromkeys(hosts)) or (f"host of {service.file}",)


@dataclass(frozen=True, slots=True)
class _Site:
    """All services with their hosts."""

    placed: tuple[_Placed, ...]
    names: Names

    def flows(self) -> Iterator[Flow]:
        """As the settings say it, flows within a host and repetitions among them."""
        for here in self.placed:
            for call in here.service.traffic.calls:
                yield from self._flows_of_call(here, call)
            for door in here.service.traffic.doors:
                yield from self._flows_of_door(here, door)

    def _flows_of_call(self, here: _Placed, call: Call) -> Iterator[Flow]:
        sources = _ANYBODY if call.caller is Caller.PEOPLE else here.hosts
        for spot in self._spots(call.to, here):
            yield _flow(sources, spot, call.purpose, f"{here.service.file}:{call.line}")

    def _flows_of_door(self, here: _Placed, door: Door) -> Iterator[Flow]:
        for spot in self._spots(door.spot, here):
            for sources in self._comers(here, door, spot):
                yield _flow(sources, spot, door.purpose, f"{here.service.file}:{door.line}")

    def _comers(self, here: _Placed, door: Door, spot: Spot) -> list[tuple[str, ...]]:
        """Who has to be let in because of the door itself: nobody more, where calls of others say who comes."""
        match door.comers:
            case Comers.MEMBERS:
                return [other.hosts for other in self._members(here)]
            case Comers.PEOPLE:
                is_told = self._is_called(spot, (Caller.FOR_OTHERS,))
            case Comers.SERVICES:
                is_told = self._is_called(spot, (Caller.FOR_OTHERS, Caller.SERVICE))
            case Comers.AS_BEHIND:
                is_told = self._is_for_services(door, ()) and self._is_called(spot, tuple(Caller))
            case Comers.ALLOWED:
                is_told = False
            case _:
                assert_never(door.comers)
        return [] if is_told else [door.networks]

    def _members(self, here: _Placed) -> Iterator[_Placed]:
        group = here.service.traffic.group
        return (one for one in self.placed if one is not here and group and one.service.traffic.group == group)

    def _is_called(self, spot: Spot, callers: tuple[Caller, ...]) -> bool:
        return any(
            spot in self._spots(call.to, there)
            for there in self.placed
            for call in there.service.traffic.calls
            if call.caller in callers
        )

    def _is_for_services(self, door: Door, passed: tuple[Door, ...]) -> bool:
        """Whether all that a door leads to is known, through other balancers as well, and for services only."""
        behind = [self._door_at(spot) for spot in door.leads_to]
        return bool(behind) and all(
            one is not None
            and one not in passed
            and (
                one.comers is Comers.SERVICES
                or (one.comers is Comers.AS_BEHIND and self._is_for_services(one, (*passed, door)))
            )
            for one in behind
        )

    def _door_at(self, wanted: Spot) -> Door | None:
        doors = ((here, door) for here in self.placed for door in here.service.traffic.doors)
        at = [replace(wanted, host=address) for address in self.names.of(wanted.host or "")]
        return next((door for here, door in doors if any(spot in self._spots(door.spot, here) for spot in at)), None)

    def _spots(self, spot: Spot, here: _Placed) -> list[Spot]:
        """With addresses for names, and for every address of a host those that are known."""
        if spot.host is None or is_every_address(spot.host):
            return [replace(spot, host=host) for host in here.hosts]
        return [replace(spot, host=address) for address in self.names.of(spot.host)]


def _flow(sources: tuple[str, ...], spot: Spot, purpose: str, place: str) -> Flow:
    """With one spelling for each source: a network of one address is that address."""
    networks = [(source, _network(source)) for source in sources]
    sources = tuple(
        source if network is None else str(network.network_address if network.num_addresses == 1 else network)
        for source, network in networks
    )
    return Flow(sources, spot.host or "", spot.transport, spot.port, (purpose,), (place,))


def _between_hosts(flows: Iterable[Flow]) -> Iterator[Flow]:
    """Without what stays within a host, and without sources of another IP version than the destination's."""
    for flow in flows:
        version = _version(flow.destination)
        sources = tuple(one for one in flow.sources if None in (version, _version(one)) or _version(one) == version)
        is_possible = bool(sources) or not flow.sources
        if is_possible and flow.destination not in flow.sources and not is_loopback(flow.destination):
            yield replace(flow, sources=sources)


def _merged(flows: Iterable[Flow]) -> list[Flow]:
    """Equal flows as one, with the purposes and places of all."""
    found: dict[Flow, Flow] = {}
    for flow in flows:
        key = replace(flow, purposes=(), places=())
        found[key] = _with(found.get(key, key), flow)
    return list(found.values())


def _without_contained(flows: list[Flow]) -> list[Flow]:
    """What a wider flow to the same port lets through anyway is said there."""
    kept = {flow: flow for number, flow in enumerate(flows) if not _is_said_elsewhere(number, flows)}
    for flow in flows:
        if flow not in kept:
            wider = next(one for one in kept if _contains(one, flow))
            kept[wider] = _with(kept[wider], flow)
    return list(kept.values())


def _is_said_elsewhere(number: int, flows: list[Flow]) -> bool:
    """Of two that contain each other the first one stays."""
    flow = flows[number]
    return any(
        _contains(other, flow) and (at < number or not _contains(flow, other))
        for at, other in enumerate(flows)
        if at != number
    )


def _with(flow: Flow, other: Flow) -> Flow:
    purposes = tuple(dict.fromkeys((*flow.purposes, *other.purposes)))
    return replace(flow, purposes=purposes, places=tuple(dict.fromkeys((*flow.places, *other.places))))


def _contains(wide: Flow, narrow: Flow) -> bool:
    is_same_door = (wide.destination, wide.transport, wide.port) == (narrow.destination, narrow.transport, narrow.port)
    if not is_same_door or wide.sources == narrow.sources:
        return False
    if not wide.sources:
        return True
    return bool(narrow.sources) and all(any(_is_within(one, other) for other in wide.sources) for one in narrow.sources)


def _is_within(source: str, other: str) -> bool:
    inner, outer = _network(source), _network(other)
    if inner is None or outer is None:
        return source == other
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type] # the same version


def _network(source: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(source)
    except ValueError:
        return None


def _version(host: str) -> int | None:
    network = _network(host)
    return None if network is None else network.version


def _order(flow: Flow) -> tuple[object, ...]:
    sources = tuple(_host_order(source) for source in flow.sources)
    return (sources, _host_order(flow.destination), flow.port, flow.transport.value)


def _host_order(host: str) -> tuple[int, int, str]:
    network = _network(host)
    return (9, 0, host) if network is None else (network.version, int(network.network_address), "")
