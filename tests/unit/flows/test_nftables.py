import pytest

from mfalb.flows.nftables import ruleset
from mfalb.flows.values import Flow, Transport


def rules(*flows: Flow) -> list[str]:
    return [line.strip() for line in ruleset(flows).splitlines() if " daddr " in line]


@pytest.mark.parametrize(
    ("sources", "destination", "match"),
    [
        ((), "10.0.3.10", "ip daddr 10.0.3.10"),
        (("10.0.5.0/24",), "10.0.1.10", "ip saddr 10.0.5.0/24 ip daddr 10.0.1.10"),
        (("10.0.3.10", "10.0.3.11"), "10.0.1.10", "ip saddr { 10.0.3.10, 10.0.3.11 } ip daddr 10.0.1.10"),
        (("2001:db8:5::/48",), "2001:db8::1", "ip6 saddr 2001:db8:5::/48 ip6 daddr 2001:db8::1"),
    ],
)
def test_a_flow_is_a_rule_for_new_connections(sources: tuple[str, ...], destination: str, match: str) -> None:
    flow = Flow(sources, destination, Transport.UDP, 1812, ("RADIUS of vpn", "more"))
    expected = f'{match} udp dport 1812 ct state new counter accept comment "RADIUS of vpn; more"'
    assert rules(flow) == [expected]


def test_everything_else_is_dropped_and_counted() -> None:
    text = ruleset([])
    assert "policy drop;" in text
    assert 'counter comment "dropped"' in text
    assert "accept" not in text.replace("ct state established,related accept", "")


def test_a_comment_cannot_end_itself_nor_be_too_long_for_the_kernel() -> None:
    (rule,) = rules(Flow((), "10.0.3.10", Transport.TCP, 443, (f'a" accept\n{"b" * 200}',)))
    comment = rule.partition(' comment "')[2]
    assert comment == f'a_ accept_{"b" * 110}"'


def test_hosts_without_an_address_are_all_named() -> None:
    flow = Flow(("host of a.yaml",), "mfa1.contoso.com", Transport.TCP, 443)
    with pytest.raises(ValueError, match=r"no address is known for host of a\.yaml, mfa1\.contoso\.com; .*--hosts"):
        ruleset([flow, flow])
