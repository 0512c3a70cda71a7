"""Accounting-Requests: what passes, what is discarded, who gets them, and what is never made up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

import pytest
from unit.balancer.exchange.radius_world import (
    AUTHENTICATOR,
    CLIENT,
    ENTROPY,
    World,
    access_request,
    received,
    sent,
    server_answer,
    sign_in,
)
from unit.wire import pyrad_peer

from mfalb.balancer.affinity.store import Pin
from mfalb.balancer.config.models import Affinity, NoAffinity
from mfalb.balancer.config.radius_models import RadiusSessionAffinity
from mfalb.balancer.exchange.radius_accounting import Accounting, FollowedAuthentication
from mfalb.balancer.exchange.radius_exchange import Drop, Forward, RadiusExchange, Reply, Resend
from mfalb.balancer.exchange.radius_service import RadiusService
from mfalb.balancer.pools.backend import AdminState
from mfalb.wire import radius
from mfalb.wire.radius import SharedSecret

Attributes = Sequence[tuple[int, bytes]]
START, STOP, INTERIM, ON, OFF = (status.to_bytes(4, "big") for status in (1, 2, 3, 7, 8))
SESSION = 44  # Acct-Session-Id
RECORD: Attributes = (
    (radius.ACCT_STATUS_TYPE, START),
    (SESSION, b"0001"),
    (radius.USER_NAME, b"alice"),
    (radius.CALLING_STATION_ID, b"00-11-22"),
)
SESSION_S = 86_400.0


@dataclass
class AccountingWorld(World):
    """One accounting listener; with `follows` its pool follows the pool of that name."""

    follows: str | None = None

    def make_service(self) -> RadiusService:
        return Accounting(self.pool, self.upstreams, self.pins)

    def affinity(self) -> Affinity:
        if self.follows is None:
            return NoAffinity()
        return RadiusSessionAffinity(type="radius_session", follows=self.follows, lifetime_s=SESSION_S)


class FollowedWorld(World):
    """One authentication listener whose pool, `mfa`, is followed."""

    def make_service(self) -> RadiusService:
        return FollowedAuthentication(self.pool, self.upstreams, self.pins, SESSION_S)


def record(
    *attributes: tuple[int, bytes], identifier: int = 7, secret: SharedSecret = CLIENT, is_mac_added: bool = False
) -> bytes:
    body = b"".join(radius.attribute(*one) for one in attributes or RECORD)
    return radius.content_signed_request(radius.ACCOUNTING_REQUEST, identifier, body, secret, is_mac_added=is_mac_added)


def kept(world: World, exchange: RadiusExchange, *attributes: tuple[int, bytes], now: float = 0.0) -> Reply | Drop:
    """The server says that it keeps the record, as servers of before 2024 do."""
    return world.answer(exchange, radius.ACCOUNTING_RESPONSE, *attributes, now=now, is_signed=False)


# ------------------------------------------------------------------------------- authenticators (A8, E6)


@pytest.mark.parametrize("is_mac_added", [False, True])
@pytest.mark.parametrize("is_shared_secret", [False, True])
def test_a8_a_record_is_signed_anew_for_its_server_as_pyrad_would_have_it(
    *, is_shared_secret: bool, is_mac_added: bool
) -> None:
    exchange = AccountingWorld(is_shared_secret=is_shared_secret).begin(record(is_mac_added=is_mac_added))
    assert exchange.datagram[1] == 200
    assert pyrad_peer.accepts_accounting(exchange.datagram, exchange.upstream.secret)
    assert (radius.MESSAGE_AUTHENTICATOR in sent(exchange).offsets) is is_mac_added


def test_a8_a_record_with_a_wrong_authenticator_is_dropped_and_begins_nothing() -> None:
    world = AccountingWorld()
    wrong = bytearray(record())
    wrong[10] ^= 1
    assert world.request(bytes(wrong)) == Drop("bad_request_authenticator")
    assert world.request(record(secret=SharedSecret(b"another"))) == Drop("bad_request_authenticator")
    assert not world.exchanges.duplicates.in_flight


def test_a8_a_record_whose_content_was_altered_on_the_way_is_dropped() -> None:
    altered = record().replace(b"alice", b"mallo")
    assert AccountingWorld().request(altered) == Drop("bad_request_authenticator")


def test_a2_a_record_may_have_4095_bytes_and_no_more() -> None:
    """RFC 2866 section 3: one less than an Access-Request."""
    filling = [(radius.REPLY_MESSAGE, bytes(253))] * 15
    rest = 4095 - 20 - 15 * 255 - 2
    longest = record(*filling, (radius.REPLY_MESSAGE, bytes(rest)))
    assert len(longest) == 4095
    assert len(AccountingWorld().begin(longest).datagram) == 4095
    assert AccountingWorld().request(record(*filling, (radius.REPLY_MESSAGE, bytes(rest + 1)))) == Drop("bad_length")


@pytest.mark.parametrize("code", [1, 2, 3, 5, 11, 40, 43, 255])
def test_a5_other_codes_are_dropped(code: int) -> None:
    datagram = radius.content_signed_request(code, 7, b"", CLIENT)
    assert AccountingWorld().request(datagram) == Drop("unexpected_code")


def test_e6_a_message_authenticator_is_not_asked_for_and_no_proxy_state_has_to_be_signed() -> None:
    """The client of the world has to sign its Access-Requests; its records cannot be altered unsigned as they are."""
    world = AccountingWorld()
    world.client.limits_proxy_state = True
    assert radius.MESSAGE_AUTHENTICATOR not in sent(world.begin(record(*RECORD, (radius.PROXY_STATE, b"p")))).offsets


def test_e6_a_message_authenticator_is_checked_with_the_authenticator_as_zeros() -> None:
    datagram = record(is_mac_added=True)
    mac = CLIENT.hmac(datagram[:4] + bytes(16) + datagram[20:22] + bytes(16) + datagram[38:])
    assert datagram[22:38] == mac
    assert isinstance(AccountingWorld().request(datagram), Forward)


def test_e6_a_wrong_message_authenticator_is_dropped_though_the_authenticator_is_right() -> None:
    wrong = record((radius.MESSAGE_AUTHENTICATOR, b"w" * 16), *RECORD)
    assert AccountingWorld().request(wrong) == Drop("bad_message_authenticator")


def test_e6_a_message_authenticator_of_the_server_is_checked_and_made_anew_and_none_is_added() -> None:
    world = AccountingWorld()
    signed = world.answer(world.begin(record()), radius.ACCOUNTING_RESPONSE)
    assert radius.has_valid_message_authenticator(received(signed), CLIENT, record()[4:20])
    unsigned = kept(world, world.begin(record(identifier=8)))
    assert radius.MESSAGE_AUTHENTICATOR not in received(unsigned).offsets


def test_e6_a_message_authenticator_made_over_zeros_as_freeradius_makes_it_passes_as_one() -> None:
    world = AccountingWorld()
    exchange = world.begin(record())
    answer = radius.response_signed_over_zeros(
        radius.ACCOUNTING_RESPONSE, exchange.datagram[1], exchange.upstream_authenticator, b"", exchange.upstream.secret
    )
    reply = received(world.exchanges.answer(exchange, answer, 0.0))
    assert radius.has_valid_message_authenticator(reply, CLIENT, bytes(16))
    assert radius.has_valid_response_authenticator(reply, CLIENT, record()[4:20])
    assert reply.attributes()[0][0] == radius.MESSAGE_AUTHENTICATOR


@pytest.mark.parametrize("is_over_zeros", [False, True])
def test_e6_a_message_authenticator_of_nobody_s_is_dropped_whatever_it_was_made_over(*, is_over_zeros: bool) -> None:
    world = AccountingWorld()
    exchange = world.begin(record())
    sign = radius.response_signed_over_zeros if is_over_zeros else radius.signed_response
    upstream = exchange.upstream
    answer = bytearray(
        sign(radius.ACCOUNTING_RESPONSE, exchange.datagram[1], exchange.upstream_authenticator, b"", upstream.secret)
    )
    answer[30] ^= 1  # within the Message-Authenticator; then signed rightly
    answer[4:20] = upstream.secret.digest_of(bytes(answer[:4]), exchange.upstream_authenticator, bytes(answer[20:]))
    assert world.exchanges.answer(exchange, bytes(answer), 0.0) == Drop("bad_message_authenticator")


def test_e6_a_client_that_chokes_on_a_message_authenticator_gets_none() -> None:
    world = AccountingWorld()
    world.client.is_signed_to = False
    assert radius.MESSAGE_AUTHENTICATOR not in received(world.answer(world.begin(record()), 5)).offsets


# --------------------------------------------------------------------------- attributes (A9, A10, B3, B4)


def test_a9_and_a10_every_attribute_passes_as_it_is_and_in_its_place() -> None:
    odd: Attributes = (
        (radius.PROXY_STATE, b"first"),
        (26, b"\0\0\0\x09\xff\x00not a sub-attribute"),
        (241, b"\x01extended"),
        (radius.CLASS, b"\0class"),
        (254, b""),
        (radius.PROXY_STATE, b"second"),
        (radius.CLASS, b"another"),
        (radius.ACCT_DELAY_TIME, b"odd"),
        (radius.STATE, b"state"),
    )
    for is_mac_added in (False, True):
        passed = sent(AccountingWorld().begin(record(*odd, is_mac_added=is_mac_added))).attributes()
        assert passed[is_mac_added:] == list(odd)  # the new Message-Authenticator comes first


def test_b2_the_answer_has_the_client_s_identifier_and_signature_and_the_server_s_attributes() -> None:
    world = AccountingWorld()
    exchange = world.begin(record(*RECORD, (radius.PROXY_STATE, b"one"), (radius.PROXY_STATE, b"two")))
    answer = received(kept(world, exchange, (radius.PROXY_STATE, b"one"), (radius.PROXY_STATE, b"two"), (26, b"odd")))
    assert (answer.code, answer.identifier) == (radius.ACCOUNTING_RESPONSE, 7)
    assert answer.attributes() == [(33, b"one"), (33, b"two"), (26, b"odd")]
    assert radius.has_valid_response_authenticator(answer, CLIENT, exchange.request.authenticator)


@pytest.mark.parametrize("code", [radius.ACCESS_ACCEPT, radius.ACCOUNTING_REQUEST, radius.COA_ACK])
def test_b1_an_answer_of_another_kind_is_dropped_and_the_exchange_goes_on(code: int) -> None:
    world = AccountingWorld()
    exchange = world.begin(record())
    assert world.answer(exchange, code, is_signed=False) == Drop("unexpected_answer_code")
    assert isinstance(kept(world, exchange), Reply)


def test_b1_a_forged_answer_is_dropped_and_the_exchange_goes_on() -> None:
    world = AccountingWorld()
    exchange = world.begin(record())
    answer = server_answer(exchange, radius.ACCOUNTING_RESPONSE, is_signed=False)
    assert world.exchanges.answer(exchange, answer[:-1] + bytes((answer[-1] ^ 1,)), 0.0) == Drop(
        "bad_response_authenticator"
    )
    assert world.answer(exchange, 5, (radius.PROXY_STATE, b"nobody's")) == Drop("foreign_proxy_state")
    assert isinstance(kept(world, exchange), Reply)


# ------------------------------------------------------------------------ retransmits and moves (C1, C2, C7)


def test_c1_a_retransmit_in_flight_is_the_same_bytes_to_the_same_server_at_most_once_a_second() -> None:
    world = AccountingWorld()
    exchange = world.begin(record(), now=10.0)
    datagram = exchange.datagram
    assert world.request(record(), now=10.9) == Drop("duplicate_in_flight")
    assert isinstance(world.request(record(), now=11.0), Resend)
    assert exchange.datagram == datagram


def test_c2_a_retransmit_after_the_answer_gets_the_stored_bytes() -> None:
    world = AccountingWorld()
    first = kept(world, world.begin(record()), now=1.0)
    assert isinstance(first, Reply)
    assert world.request(record(), now=5.0) == Reply(first.datagram, "repeated")


def delay(seconds: int) -> tuple[int, bytes]:
    return radius.ACCT_DELAY_TIME, seconds.to_bytes(4, "big")


def test_c7_a_record_sent_again_with_another_delay_is_a_new_transaction() -> None:
    world = AccountingWorld()
    first = world.begin(record(*RECORD, delay(0), identifier=7))
    second = world.begin(record(*RECORD, delay(5), identifier=8), now=5.0)
    assert first is not second
    assert sent(second).first(radius.ACCT_DELAY_TIME) == b"\0\0\0\5"


def moved(world: World, datagram: bytes, waited_s: float) -> RadiusExchange:
    """The record went to a server that is down by now; the client asks again after `waited_s`."""
    exchange = world.begin(datagram, now=100.0)
    first = exchange.backend.name
    world.set_up(first, is_up=False)
    decision = world.request(datagram, now=100.0 + waited_s)
    assert isinstance(decision, Forward)
    assert decision.exchange is exchange
    assert exchange.backend.name != first
    return exchange


@pytest.mark.parametrize(
    ("before", "waited_s", "after"),
    [(0, 0.9, 0), (0, 1.0, 1), (3, 4.7, 7), (3, 60.0, 63), (0xFFFFFFFF, 5.0, 0xFFFFFFFF)],
)
def test_c7_a_record_that_moves_to_another_server_later_says_how_long_it_waited(
    before: int, waited_s: float, after: int
) -> None:
    exchange = moved(AccountingWorld(), record(*RECORD, delay(before), (radius.PROXY_STATE, b"p")), waited_s)
    assert sent(exchange).attributes() == [*RECORD, delay(after), (radius.PROXY_STATE, b"p")]
    assert pyrad_peer.accepts_accounting(exchange.datagram, exchange.upstream.secret)


def test_c7_the_delay_is_counted_under_the_message_authenticator_as_well() -> None:
    exchange = moved(AccountingWorld(), record(*RECORD, delay(1), is_mac_added=True), 3.0)
    packet = sent(exchange)
    assert packet.first(radius.ACCT_DELAY_TIME) == b"\0\0\0\4"
    assert radius.has_valid_message_authenticator(packet, exchange.upstream.secret, bytes(16))


def test_c7_a_record_without_a_delay_is_given_none() -> None:
    assert sent(moved(AccountingWorld(), record(), 30.0)).attributes() == list(RECORD)


def test_c7_an_odd_delay_is_left_alone() -> None:
    odd = (radius.ACCT_DELAY_TIME, b"\0\0\1")
    assert sent(moved(AccountingWorld(), record(*RECORD, odd), 30.0)).attributes() == [*RECORD, odd]


def test_c7_a_record_that_was_refused_at_once_goes_elsewhere_as_it_is() -> None:
    world = AccountingWorld()
    exchange = world.begin(record(*RECORD, delay(2)), now=10.0)
    decision = world.carry(world.exchanges.refused(exchange, 10.1, ENTROPY), 10.1)
    assert isinstance(decision, Forward)
    assert sent(exchange).first(radius.ACCT_DELAY_TIME) == b"\0\0\0\2"


def test_c7_the_answer_to_a_moved_record_is_signed_for_the_request_that_the_client_sent() -> None:
    world, datagram = AccountingWorld(), record(*RECORD, delay(0))
    answer = received(kept(world, moved(world, datagram, 9.0), now=110.0))
    assert radius.has_valid_response_authenticator(answer, CLIENT, datagram[4:20])


# ----------------------------------------------------------------------- nothing is made up (C8); Status-Server


def test_c8_with_no_server_up_a_record_is_met_with_silence() -> None:
    world = AccountingWorld()
    for name in ("b1", "b2"):
        world.set_up(name, is_up=False)
    assert world.request(record()) == Drop("no_backend")


def test_c8_a_record_whose_servers_all_went_down_stays_where_it_is_and_meets_silence() -> None:
    world = AccountingWorld()
    exchange = moved(world, record(), 3.0)
    world.set_up(exchange.backend.name, is_up=False)
    last = exchange.backend
    assert world.request(record(), now=106.0) == Resend(exchange)
    assert exchange.backend is last
    assert not world.exchanges.duplicates.answered


def test_c8_a_record_that_no_server_answers_ends_in_silence() -> None:
    world = AccountingWorld()
    exchange = world.begin(record())
    assert world.exchanges.expire(1000.0) == [exchange]
    assert not world.exchanges.duplicates.answered


def test_d1_status_server_is_answered_with_an_accounting_response() -> None:
    datagram = radius.signed_request(radius.STATUS_SERVER, 9, AUTHENTICATOR, b"", CLIENT)
    answer = received(AccountingWorld().request(datagram))
    assert (answer.code, answer.identifier) == (radius.ACCOUNTING_RESPONSE, 9)
    assert pyrad_peer.accepts_reply(datagram, answer.data, CLIENT)


def test_d1_status_server_has_to_be_signed_and_is_not_answered_when_no_server_is_up() -> None:
    world = AccountingWorld(servers=1)
    head = bytes((radius.STATUS_SERVER, 9, 0, 20))
    assert world.request(head + AUTHENTICATOR) == Drop("missing_message_authenticator")
    world.set_up("b1", is_up=False)
    datagram = radius.signed_request(radius.STATUS_SERVER, 9, AUTHENTICATOR, b"", CLIENT)
    assert world.request(datagram) == Drop("status_no_backend")


# ----------------------------------------------------------------- accounting follows its authentication


@dataclass
class Site:
    """Both listeners of a site; they share a pin table, and their servers have the same names."""

    auth: World
    acct: AccountingWorld
    identifiers: Iterator[int] = field(default_factory=count)

    def let_in(self, *attributes: tuple[int, bytes], request: bytes | None = None, now: float = 0.0) -> str:
        """A whole sign-in; returns the name of the server that let the session in."""
        exchange = self.auth.begin(request or session(), now)
        self.auth.answer(exchange, radius.ACCESS_ACCEPT, *attributes, now=now)
        return exchange.backend.name

    def keeper(self, *attributes: tuple[int, bytes], now: float = 1.0) -> str:
        """The name of the server that gets a record."""
        return self.acct.begin(record(*attributes, identifier=next(self.identifiers)), now).backend.name

    def keepers(self, *attributes: tuple[int, bytes], now: float = 1.0) -> list[str]:
        """Who gets four records like this one."""
        return [self.keeper(*attributes, now=now) for _ in range(4)]


@pytest.fixture
def site() -> Site:
    auth = FollowedWorld(servers=3)
    return Site(auth, AccountingWorld(servers=3, follows="mfa", pins=auth.pins))


STATION = (radius.CALLING_STATION_ID, b"00-11-22")


def session(user: bytes = b"alice", station: bytes = b"00-11-22", identifier: int = 7) -> bytes:
    return access_request((radius.USER_NAME, user), (radius.CALLING_STATION_ID, station), identifier=identifier)


def test_the_records_of_a_session_go_to_the_server_that_let_it_in(site: Site) -> None:
    users = [f"user{number}".encode() for number in range(9)]
    servers = {
        user: site.let_in((radius.CLASS, b"c" + user), request=session(user, identifier=number))
        for number, user in enumerate(users)
    }
    assert set(servers.values()) == {"b1", "b2", "b3"}
    for user in reversed(users):
        by_class = ((radius.USER_NAME, user), (radius.CLASS, b"c" + user))
        assert set(site.keepers(*by_class)) == {servers[user]}
        assert set(site.keepers((radius.USER_NAME, user), STATION)) == {servers[user]}


def test_a_session_without_a_class_is_found_by_user_and_station(site: Site) -> None:
    server = site.let_in()
    assert set(site.keepers((radius.USER_NAME, b"alice"), STATION)) == {server}
    assert len(set(site.keepers((radius.USER_NAME, b"alice"), (radius.CALLING_STATION_ID, b"other")))) == 3


def test_the_class_tells_two_sessions_of_one_user_and_station_apart(site: Site) -> None:
    first = site.let_in((radius.CLASS, b"one"), request=session(identifier=1))
    second = site.let_in((radius.CLASS, b"two"), request=session(identifier=2))
    assert first != second
    alice = ((radius.USER_NAME, b"alice"), STATION)
    assert set(site.keepers(*alice, (radius.CLASS, b"one"))) == {first}
    assert set(site.keepers(*alice, (radius.CLASS, b"two"))) == {second}
    assert set(site.keepers(*alice)) == {second}


def test_users_of_one_class_are_told_apart(site: Site) -> None:
    """VPN servers put a user's group into Class: the same bytes for all of its members."""
    group = (radius.CLASS, b"OU=Sales")
    alice = site.let_in(group, request=session(b"alice", identifier=1))
    bob = site.let_in(group, request=session(b"bob", identifier=2))
    assert alice != bob
    assert set(site.keepers((radius.USER_NAME, b"alice"), group)) == {alice}
    assert set(site.keepers((radius.USER_NAME, b"bob"), group)) == {bob}


