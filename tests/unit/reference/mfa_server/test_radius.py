from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
import pytest_asyncio
from unit.telemetry.told import told
from unit.wire.pyrad_peer import accepts_reply

from mfalb.reference.config.mfa_server import RadiusProtocol, RadiusSettings
from mfalb.reference.config.passwords import PasswordHash
from mfalb.reference.config.values import Endpoint, Method, StateKind, User
from mfalb.reference.directory import Directory, nt_hash
from mfalb.reference.faults import Faults
from mfalb.reference.mfa_server.radius import RadiusFront
from mfalb.reference.mfa_server.radius_mschap import Exchange
from mfalb.reference.mfa_server.second_factor import Begun, FirstHalf, SecondFactor
from mfalb.reference.mfa_server.verification import Outcome
from mfalb.wire import radius
from mfalb.wire.radius import Packet, SharedSecret
from mfalb.wire.radius_hidden import hide_password

SECRET = SharedSecret(b"radius-secret")
TEXTED = User("Alice", "password-a", "+1 555 0101")
CALLED = User("bob", "password-b", "+1 555 0102", Method.PHONE_CALL)
WITHOUT_NT_HASH = User("carol", "", "+1 555 0103", Method.PHONE_CALL, password_hash=PasswordHash.of("password-c"))
DIRECTORY = Directory([TEXTED, CALLED, WITHOUT_NT_HASH])
CODE = "123456"
NAS = ("127.0.0.1", 40_000)
STRANGER = ("192.0.2.1", 40_000)


@dataclass
class FakeSecondFactor:
    """Texts and rings nobody. A begun half waits for `answered`, as a person lets it."""

    begun: Begun = Begun.TEXT_SENT
    rung: list[str] = field(default_factory=list)
    ids: dict[tuple[str, str], str] = field(default_factory=dict)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    is_ringing: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.answered.set()

    async def begin(self, user: User, request_id: str, client: str = "") -> FirstHalf:
        assert client == NAS[0]
        self.rung.append(user.name)
        self.is_ringing.set()
        await self.answered.wait()
        self.ids[user.name.lower(), request_id] = CODE
        return FirstHalf(self.begun, request_id)

    async def verify(self, user_name: str, request_id: str, otp: str) -> Outcome:
        is_right = self.ids.get((user_name.lower(), request_id)) == otp
        return Outcome.ACCEPTED if is_right else Outcome.UNKNOWN


class FakeTransport(asyncio.DatagramTransport):
    """Keeps what was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[bytes, Any]] = []
        self.has_closed = False

    def sendto(self, data: Any, addr: Any = None) -> None:
        self.sent.append((bytes(data), addr))

    def close(self) -> None:
        self.has_closed = True


class Server:
    """A RADIUS front between a fake transport and a fake second factor."""

    def __init__(self, state: StateKind = StateKind.UNIQUE, *, requires_message_authenticator: bool = True) -> None:
        settings = RadiusSettings(
            Endpoint(), "127.0.0.0/8", SECRET.value.decode(), state, requires_message_authenticator
        )
        self.factor = FakeSecondFactor()
        self.front = RadiusFront(settings, DIRECTORY, cast("SecondFactor", self.factor))
        self.transport = FakeTransport()
        self.front.connection_made(self.transport)

    def receive(self, datagram: bytes, address: tuple[str, int] = NAS) -> None:
        self.front.datagram_received(datagram, address)

    async def at_rest(self) -> None:
        """Return when every request is answered or discarded."""
        await asyncio.gather(*self.front._tasks._running)

    async def asked(self, request: bytes) -> Packet:
        """The one answer to a request, proved genuine by our own reader and by pyrad's."""
        before = len(self.transport.sent)
        self.receive(request)
        await self.at_rest()
        ((answer, address),) = self.transport.sent[before:]
        assert address == NAS
        return genuine(answer, request)

    async def rung(self) -> None:
        """Return when a phone rings that nobody has answered yet."""
        await asyncio.wait_for(self.factor.is_ringing.wait(), 5)


def genuine(answer: bytes, request: bytes) -> Packet:
    packet, asked = radius.read_untrusted(answer), radius.read_untrusted(request)
    assert packet.identifier == asked.identifier
    assert radius.has_valid_response_authenticator(packet, SECRET, asked.authenticator)
    assert radius.has_valid_message_authenticator(packet, SECRET, asked.authenticator)
    assert packet.attributes()[0][0] == radius.MESSAGE_AUTHENTICATOR, "it must stand first"
    assert accepts_reply(request, answer, SECRET)
    return packet


