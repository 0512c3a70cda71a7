import socket
import sys
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfalb.net.sockaddr import PACKET_INFO, address_of, answering_info, endpoint_of, host_of, sockaddr_of

ports = st.integers(0, 65_535)


@given(st.ip_addresses(v=4), ports)
@settings(max_examples=100)
def test_an_ipv4_address_survives_as_a_raw_sockaddr(host: IPv4Address, port: int) -> None:
    raw = sockaddr_of((str(host), port))
    assert len(raw) == 16
    assert address_of(raw) == (str(host), port)
    assert host_of(raw) == host.packed
    assert endpoint_of(raw) == host.packed + port.to_bytes(2, "big")


@given(st.ip_addresses(v=6), ports, st.integers(0, 2**20 - 1), st.integers(0, 2**32 - 1))
@settings(max_examples=100)
def test_an_ipv6_address_survives_as_a_raw_sockaddr(host: IPv6Address, port: int, flow: int, scope: int) -> None:
    raw = sockaddr_of((str(host), port, flow, scope))
    assert len(raw) == 28
    back = address_of(raw)
    assert (IPv6Address(back[0]), *back[1:]) == (host, port, flow, scope)
    assert host_of(raw) == host.packed
    assert endpoint_of(raw) == host.packed + port.to_bytes(2, "big")


@pytest.mark.parametrize(
    ("address", "raw"),
    [
        (("10.0.0.5", 1812), "0714 0a000005 0000000000000000"),
        (("::1", 1812, 0, 0), "0714 00000000 00000000000000000000000000000001 00000000"),
    ],
)
def test_a_raw_sockaddr_is_laid_out_as_the_kernel_wants_it(
    address: tuple[str, int] | tuple[str, int, int, int], raw: str
) -> None:
    family = socket.AF_INET if len(address) == 2 else socket.AF_INET6
    assert sockaddr_of(address) == int(family).to_bytes(2, sys.byteorder) + bytes.fromhex(raw)


def test_the_zone_of_a_link_local_address_is_its_scope() -> None:
    assert address_of(sockaddr_of(("fe80::1%lo", 1812, 0, 1))) == ("fe80::1", 1812, 0, 1)


# ------------------------------------------------------------------------------------- our own address


def in_pktinfo(interface: int, local: str, destination: str) -> bytes:
    """As struct in_pktinfo of ip(7) has it."""
    return interface.to_bytes(4, sys.byteorder) + socket.inet_aton(local) + socket.inet_aton(destination)


def in6_pktinfo(address: str, interface: int) -> bytes:
    """As RFC 3542 section 6.1 has it."""
    return socket.inet_pton(socket.AF_INET6, address) + interface.to_bytes(4, sys.byteorder)


@pytest.mark.parametrize(
    ("asked", "answering"),
    [
        (in_pktinfo(2, "10.0.0.7", "10.0.0.7"), in_pktinfo(0, "10.0.0.7", "0.0.0.0")),
        (in_pktinfo(2, "10.0.0.7", "10.0.0.255"), in_pktinfo(0, "10.0.0.7", "0.0.0.0")),  # broadcast
        (in6_pktinfo("2001:db8::7", 2), in6_pktinfo("2001:db8::7", 0)),
        (in6_pktinfo("::1", 1), in6_pktinfo("::1", 0)),
        (in6_pktinfo("fe80::7", 2), in6_pktinfo("fe80::7", 2)),
        (in6_pktinfo("febf:ffff::7", 3), in6_pktinfo("febf:ffff::7", 3)),
        (in6_pktinfo("fec0::7", 3), in6_pktinfo("fec0::7", 0)),
        (in6_pktinfo("ff02::7", 2), in6_pktinfo("::", 0)),  # multicast
    ],
)
def test_an_answer_leaves_from_the_address_that_was_asked_and_by_its_link_where_only_that_names_it(
    asked: bytes, answering: bytes
) -> None:
    assert len(asked) in {info.size_bytes for info in PACKET_INFO.values()}
    assert answering_info(asked) == answering


@pytest.mark.parametrize(
    ("address", "asked"),
    [
        (("10.0.0.5", 1812), in_pktinfo(0, "10.0.0.7", "0.0.0.0")),
        (("2001:db8::5", 1812, 0, 0), in6_pktinfo("2001:db8::7", 0)),
    ],
)
def test_the_address_that_a_peer_asked_is_not_taken_for_its_own(
    address: tuple[str, int] | tuple[str, int, int, int], asked: bytes
) -> None:
    name = sockaddr_of(address)
    peer = name + asked
    assert address_of(peer) == address
    assert (host_of(peer), endpoint_of(peer)) == (host_of(name), endpoint_of(name))
