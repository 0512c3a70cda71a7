"""Whose certificate is it? Every mark that is asked for has to be there, and the address has to fit."""

from __future__ import annotations

import pytest

from mfalb.balancer.config.radsec_models import ClientCertificate, RadsecClient
from mfalb.balancer.exchange.radius_peer import Secrets
from mfalb.balancer.listeners.radsec_clients import RadsecClients, is_certificate_of
from mfalb.net.peer_certificate import PeerCertificate

PRINT = "ab" * 32
NAS = PeerCertificate(("nas1.vpn.contoso.com", "alias.contoso.com"), ("NAS 1",), PRINT)
BARE = PeerCertificate((), (), "00" * 32)
WILD = PeerCertificate(("*.vpn.contoso.com",), ("*.vpn.contoso.com",), "11" * 32)

CASES = [
    ({"dns_name": "nas1.vpn.contoso.com"}, NAS, True),
    ({"dns_name": "NAS1.VPN.contoso.com"}, NAS, True),  # names of hosts have no case
    ({"dns_name": "alias.contoso.com"}, NAS, True),
    ({"dns_name": "vpn.contoso.com"}, NAS, False),
    ({"dns_name": "nas1.vpn.contoso.com.evil.example"}, NAS, False),
    ({"dns_name": "*.vpn.contoso.com"}, NAS, True),
    ({"dns_name": "*.contoso.com"}, NAS, True),  # by its alias
    ({"dns_name": "*.example.com"}, NAS, False),
    ({"dns_name": "*.com"}, NAS, False),  # a star is one label
    ({"dns_name": "*.nas1.vpn.contoso.com"}, NAS, False),
    ({"dns_name": "nas1.vpn.contoso.com"}, WILD, False),  # in a certificate a star vouches for nobody
    ({"dns_name": "*.vpn.contoso.com"}, WILD, False),
    ({"dns_name": "NAS1"}, BARE, False),
    ({"common_name": "NAS 1"}, NAS, True),
    ({"common_name": "nas 1"}, NAS, False),  # a common name is text, and text has case
    ({"common_name": "nas1.vpn.contoso.com"}, NAS, False),
    ({"common_name": "NAS 1"}, BARE, False),
    ({"fingerprint": PRINT}, NAS, True),
    ({"fingerprint": PRINT.upper()}, NAS, True),
    ({"fingerprint": "00" * 32}, NAS, False),
    ({"fingerprint": PRINT, "common_name": "NAS 1", "dns_name": "alias.contoso.com"}, NAS, True),
    ({"fingerprint": "00" * 32, "common_name": "NAS 1", "dns_name": "alias.contoso.com"}, NAS, False),
    ({"fingerprint": PRINT, "common_name": "NAS 2", "dns_name": "alias.contoso.com"}, NAS, False),
    ({"fingerprint": PRINT, "common_name": "NAS 1", "dns_name": "other.contoso.com"}, NAS, False),
]


@pytest.mark.parametrize(("wanted", "found", "is_wanted"), CASES)
def test_a_certificate_is_a_client_s_when_it_has_all_that_is_asked(
    wanted: dict[str, str], found: PeerCertificate, is_wanted: bool
) -> None:
    assert is_certificate_of(ClientCertificate.model_validate(wanted), found) is is_wanted


def clients(*settings: dict[str, object]) -> RadsecClients:
    named = [{"name": f"c{index}"} | one for index, one in enumerate(settings)]
    return RadsecClients([RadsecClient.model_validate(one) for one in named], Secrets())


def name_of(found: RadsecClients, host: str, certificate: PeerCertificate = NAS) -> str | None:
    peer = found.find(host, certificate)
    return None if peer is None else peer.name


def test_the_first_client_in_the_file_that_fits_is_the_one() -> None:
    both = clients(
        {"certificate": {"dns_name": "other.contoso.com"}},
        {"certificate": {"common_name": "NAS 1"}},
        {"certificate": {"fingerprint": PRINT}},
    )
    assert name_of(both, "10.0.0.1") == "c1"
    assert name_of(both, "2001:db8::1") == "c1"
    assert name_of(both, "10.0.0.1", BARE) is None


def test_a_certificate_from_elsewhere_is_not_the_client_s() -> None:
    certificate = {"common_name": "NAS 1"}
    here = clients(
        {"certificate": certificate, "network": "10.1.0.0/16"}, {"certificate": certificate, "network": "2001:db8::/32"}
    )
    hosts = ["10.1.2.3", "10.2.2.3", "2001:db8::7", "2001:db9::7"]
    assert [name_of(here, host) for host in hosts] == ["c0", None, "c1", None]


def test_a_client_brings_its_secret_and_what_is_asked_of_it() -> None:
    plain, own = clients(
        {"certificate": {"fingerprint": PRINT}},
        {
            "certificate": {"fingerprint": "00" * 32},
            "require_message_authenticator": False,
            "limit_proxy_state": False,
            "send_message_authenticator": False,
        },
    ).peers
    assert plain.secret.value == own.secret.value == b"radsec"
    assert plain.secret is own.secret, "equal secrets are one object"
    assert (plain.requires_message_authenticator, plain.limits_proxy_state, plain.is_signed_to) == (True, True, True)
    assert (own.requires_message_authenticator, own.limits_proxy_state, own.is_signed_to) == (False, False, False)