def body_of(user: str, password: str, authenticator: bytes, *more: tuple[int, bytes]) -> bytes:
    hidden = hide_password(password.encode(), SECRET, authenticator)
    attributes = [(radius.USER_NAME, user.encode()), (radius.USER_PASSWORD, hidden), *more]
    return b"".join(radius.attribute(kind, value) for kind, value in attributes)


def request(user: str, password: str, *more: tuple[int, bytes], identifier: int = 7, mark: bytes = b"1") -> bytes:
    """An Access-Request; another `mark` is another authenticator."""
    authenticator = mark * 16
    body = body_of(user, password, authenticator, *more)
    return radius.signed_request(radius.ACCESS_REQUEST, identifier, authenticator, body, SECRET)


def unsigned(datagram: bytes) -> bytes:
    """The request without its Message-Authenticator."""
    body = radius.body_without_message_authenticator(radius.read_untrusted(datagram))
    return datagram[:2] + (20 + len(body)).to_bytes(2, "big") + datagram[4:20] + body


HALF_ONE = request("alice", TEXTED.password)
CALL = request("bob", CALLED.password)
MARKS = (b"a", b"b", b"c", b"d")
PROXIES = tuple((radius.PROXY_STATE, value) for value in (b"outer", b"", b"inner", b"outer"))


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    yield server
    await server.front.close()


# ------------------------------------------------------------------------------------ the sign-in


async def test_password_then_challenge_then_code_is_a_sign_in(server: Server) -> None:
    challenge = await server.asked(HALF_ONE)
    assert challenge.code == radius.ACCESS_CHALLENGE
    state = challenge.first(radius.STATE)
    assert state is not None
    assert len(state) == 16
    answer = await server.asked(request("ALICE", CODE, (radius.STATE, state), mark=b"2"))
    assert answer.code == radius.ACCESS_ACCEPT
    assert answer.first(radius.STATE) is None
    assert server.factor.rung == ["Alice"], "one text for both halves"


@pytest.mark.parametrize(
    ("user", "code", "state"), [("alice", "000000", None), ("bob", CODE, None), ("alice", CODE, b"x" * 16)]
)
async def test_a_wrong_code_or_one_of_another_user_or_state_is_rejected(
    server: Server, user: str, code: str, state: bytes | None
) -> None:
    challenge = await server.asked(HALF_ONE)
    known = challenge.first(radius.STATE) or b""
    answer = await server.asked(request(user, code, (radius.STATE, state or known), mark=b"2"))
    assert answer.code == radius.ACCESS_REJECT


async def test_states_of_a_server_differ(server: Server) -> None:
    states = {(await server.asked(request("alice", TEXTED.password, mark=mark))).first(radius.STATE) for mark in MARKS}
    assert len(states) == len(MARKS)


async def test_a_server_may_send_every_user_the_same_state() -> None:
    server = Server(StateKind.CONSTANT)
    states = {(await server.asked(request("alice", TEXTED.password, mark=mark))).first(radius.STATE) for mark in MARKS}
    assert states == {b"SMS"}
    answer = await server.asked(request("alice", CODE, (radius.STATE, b"SMS"), mark=b"z"))
    assert answer.code == radius.ACCESS_ACCEPT


@pytest.mark.parametrize(
    ("begun", "code"),
    [
        (Begun.TEXT_SENT, radius.ACCESS_CHALLENGE),
        (Begun.AUTHENTICATED, radius.ACCESS_ACCEPT),
        (Begun.DENIED, radius.ACCESS_REJECT),
        (Begun.CLOUD_UNAVAILABLE, radius.ACCESS_REJECT),
    ],
)
async def test_how_the_first_half_ends_decides_the_answer(server: Server, begun: Begun, code: int) -> None:
    server.factor.begun = begun
    answer = await server.asked(CALL)
    assert answer.code == code
    assert (answer.first(radius.STATE) is not None) is (begun is Begun.TEXT_SENT)


