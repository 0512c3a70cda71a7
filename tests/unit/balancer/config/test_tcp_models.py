from __future__ import annotations

import pytest
from pydantic import ValidationError

from mfalb.balancer.config.tcp_models import TcpListener, TcpRoute
from mfalb.balancer.config.values import Address


@pytest.mark.parametrize("name", ["adfs.contoso.com", "*.contoso.com", "ADFS", "a_b.example", "xn--mnchen-3ya.de"])
def test_names_and_wildcards_for_one_label_are_accepted(name: str) -> None:
    assert TcpRoute(sni=name, pool="p").sni == name


@pytest.mark.parametrize("name", ["", "*", "*.", "a.*.com", "*a.com", "**.com", "*.*.com", "a b", "a..b", "x:443"])
def test_other_wildcards_and_what_is_no_name_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        TcpRoute(sni=name, pool="p")


@pytest.mark.parametrize(("names", "reads"), [((None,), False), (("a",), True), ((None, "a"), True)])
def test_a_hello_is_waited_for_only_where_a_route_has_a_name(names: tuple[str | None, ...], reads: bool) -> None:
    routes = tuple(TcpRoute(sni=name, pool="p") for name in names)
    listener = TcpListener(name="t", protocol="tcp", bind=(Address("127.0.0.1", 1),), routes=routes)
    assert listener.reads_names is reads
