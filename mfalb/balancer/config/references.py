"""Does every name refer to something, once, and do the things it connects fit together?

Each check takes a Draft and adds findings; `check_references` runs them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

from mfalb.balancer.config.document import Document, Loc
from mfalb.balancer.config.draft import Draft
from mfalb.balancer.config.findings import Findings
from mfalb.balancer.config.health_models import HttpCheck, RadiusCheck, SdkCheck
from mfalb.balancer.config.models import (
    CookieAffinity,
    Pool,
    RadiusStateAffinity,
)
from mfalb.balancer.config.outline import did_you_mean
from mfalb.balancer.config.radius_models import RadiusClient, RadiusListener, RadiusSessionAffinity
from mfalb.balancer.config.radsec_models import RadsecClient, RadsecListener
from mfalb.balancer.config.values import Address, quoted


def check_references(draft: Draft, findings: Findings) -> None:
    """Adds everything that does not refer, repeats itself or does not fit."""
    for look in (
        _listener_names,
        _binds,
        _routes,
        _tls,
        _clients,
        _certified_clients,
        _pool_names,
        _shared_pools,
        _unused_pools,
        _backends,
        _radius_pools,
        _http_pools,
        _cookie_keys,
    ):
        look(draft, findings)


# ------------------------------------------------------------------------------------------ listeners


def _listener_names(draft: Draft, findings: Findings) -> None:
    names = ((("listeners", index, "name"), listener.name) for index, listener in draft.listeners.items())
    no_repeats(names, "name: listener {value} is defined on line {line} already; choose another", draft, findings)


def _binds(draft: Draft, findings: Findings) -> None:
    tcp: list[tuple[Loc, Address]] = []
    udp: list[tuple[Loc, Address]] = []
    for number, listener in draft.listeners.items():
        addresses = udp if isinstance(listener, RadiusListener) else tcp
        addresses += [(("listeners", number, "bind", index), address) for index, address in enumerate(listener.bind)]
    if draft.admin is not None:
        tcp.append((("admin", "bind"), draft.admin.bind))
    for transport, bound in (("TCP", tcp), ("UDP", udp)):
        keys = ((loc, _canonical(address)) for loc, address in bound)
        message = (
            f"bind: {transport} address {{value}} is bound on line {{line}} already; an address serves one listener"
        )
        no_repeats(keys, message, draft, findings)
        _overlapping_binds(transport, bound, draft, findings)


def _overlapping_binds(transport: str, bound: list[tuple[Loc, Address]], draft: Draft, findings: Findings) -> None:
    """A wildcard address and one of those that it stands for cannot both be bound to one port."""
    hosts = [(loc, address, ip_of(address.host)) for loc, address in bound]
    wildcards = {(ip.version, one.port): (loc, one) for loc, one, ip in hosts if ip is not None and ip.is_unspecified}
    for loc, address, ip in hosts:
        if ip is None or ip.is_unspecified or (ip.version, address.port) not in wildcards:
            continue
        wildcard_loc, wildcard = wildcards[ip.version, address.port]
        line = draft.document.at_value(wildcard_loc).line
        findings.error(
            draft.document.at_value(loc),
            f"bind: {transport} address {quoted(address)} is one of those that {quoted(wildcard)} on line {line} "
            "stands for; remove one of the two",
        )


def _routes(draft: Draft, findings: Findings) -> None:
    for loc, listener in draft.http_listeners():
        keys = (
            ((*loc, "routes", index), f"{route.host or 'any host'} {route.path.rstrip('/') or '/'}".lower())
            for index, route in enumerate(listener.routes)
        )
        no_repeats(keys, "route: {value} has a route on line {line} already; remove one", draft, findings)


def _tls(draft: Draft, findings: Findings) -> None:
    for loc, listener in draft.http_listeners():
        if listener.protocol == "https" and listener.tls is None:
            position = draft.document.at_value((*loc, "protocol"))
            findings.error(position, "protocol: https needs 'tls' with a certificate; add it or write protocol: http")
        if listener.protocol == "http" and listener.tls is not None:
            position = draft.document.at_key((*loc, "tls"))
            findings.error(position, "tls: protocol http takes none; remove it or write protocol: https")


def _clients(draft: Draft, findings: Findings) -> None:
    for loc, listener in draft.radius_listeners():
        clients: list[tuple[int, RadiusClient | RadsecClient]] = list(enumerate(listener.clients))
        names = (((*loc, "clients", index, "name"), client.name) for index, client in clients)
        no_repeats(names, "name: client {value} is defined on line {line} already; choose another", draft, findings)
        if isinstance(listener, RadiusListener):
            # Nested networks are fine: the longest prefix wins.
            networks = (
                ((*loc, "clients", index, "network"), str(client.network))
                for index, client in enumerate(listener.clients)
            )
            message = "network: {value} belongs to the client on line {line} already; a network has one secret"
            no_repeats(networks, message, draft, findings)


def _certified_clients(draft: Draft, findings: Findings) -> None:
    for loc, listener in draft.radius_listeners():
        if isinstance(listener, RadsecListener):
            keys = (
                ((*loc, "clients", index, "certificate"), _certificate_text(client))
                for index, client in enumerate(listener.clients)
            )
            message = "certificate: {value} is the client's on line {line} already, who would always come first"
            no_repeats(keys, message, draft, findings)


def _certificate_text(client: RadsecClient) -> str:
    written = client.certificate.model_dump(exclude_none=True)
    if client.network is not None:
        written["network"] = client.network
    return ", ".join(f"{key} {value}" for key, value in written.items())


# ---------------------------------------------------------------------------------------------- pools


def _pool_references(draft: Draft) -> Iterator[tuple[Loc, str]]:
    for loc, route in draft.routes():
        yield (*loc, "pool"), route.pool
    for loc, passing in draft.tcp_routes():
        yield (*loc, "pool"), passing.pool
    for use in draft.radius_uses():
        yield use.at, use.pool


def _pool_names(draft: Draft, findings: Findings) -> None:
    for loc, name in _pool_references(draft):
        if name not in draft.pool_names:
            known = sorted(draft.pool_names)
            message = f"{loc[-1]}: there is no pool {quoted(name)}; defined: {', '.join(known) or 'none'}"
            findings.error(draft.document.at_value(loc), message + did_you_mean(name, known))


def _shared_pools(draft: Draft, findings: Findings) -> None:
    for use in draft.radius_uses():
        if use.pool in draft.http_pools():
            findings.error(
                draft.document.at_value(use.at),
                f"{use.key}: {quoted(use.pool)} takes HTTP from a route already; RADIUS needs a pool of its own",
            )


def _unused_pools(draft: Draft, findings: Findings) -> None:
    if not draft.is_whole or any(name not in draft.pool_names for _, name in _pool_references(draft)):
        return  # a broken listener or a misspelt reference may be the one that uses it
    for name in draft.pools.keys() - {name for _, name in _pool_references(draft)}:
        findings.warning(draft.document.at_key(("pools", name)), f"pool {quoted(name)} is not used by any listener")


def _backends(draft: Draft, findings: Findings) -> None:
    for name, pool in draft.pools.items():
        loc: Loc = ("pools", name, "backends")
        backends = list(enumerate(pool.backends))
        names = (((*loc, index, "name"), backend.name) for index, backend in backends)
        no_repeats(names, "name: backend {value} is in this pool on line {line} already", draft, findings)
        addresses = (((*loc, index, "address"), _canonical(backend.address)) for index, backend in backends)
        message = "address: {value} is in this pool on line {line} already; for a larger share use 'weight'"
        no_repeats(addresses, message, draft, findings)


def _radius_pools(draft: Draft, findings: Findings) -> None:
    for name, pool in _used(draft, draft.radius_pools() - draft.http_pools()):
        loc: Loc = ("pools", name)
        for index, backend in enumerate(pool.backends):
            if pool.radius_secret(backend) is None:
                findings.error(
                    draft.document.at_key((*loc, "backends", index)),
                    f"backend {quoted(backend.name)} takes RADIUS and needs 'secret_file' or 'secret_env'",
                )
        if isinstance(pool.health_check, HttpCheck | SdkCheck):
            position = draft.document.at_value((*loc, "health_check", "type"))
            findings.error(
                position,
                f"type: pool {quoted(name)} takes RADIUS, which {pool.health_check.type} cannot check; write radius",
            )


def _http_pools(draft: Draft, findings: Findings) -> None:
    for name, pool in _used(draft, draft.http_pools() - draft.radius_pools()):
        loc: Loc = ("pools", name)
        for index, backend in enumerate(pool.backends):
            if backend.secret is not None:
                findings.error(
                    draft.document.at_key((*loc, "backends", index)),
                    f"backend {quoted(backend.name)} takes HTTP, which uses no secret; remove it",
                )
        if isinstance(pool.health_check, RadiusCheck):
            position = draft.document.at_value((*loc, "health_check", "type"))
            findings.error(position, f"type: pool {quoted(name)} takes HTTP, which radius cannot check; write http")
        if isinstance(pool.affinity, RadiusStateAffinity | RadiusSessionAffinity):
            findings.error(
                draft.at_affinity(name),
                f"affinity: pool {quoted(name)} takes HTTP, which has no {pool.affinity.type} affinity; write type: "
                "cookie, transaction or transaction_id",
            )


def _cookie_keys(draft: Draft, findings: Findings) -> None:
    if draft.pins is None or draft.pins.cookie_keys:
        return
    if "cookie_keys" in _table(draft.document, "pins"):
        return  # named, but could not be read: reported there
    for name, pool in draft.pools.items():
        if isinstance(pool.affinity, CookieAffinity):
            findings.error(
                draft.at_affinity(name),
                "affinity: cookies are encrypted and need keys; add pins: {cookie_keys_file: path} with a line from "
                "'mfalb keygen'",
            )


# -------------------------------------------------------------------------------------- small helpers


def _used(draft: Draft, names: frozenset[str]) -> Iterator[tuple[str, Pool]]:
    return ((name, draft.pools[name]) for name in sorted(names) if name in draft.pools)


def _table(document: Document, key: str) -> dict[str, object]:
    table = document.data.get(key) if isinstance(document.data, dict) else None
    return table if isinstance(table, dict) else {}


def no_repeats(entries: Iterable[tuple[Loc, str]], message: str, draft: Draft, findings: Findings) -> None:
    """An error at each entry whose value came before; `message` has {value} and {line} of the first one."""
    first: dict[str, Loc] = {}
    for loc, value in entries:
        earlier = first.setdefault(value, loc)
        if earlier != loc:
            line = draft.document.at_value(earlier).line
            findings.error(draft.document.at_value(loc), message.format(value=quoted(value), line=line))


def ip_of(host: str) -> IPv4Address | IPv6Address | None:
    """The IP address that a host is written as; None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def _canonical(address: Address) -> str:
    """One spelling for equal addresses: `[0::1]:53` and `[::1]:53`, `MFA1:443` and `mfa1:443`."""
    try:
        host = str(ip_address(address.host))
    except ValueError:
        host = address.host.lower().rstrip(".")
    return str(Address(host, address.port))