def test_a_user_whom_the_accept_names_anew_is_found_by_either_name(site: Site) -> None:
    """RFC 2865 section 5.1: what the Accept says SHOULD be used in accounting."""
    server = site.let_in((radius.USER_NAME, b"alice"), (radius.CLASS, b"c"), request=session(b"anonymous@example.com"))
    for name in (b"alice", b"anonymous@example.com"):
        assert set(site.keepers((radius.USER_NAME, name), (radius.CLASS, b"c"))) == {server}
        assert set(site.keepers((radius.USER_NAME, name), STATION)) == {server}


def test_the_session_of_another_client_is_another_session(site: Site) -> None:
    site.let_in((radius.CLASS, b"c"))
    site.acct.client.name = "wifi"
    assert len(set(site.keepers(*RECORD, (radius.CLASS, b"c")))) == 3


@pytest.mark.parametrize("status", [ON, OFF])
def test_accounting_on_and_off_are_of_no_session_and_are_balanced(site: Site, status: bytes) -> None:
    site.let_in()
    whole_nas = ((radius.ACCT_STATUS_TYPE, status), (radius.USER_NAME, b"alice"), STATION)
    assert set(site.keepers(*whole_nas)) == {"b1", "b2", "b3"}


@pytest.mark.parametrize("status", [START, INTERIM, STOP])
def test_every_record_of_a_session_follows(site: Site, status: bytes) -> None:
    server = site.let_in()
    assert set(site.keepers((radius.ACCT_STATUS_TYPE, status), *RECORD[2:])) == {server}