@pytest.mark.parametrize(
    "asked",
    [
        request("alice", "wrong"),
        request("alice", ""),
        request("nobody", TEXTED.password),
        radius.signed_request(radius.ACCESS_REQUEST, 7, b"1" * 16, radius.attribute(1, b"alice"), SECRET),
        radius.signed_request(radius.ACCESS_REQUEST, 7, b"1" * 16, b"", SECRET),
    ],
)
async def test_who_has_no_password_is_rejected_and_no_phone_rings(server: Server, asked: bytes) -> None:
    assert (await server.asked(asked)).code == radius.ACCESS_REJECT
    assert server.factor.rung == []


async def test_an_unknown_user_and_a_wrong_password_get_the_same_bytes_for_the_same_work(server: Server) -> None:
    hashed: list[str] = []

    def counted(password: str, _salt: bytes) -> bytes:
        hashed.append(password)
        return password.encode()

    server.front._directory = Directory([TEXTED], counted)
    hashed.clear()
    wrong = await server.asked(request("alice", "wrong", identifier=1))
    unknown = await server.asked(request("nobody", "wrong", identifier=2))
    assert wrong.code == unknown.code == radius.ACCESS_REJECT
    assert wrong.attributes()[1:] == unknown.attributes()[1:], "all but the Message-Authenticator"
    assert hashed == ["wrong"] * 2


@pytest.mark.parametrize(
    "asked",
    [
        request("alice", TEXTED.password, *PROXIES),
        request("alice", "wrong", *PROXIES),
        request("alice", CODE, *PROXIES, (radius.STATE, b"x")),
        radius.signed_request(12, 7, b"1" * 16, b"".join(radius.attribute(*one) for one in PROXIES), SECRET),
    ],
)
async def test_proxy_states_come_back_in_their_order_and_last(server: Server, asked: bytes) -> None:
    answer = await server.asked(asked)
    assert tuple(answer.attributes()[-len(PROXIES) :]) == PROXIES


# ------------------------------------------------------------------------------------ retransmits


async def test_retransmits_while_the_phone_rings_are_silent_and_then_get_the_same_bytes(server: Server) -> None:
    server.factor.answered.clear()
    server.factor.begun = Begun.AUTHENTICATED
    for _ in range(3):
        server.receive(CALL)
    await server.rung()
    server.receive(CALL)
    assert server.transport.sent == []
    server.factor.answered.set()
    await server.at_rest()
    assert len(server.transport.sent) == 1, "the first answer answers the retransmits, too"
    server.receive(CALL)
    first, again = server.transport.sent
    assert first == again
    assert genuine(first[0], CALL).code == radius.ACCESS_ACCEPT
    assert server.factor.rung == ["bob"], "the phone rang exactly once"


async def test_a_retransmitted_half_one_gets_the_same_state_again(server: Server) -> None:
    states = [(await server.asked(HALF_ONE)).first(radius.STATE) for _ in range(3)]
    assert len(set(states)) == 1
    assert server.factor.rung == ["Alice"]


async def test_the_same_datagram_from_another_port_is_another_request(server: Server) -> None:
    server.receive(HALF_ONE)
    server.receive(HALF_ONE, (NAS[0], NAS[1] + 1))
    await server.at_rest()
    assert sorted(address for _, address in server.transport.sent) == [NAS, (NAS[0], NAS[1] + 1)]
    assert server.factor.rung == ["Alice", "Alice"]


async def test_an_identifier_that_is_used_again_abandons_the_older_request(server: Server) -> None:
    server.factor.answered.clear()
    server.receive(CALL)
    await server.rung()
    newer = request("bob", "wrong", mark=b"2")
    server.receive(newer)
    server.factor.answered.set()
    await server.at_rest()
    ((answer, _),) = server.transport.sent
    assert genuine(answer, newer).code == radius.ACCESS_REJECT
    server.receive(newer)
    assert server.transport.sent == [(answer, NAS)] * 2


def too_long_when_challenged(mark: bytes = b"1") -> bytes:
    """A request of 4096 bytes, nearly all of them Proxy-States: no room is left for text and State."""
    proxies = [(radius.PROXY_STATE, b"x" * 250)] * 15
    return request("alice", TEXTED.password, *proxies, (radius.PROXY_STATE, b"x" * 251), mark=mark)


