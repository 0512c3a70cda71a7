"""Rows are written as they are read: who > to transport/port."""

from __future__ import annotations

import pytest

from mfalb.flows.matrix import matrix
from mfalb.flows.names import Names
from mfalb.flows.values import Call, Caller, Comers, Door, Flow, Service, Spot, Traffic, Transport

HOSTS = """\
10.0.1.10  inside sdk.contoso.com
10.0.1.11  mfa1
10.0.1.12  mfa2
10.0.1.13  mfa3
10.0.3.10  perimeter mfa.contoso.com
10.0.3.11  perimeter sts.contoso.com
10.0.3.21  portal1
"""


def rows(*services: Service, hosts: str = HOSTS) -> list[str]:
    return [shown(flow) for flow in matrix(services, Names.read(hosts))]


def shown(flow: Flow) -> str:
    return f"{','.join(flow.sources) or 'any'} > {flow.destination} {flow.transport.value}/{flow.port}"


def spot(host: str | None, port: int = 443) -> Spot:
    return Spot(host, port)


def door(host: str | None, comers: Comers, *leads_to: Spot, networks: tuple[str, ...] = (), line: int = 1) -> Door:
    return Door(spot(host), "a door", line, comers, networks, leads_to)


def call(host: str, caller: Caller = Caller.SERVICE, *, port: int = 443, line: int = 2) -> Call:
    return Call(spot(host, port), "a call", line, caller)


def service(file: str, *said: Door | Call, group: str | None = None, runs_on: tuple[str, ...] = ()) -> Service:
    doors = tuple(one for one in said if isinstance(one, Door))
    return Service(file, Traffic(doors, tuple(one for one in said if isinstance(one, Call)), group), runs_on)


def portal(host: str = "10.0.3.21") -> Service:
    return service("portal", door(host, Comers.PEOPLE), call("sdk.contoso.com"))


def balancer(host: str | None, to: str, *, runs_on: tuple[str, ...] = ()) -> Service:
    return service("balancer", door(host, Comers.AS_BEHIND, spot(to)), call(to, Caller.FOR_OTHERS), runs_on=runs_on)


# -------------------------------------------------------------------------------- who comes to a door


def test_people_come_to_a_door_from_anywhere() -> None:
    assert rows(portal()) == ["any > 10.0.3.21 tcp/443", "10.0.3.21 > 10.0.1.10 tcp/443"]


def test_people_come_by_the_balancer_where_one_leads_to_the_door() -> None:
    assert rows(portal(), balancer("10.0.3.10", "portal1")) == [
        "any > 10.0.3.10 tcp/443",
        "10.0.3.10 > 10.0.3.21 tcp/443",
        "10.0.3.21 > 10.0.1.10 tcp/443",
    ]


def test_a_service_that_calls_for_itself_does_not_keep_people_from_a_door() -> None:
    other = service("other", door("10.0.1.11", Comers.SERVICES), call("10.0.3.21"))
    assert "any > 10.0.3.21 tcp/443" in rows(portal(), other)


def test_services_come_to_a_door_of_theirs_and_nobody_else() -> None:
    sdk = service("sdk", door("10.0.1.10", Comers.SERVICES))
    assert rows(sdk) == ["any > 10.0.1.10 tcp/443"], "who calls, no file tells"
    assert rows(sdk, service("portal", door("10.0.3.21", Comers.ALLOWED, networks=("10.0.3.10",)), call("inside"))) == [
        "10.0.3.10 > 10.0.3.21 tcp/443",
        "10.0.3.21 > 10.0.1.10 tcp/443",
    ]


def test_while_nobody_calls_a_door_for_services_its_own_networks_count() -> None:
    assert rows(service("sdk", door("10.0.1.10", Comers.SERVICES, networks=("10.0.3.0/24",)))) == [
        "10.0.3.0/24 > 10.0.1.10 tcp/443"
    ]