def test_the_records_of_a_session_whose_server_is_down_go_to_another_and_come_back_with_it(site: Site) -> None:
    server = site.let_in()
    site.acct.set_up(server, is_up=False)
    assert set(site.keepers(*RECORD)) == {"b1", "b2", "b3"} - {server}
    site.acct.set_up(server)
    assert site.keeper(*RECORD) == server


def test_a_draining_server_gets_the_records_of_its_sessions_still(site: Site) -> None:
    server = site.let_in()
    site.acct.pool.set_admin_state(server, AdminState.DRAIN, 0.0)
    assert set(site.keepers(*RECORD)) == {server}


def test_a_server_that_keeps_no_records_leaves_them_to_the_others(site: Site) -> None:
    users = enumerate((b"a", b"b", b"c"))
    servers = {user: site.let_in(request=session(user, identifier=number)) for number, user in users}
    del site.acct.pool.backends["b3"]
    site.acct.pool.refresh()
    (stranded,) = [user for user, server in servers.items() if server == "b3"]
    assert set(site.keepers((radius.USER_NAME, stranded), STATION)) == {"b1", "b2"}


def test_a_session_is_followed_for_its_lifetime(site: Site) -> None:
    server = site.let_in(now=10.0)
    assert set(site.keepers(*RECORD, now=9.0 + SESSION_S)) == {server}
    assert len(set(site.keepers(*RECORD, now=11.0 + SESSION_S))) == 3


