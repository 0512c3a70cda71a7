import pytest

from mfalb.flows.names import Names

HOSTS = """\
# who is where
10.0.3.10  perimeter mfa.contoso.com   # both roles
10.0.3.11  perimeter STS.contoso.com

2001:db8::7  mfa1
"""


def test_a_name_has_all_its_addresses_and_an_address_its_first_name() -> None:
    names = Names.read(HOSTS)
    assert names.of("perimeter") == ("10.0.3.10", "10.0.3.11")
    assert names.of("sts.Contoso.com.") == ("10.0.3.11",)
    assert names.labels == {"10.0.3.10": "perimeter", "10.0.3.11": "perimeter", "2001:db8::7": "mfa1"}


@pytest.mark.parametrize("host", ["10.0.3.10", "elsewhere.contoso.com"])
def test_an_address_and_a_name_that_nobody_knows_stand_for_themselves(host: str) -> None:
    assert Names.read(HOSTS).of(host) == (host,)


@pytest.mark.parametrize("line", ["mfa1 10.0.1.11", "10.0.1.11", "10.0.1.300 mfa1"])
def test_what_is_no_line_of_a_hosts_file_is_told_with_its_number(line: str) -> None:
    with pytest.raises(ValueError, match="line 2 is no line"):
        Names.read(f"10.0.1.12 mfa2\n{line}\n")