async def test_a_request_whose_answer_would_be_too_long_is_silent_and_texts_once_however_often_repeated(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        server.receive(too_long_when_challenged())
        await server.at_rest()
    assert server.transport.sent == []
    assert server.factor.rung == ["Alice"]
    assert [vars(record)["reason"] for record in caplog.records] == ["too_long_when_signed"]


async def test_an_abandoned_request_that_fails_takes_nothing_from_the_newer_one(server: Server) -> None:
    server.factor.answered.clear()
    server.receive(too_long_when_challenged())
    await server.rung()
    newer = request("alice", TEXTED.password, mark=b"2")
    server.receive(newer)
    server.factor.answered.set()
    await server.at_rest()
    ((answer, _),) = server.transport.sent
    assert genuine(answer, newer).code == radius.ACCESS_CHALLENGE
    server.receive(newer)
    assert server.transport.sent == [(answer, NAS)] * 2
    assert server.factor.rung == ["Alice", "Alice"]


# ------------------------------------------------------------------------------------ what is discarded

FORGED = bytearray(HALF_ONE)
FORGED[22] ^= 1
STATUS = radius.signed_request(radius.STATUS_SERVER, 9, b"s" * 16, b"", SECRET)
BAD_PASSWORD = radius.attribute(radius.USER_NAME, b"alice") + radius.attribute(radius.USER_PASSWORD, b"short")


@pytest.mark.parametrize(
    ("datagram", "address", "reason"),
    [
        (HALF_ONE, STRANGER, "unknown_client"),
        (STATUS, STRANGER, "unknown_client"),
        (bytes(FORGED), NAS, "bad_message_authenticator"),
        (HALF_ONE[:4] + b"9" * 16 + HALF_ONE[20:], NAS, "bad_message_authenticator"),
        (unsigned(HALF_ONE), NAS, "missing_message_authenticator"),
        (unsigned(STATUS), NAS, "missing_message_authenticator"),
        (radius.signed_request(1, 7, b"1" * 16, b"", SharedSecret(b"other")), NAS, "bad_message_authenticator"),
        (radius.signed_request(radius.ACCESS_ACCEPT, 7, b"1" * 16, b"", SECRET), NAS, "unexpected_code"),
        (radius.content_signed_request(radius.ACCOUNTING_REQUEST, 7, b"", SECRET), NAS, "unexpected_code"),
        (b"", NAS, "short_datagram"),
        (HALF_ONE[:-1], NAS, "truncated"),
        (radius.signed_request(1, 7, b"1" * 16, BAD_PASSWORD, SECRET), NAS, "bad_user_password_length"),
    ],
)
async def test_what_is_not_from_a_client_and_sound_gets_silence_and_a_reason_in_the_log(
    caplog: pytest.LogCaptureFixture, datagram: bytes, address: tuple[str, int], reason: str
) -> None:
    server = Server()
    server.receive(datagram, address)
    await server.at_rest()
    assert server.transport.sent == []
    assert server.factor.rung == []
    assert [(record.levelno, vars(record)["reason"]) for record in caplog.records] == [(logging.WARNING, reason)]


async def test_a_forged_request_does_not_take_the_place_of_the_true_one(server: Server) -> None:
    server.receive(bytes(FORGED))
    assert (await server.asked(HALF_ONE)).code == radius.ACCESS_CHALLENGE


async def test_an_old_nas_may_do_without_a_message_authenticator_but_not_with_a_bad_one_or_in_status_server() -> None:
    server = Server(requires_message_authenticator=False)
    answer = await server.asked(unsigned(HALF_ONE))
    assert answer.code == radius.ACCESS_CHALLENGE
    for datagram in (bytes(FORGED), unsigned(STATUS)):
        server.receive(datagram)
    await server.at_rest()
    assert len(server.transport.sent) == 1


# ------------------------------------------------------------------------------------ the rest


async def test_a_status_server_is_answered_at_once_each_time_and_rings_nobody(server: Server) -> None:
    for _ in range(2):
        assert (await server.asked(STATUS)).code == radius.ACCESS_ACCEPT
    assert server.factor.rung == []


async def test_a_closed_front_ends_what_it_had_begun_and_its_transport() -> None:
    server = Server()
    server.factor.answered.clear()
    server.receive(CALL)
    await server.rung()
    await server.front.close()
    assert len(server.front._tasks) == 0
    assert server.transport.has_closed
    assert server.transport.sent == []


async def test_the_log_of_a_sign_in_holds_no_password_or_code(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await server.asked(HALF_ONE)
    await server.asked(request("alice", CODE, (radius.STATE, b"x"), mark=b"2"))
    server.receive(bytes(FORGED))
    logged = "".join(told(record) for record in caplog.records)
    assert "bad_message_authenticator" in logged
    assert not [secret for secret in (TEXTED.password, CODE, SECRET.value.decode()) if secret in logged]


# ------------------------------------------------------------------------------------ protocols and faults

CHALLENGE, PEER = b"c" * 16, b"p" * 16


def by_mschapv2(user: str, password: str, identifier: int = 7) -> bytes:
    proof = Exchange(user.encode(), 5, CHALLENGE, PEER, b"").expected(nt_hash(password))
    inner = (b"\x0b\x12" + CHALLENGE, b"\x19\x34\x05\x00" + PEER + bytes(8) + proof)
    vendor = b"".join(radius.attribute(radius.VENDOR_SPECIFIC, b"\0\0\x01\x37" + one) for one in inner)
    body = radius.attribute(radius.USER_NAME, user.encode()) + vendor
    return radius.signed_request(radius.ACCESS_REQUEST, identifier, b"m" * 16, body, SECRET)


async def test_mschapv2_is_answered_with_the_servers_proof_and_two_keys(server: Server) -> None:
    server.factor.begun = Begun.AUTHENTICATED
    answer = await server.asked(by_mschapv2("bob", CALLED.password))
    assert answer.code == radius.ACCESS_ACCEPT
    kinds = [value[4] for value in answer.every(radius.VENDOR_SPECIFIC)]
    assert kinds == [26, 7, 8, 16, 17]
    salts = [value[6:8] for value in answer.every(radius.VENDOR_SPECIFIC)[-2:]]
    assert all(salt[0] & 0x80 for salt in salts)
    assert salts[0] != salts[1]


@pytest.mark.parametrize(
    ("user", "password"), [("bob", "wrong"), ("nobody", CALLED.password), ("carol", "password-c"), ("carol", "")]
)
async def test_a_wrong_mschapv2_proof_or_one_that_cannot_be_checked_rings_nobody(
    server: Server, user: str, password: str
) -> None:
    answer = await server.asked(by_mschapv2(user, password))
    assert answer.code == radius.ACCESS_REJECT
    (error,) = answer.every(radius.VENDOR_SPECIFIC)
    assert error[4:] == b"\x02" + bytes((len(error) - 4,)) + b"\x05" + error[7:]
    assert b"E=691 R=0 C=" in error
    wrong = await server.asked(by_mschapv2("alice", "wrong", identifier=8))
    assert wrong.every(radius.VENDOR_SPECIFIC) != [error], "another challenge"
    assert [(kind, len(value)) for kind, value in answer.attributes()] == [
        (kind, len(value)) for kind, value in wrong.attributes()
    ]
    assert server.factor.rung == []


async def test_who_has_no_nt_hash_signs_in_by_pap(server: Server) -> None:
    server.factor.begun = Begun.AUTHENTICATED
    assert (await server.asked(request("carol", "password-c"))).code == radius.ACCESS_ACCEPT


@pytest.mark.parametrize(
    ("taken", "datagram"),
    [(RadiusProtocol.PAP, by_mschapv2("bob", CALLED.password)), (RadiusProtocol.MSCHAPV2, CALL)],
)
async def test_a_protocol_that_the_settings_leave_out_is_refused_whatever_the_password(
    taken: RadiusProtocol, datagram: bytes
) -> None:
    server = Server()
    server.front._settings = replace(server.front._settings, protocols=(taken,))
    answer = await server.asked(datagram)
    assert answer.code == radius.ACCESS_REJECT
    assert (answer.first(radius.REPLY_MESSAGE) or b"").startswith(b"This server takes ")
    assert server.factor.rung == []


@pytest.mark.parametrize("name", ["down", "hang"])
async def test_a_server_that_is_down_or_hangs_is_silent_and_then_serves_again(server: Server, name: str) -> None:
    faults = Faults("down", "hang")
    server.front._faults = faults
    faults.set_untrusted({name: True})
    server.receive(HALF_ONE)
    server.receive(STATUS)
    await server.at_rest()
    assert server.transport.sent == []
    faults.set_untrusted({name: False})
    assert (await server.asked(HALF_ONE)).code == radius.ACCESS_CHALLENGE
    assert server.factor.rung == ["Alice"]