@pytest.mark.parametrize("code", [radius.ACCESS_REJECT, radius.ACCESS_CHALLENGE])
def test_who_was_not_let_in_has_no_session(site: Site, code: int) -> None:
    site.auth.answer(site.auth.begin(session()), code, (radius.CLASS, b"c"))
    assert len(set(site.keepers(*RECORD, (radius.CLASS, b"c")))) == 3


def test_the_pins_of_a_challenge_stand_beside_those_of_sessions(site: Site) -> None:
    server = site.auth.challenge(b"state")
    assert site.auth.begin(sign_in(state=b"state", identifier=8)).backend.name == server


def test_an_accept_that_names_nobody_makes_no_pin() -> None:
    world = FollowedWorld()
    exchange = world.begin(access_request(STATION))
    decision = world.answer(exchange, radius.ACCESS_ACCEPT)
    assert isinstance(decision, Reply)
    assert decision.pins == ()


def test_an_accept_of_a_pool_that_nobody_follows_makes_no_pin() -> None:
    world = World()
    decision = world.answer(world.begin(session()), radius.ACCESS_ACCEPT, (radius.CLASS, b"c"))
    assert isinstance(decision, Reply)
    assert decision.pins == ()


def test_without_affinity_records_are_balanced(site: Site) -> None:
    site.let_in()
    plain = Site(site.auth, AccountingWorld(servers=3, pins=site.auth.pins))
    assert set(plain.keepers(*RECORD)) == {"b1", "b2", "b3"}