def test_a_balancer_before_services_is_for_those_that_call_it() -> None:
    sdk = service("sdk", door("10.0.1.11", Comers.SERVICES))
    assert rows(sdk, portal("127.0.0.1"), balancer("10.0.1.10", "mfa1")) == [
        "10.0.1.10 > 10.0.1.11 tcp/443",
        "host of portal > 10.0.1.10 tcp/443",
    ]
    assert rows(sdk, balancer("10.0.1.10", "mfa1"))[0] == "any > 10.0.1.10 tcp/443", "nobody is known to call it"


def test_a_balancer_before_what_no_file_tells_of_is_for_anybody_although_some_are_known_to_call_it() -> None:
    assert rows(portal(), balancer("10.0.1.10", "mfa1")) == [
        "any > 10.0.1.10 tcp/443",
        "any > 10.0.3.21 tcp/443",
        "10.0.1.10 > 10.0.1.11 tcp/443",
    ]


def test_a_balancer_before_a_balancer_before_services_is_for_those_that_call_it() -> None:
    sdk = service("sdk", door("10.0.1.12", Comers.SERVICES))
    chain = [
        service("front", door("10.0.1.10", Comers.AS_BEHIND, spot("mfa1")), call("mfa1", Caller.FOR_OTHERS)),
        service("back", door("10.0.1.11", Comers.AS_BEHIND, spot("mfa2")), call("mfa2", Caller.FOR_OTHERS)),
    ]
    caller = service("agent", call("sdk.contoso.com"), runs_on=("10.0.1.15",))
    assert rows(*chain, sdk, caller) == [
        "10.0.1.10 > 10.0.1.11 tcp/443",
        "10.0.1.11 > 10.0.1.12 tcp/443",
        "10.0.1.15 > 10.0.1.10 tcp/443",
    ]


def test_balancers_that_lead_to_each_other_are_for_anybody() -> None:
    there = service("there", door("10.0.1.11", Comers.AS_BEHIND, spot("10.0.1.12")), call("10.0.1.12"))
    back = service("back", door("10.0.1.12", Comers.AS_BEHIND, spot("10.0.1.11")), call("10.0.1.11"))
    assert rows(there, back) == ["any > 10.0.1.11 tcp/443", "any > 10.0.1.12 tcp/443"]


def test_members_of_a_group_come_each_from_all_the_others() -> None:
    members = [service(f"mfa{number}", door(f"10.0.1.1{number}", Comers.MEMBERS), group="hq") for number in (1, 2, 3)]
    stranger = service("stranger", door("10.0.9.9", Comers.MEMBERS), group="branch")
    assert rows(*members, stranger) == [
        f"10.0.1.1{one} > 10.0.1.1{other} tcp/443" for one in (1, 2, 3) for other in (1, 2, 3) if one != other
    ]


def test_people_who_are_sent_somewhere_come_from_anywhere() -> None:
    adfs = service(
        "adfs", door("10.0.1.11", Comers.ALLOWED, networks=("10.0.3.10",)), call("sts.contoso.com", Caller.PEOPLE)
    )
    assert rows(adfs) == ["any > 10.0.3.11 tcp/443", "10.0.3.10 > 10.0.1.11 tcp/443"]


# ------------------------------------------------------------------------------------ where things are


def test_a_host_is_where_its_service_listens_or_where_it_was_said_to_run() -> None:
    assert rows(service("a", door("10.0.3.21", Comers.PEOPLE), call("mfa1")))[1:] == ["10.0.3.21 > 10.0.1.11 tcp/443"]
    assert rows(service("a", call("mfa1"), runs_on=("perimeter",))) == ["10.0.3.10,10.0.3.11 > 10.0.1.11 tcp/443"]
    assert rows(service("a", call("mfa1"))) == ["host of a > 10.0.1.11 tcp/443"]