def test_a_record_of_the_size_of_nothing_is_carried() -> None:
    """RFC 2866 asks servers, not proxies, to look for Acct-Status-Type."""
    empty = radius.content_signed_request(radius.ACCOUNTING_REQUEST, 1, b"", CLIENT)
    exchange = AccountingWorld(follows="mfa").begin(empty)
    assert len(exchange.datagram) == 20


# --------------------------------------------------------------------------------- what is hidden, and passes


@pytest.mark.parametrize("is_shared_secret", [True, False])
def test_a9_what_is_hidden_passes_as_it_is_and_is_counted_where_secrets_differ(*, is_shared_secret: bool) -> None:
    hidden = [(radius.TUNNEL_PASSWORD, bytes(19)), (radius.USER_PASSWORD, bytes(16))]
    world = AccountingWorld(is_shared_secret=is_shared_secret)
    exchange = world.begin(record(*RECORD, *hidden))
    assert sent(exchange).attributes()[-2:] == hidden
    counted = {} if is_shared_secret else {"Tunnel-Password": 1, "User-Password": 1}
    assert world.service.unhandled_hidden == counted
    answer = received(world.answer(exchange, radius.ACCOUNTING_RESPONSE, hidden[0]))
    assert answer.first(radius.TUNNEL_PASSWORD) == bytes(19)
    assert world.service.unhandled_hidden == ({} if is_shared_secret else {"Tunnel-Password": 2, "User-Password": 1})


# ------------------------------------------------------------------------------------ pins that nodes share


def missing(world: AccountingWorld, *attributes: tuple[int, bytes]) -> tuple[bytes, ...]:
    packet = world.service.request_untrusted(record(*attributes), world.client)
    return world.service.missing_keys(packet, world.client, 0.0)


def test_a_followed_session_that_this_node_does_not_know_is_looked_for_by_class_and_by_station() -> None:
    world = AccountingWorld(follows="mfa")
    session_s = (*RECORD, (radius.CLASS, b"c"))
    keys = missing(world, *session_s)
    assert len(keys) == 2
    for known in keys:
        world.pins.put(Pin(known, "b1", 300.0), 0.0)
        assert missing(world, *session_s) == (), "one of them is enough"
        world.pins.put(Pin(known, "b1", 0.0), 0.0)


def test_nothing_is_looked_for_where_nothing_is_followed_and_for_a_whole_nas() -> None:
    assert missing(AccountingWorld(), *RECORD) == ()
    assert missing(AccountingWorld(follows="mfa"), (radius.ACCT_STATUS_TYPE, b"\0\0\0\7"), *RECORD[1:]) == ()