@pytest.mark.parametrize("host", [None, "0.0.0.0", "::"])
def test_a_door_at_every_address_is_at_all_that_are_known(host: str | None) -> None:
    everywhere = door(host, Comers.PEOPLE)
    assert rows(service("a", everywhere, runs_on=("perimeter",))) == [
        "any > 10.0.3.10 tcp/443",
        "any > 10.0.3.11 tcp/443",
    ]
    assert rows(service("a", everywhere)) == ["any > host of a tcp/443"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_what_stays_on_a_host_is_no_flow(host: str) -> None:
    assert rows(service("a", door(host, Comers.PEOPLE), call(host))) == []
    assert rows(service("a", door("10.0.1.10", Comers.ALLOWED, networks=("10.0.1.10",)), call("inside"))) == []


def test_sources_of_another_ip_version_than_the_destination_are_left_out() -> None:
    either = door("2001:db8::1", Comers.ALLOWED, networks=("10.0.5.0/24", "2001:db8:5::/48"))
    assert rows(service("a", either)) == ["2001:db8:5::/48 > 2001:db8::1 tcp/443"]
    assert rows(service("a", door("2001:db8::1", Comers.ALLOWED, networks=("10.0.5.0/24",)))) == []


# -------------------------------------------------------------------------------------- each flow once


def test_equal_flows_are_one_with_the_purposes_and_places_of_both() -> None:
    first = Call(spot("mfa1"), "sign-ins", 7)
    second = Call(spot("10.0.1.11"), "changes", 9)
    (flow,) = matrix([service("a", first, second, runs_on=("10.0.3.21",))], Names.read(HOSTS))
    assert (flow.purposes, flow.places) == (("sign-ins", "changes"), ("a:7", "a:9"))


def test_a_flow_that_a_wider_one_contains_is_told_there() -> None:
    doors = [
        door("10.0.1.10", Comers.ALLOWED, networks=networks, line=line)
        for line, networks in enumerate([("10.0.5.7",), ("10.0.5.0/24",), ("10.0.6.0/24", "10.0.5.0/25")], start=1)
    ]
    narrow, wide, apart = doors
    (flow,) = matrix([service("a", narrow, wide)], Names())
    assert (shown(flow), flow.places) == ("10.0.5.0/24 > 10.0.1.10 tcp/443", ("a:2", "a:1"))
    assert len(rows(service("a", wide, apart))) == 2, "only a part of one is in the other"
    assert rows(service("a", *doors, door("10.0.1.10", Comers.ALLOWED))) == ["any > 10.0.1.10 tcp/443"]


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_flows_that_contain_each_other_one_stays(order: int) -> None:
    both = [("10.0.5.0/24", "10.0.5.7"), ("10.0.5.0/24",)][::order]
    doors = [door("10.0.1.10", Comers.ALLOWED, networks=networks) for networks in both]
    assert rows(service("a", *doors)) == [f"{','.join(both[0])} > 10.0.1.10 tcp/443"]
    assert rows(
        service("a", *(door("10.0.1.10", Comers.ALLOWED, networks=(one,)) for one in ("10.0.5.7/32", "10.0.5.7")))
    ) == ["10.0.5.7 > 10.0.1.10 tcp/443"]


def test_transports_are_told_apart() -> None:
    calls = [Call(Spot("mfa1", 1812, transport), "RADIUS", 1) for transport in Transport]
    assert rows(service("a", *calls, runs_on=("inside",))) == [
        "10.0.1.10 > 10.0.1.11 tcp/1812",
        "10.0.1.10 > 10.0.1.11 udp/1812",
    ]


def test_rows_are_in_the_order_of_addresses_and_not_of_files() -> None:
    calls = [service(host, call("mfa1"), runs_on=(host,)) for host in ("10.0.3.9", "named", "10.0.3.10")]
    assert rows(*calls) == [f"{host} > 10.0.1.11 tcp/443" for host in ("10.0.3.9", "10.0.3.10", "named")]
