"""Promise: what passes through mfalb is what passes through another proxy, and what passes without any.

Each request goes three ways to the same FreeRADIUS: directly, through radsecproxy, and through mfalb. The secrets on
the two sides of a proxy differ, so all that hangs on a secret must be made anew. What the server understood and what
the client read must not depend on the way. The clients are radclient, and plain sockets for what radclient cannot say.

Known differences are asserted as such. radsecproxy 1.9.2 hides only the first Tunnel-Password of an answer anew, and no
MS-CHAP-MPPE-Keys: the client reads noise in their place. It drops answers whose Tunnel-Password is longer than 127
bytes, as if it were a User-Password. FreeRADIUS reads a User-Password as a C string, so no
password here has a zero byte; those are tried in tests/unit/wire/test_radius_hidden.py.
"""

from __future__ import annotations

import hashlib
import random
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import pytest
from programs.balancer import Balancer
from programs.freeradius import AttributeServer, TestUser, attribute_server
from programs.ports import LOOPBACK, free_udp_port
from programs.radclient import Answer, Attributes, Target, send
from programs.radius_pool import radius_pool, without_proxy_state
from programs.radsecproxy import radsecproxy

from mfalb.wire import radius
from mfalb.wire.radius import SharedSecret

DIRECT, RADSECPROXY, MFALB = "direct", "radsecproxy", "mfalb"
PROXIES: Final = (RADSECPROXY, MFALB)
LENGTHS: Final = (1, 15, 16, 17, 30, 31, 32, 33, 47, 48, 49, 100, 200, 239)  # around whole blocks, and the longest
CHAP_PASSWORD: Final = TestUser().password


def text_of(length: int) -> str:
    return "".join(chr(ord("a") + index % 26) for index in range(length))


def update_reply(*assignments: str) -> str:
    lines = "\n".join(assignments)
    return f"update reply {{\n{lines}\n}}"


SEND_KEY, RECV_KEY = bytes(range(32)).hex(), bytes(range(255, 223, -1)).hex()
ORDERED: Final = (
    "Class += 0x0001",
    "Reply-Message += 'one'",
    "Class += 0x00ff",
    "Reply-Message += 'two'",
    "State := 0x00ff00",
    "Reply-Message += 'three'",
    "Class += 0x0003",
)
CASES: Final[Mapping[str, str]] = {
    "keys": update_reply(f"MS-MPPE-Send-Key := 0x{SEND_KEY}", f"MS-MPPE-Recv-Key := 0x{RECV_KEY}"),
    "chap keys": update_reply(f"MS-CHAP-MPPE-Keys := 0x{bytes(range(1, 25)).hex()}"),
    **{f"key {size}": update_reply(f"MS-MPPE-Send-Key := 0x{bytes(range(size)).hex()}") for size in LENGTHS},
    **{f"tunnel {size}": update_reply(f'Tunnel-Password:1 := "{text_of(size)}"') for size in LENGTHS},
    **{f"tag {tag}": update_reply(f'Tunnel-Password:{tag} := "one tunnel"') for tag in (0, 1, 15, 31)},
    "tunnels": update_reply(
        'Tunnel-Password:1 := "the first tunnel"',
        'Tunnel-Password:2 += "the second tunnel, with a longer password"',
        "Tunnel-Type:2 += L2TP",
        'Tunnel-Password:3 += "the third"',
    ),
    "accept": update_reply(*ORDERED),
    "reject": update_reply(*ORDERED) + "\nreject",
    "challenge": update_reply(*ORDERED) + "\nupdate control {\nResponse-Packet-Type := Access-Challenge\n}\nhandled",
    "unknown": update_reply(
        "Attr-105 += 0x0304",  # no dictionary knows it
        "Attr-26.9.250 += 0x0102",
        "IP-Port-Type += 3",  # RFC 6929: 241.5.1
        "Attr-105 += 0x",
        "Cisco-AVPair += 'shell:priv-lvl=15'",
    ),
}


@dataclass(frozen=True, slots=True)
class Way:
    """A way to the server, as its clients see it."""

    name: str
    port: int
    secret: str

    def user(self, number: int | str) -> str:
        """A user whose requests came this way; all of these names have the same length."""
        return f"{self.name:>11}-{number}".replace(" ", "_")

    def ask(self, requests: Sequence[Attributes]) -> list[Answer]:
        """What radclient reads in the answers to these."""
        answers = [one for one in send(Target(LOOPBACK, self.port, self.secret), requests) if one is not None]
        assert len(answers) == len(requests), f"{len(requests) - len(answers)} unanswered: {self.name}"
        return [_without_signature(one) for one in answers]

    def say(self, body: bytes, authenticator: bytes) -> list[tuple[int, bytes]]:
        """The code, under type 0, and the attributes of the answer, less the Message-Authenticator, as they stand."""
        secret = SharedSecret(self.secret.encode())
        request = radius.signed_request(radius.ACCESS_REQUEST, 7, authenticator, body, secret)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.connect((LOOPBACK, self.port))
            client.send(request)
            answer = radius.read_untrusted(client.recv(4096))
        assert radius.has_valid_response_authenticator(answer, secret, authenticator)
        found = [one for one in answer.attributes() if one[0] != radius.MESSAGE_AUTHENTICATOR]
        return [(0, bytes((answer.code,))), *found]


def _without_signature(answer: Answer) -> Answer:
    """FreeRADIUS 3.2.1 does not sign what is no EAP; mfalb signs every answer."""
    pairs = [pair for pair in answer.pairs if pair[0] != "Message-Authenticator"]
    return Answer(answer.code, dict(pairs), pairs)


@dataclass(frozen=True)
class Ways:
    """All three ways and the server at their end."""

    server: AttributeServer
    every: dict[str, Way]

    def replies(self, case: str, but: Sequence[str] = ()) -> dict[str, Answer]:
        """What radclient read of one case's answer, by way, `but` for some."""
        return {
            name: way.ask([[("User-Name", way.user(case)), ("User-Password", "x"), ("NAS-Identifier", case)]])[0]
            for name, way in self.every.items()
            if name not in but
        }

    def understood(self, number: int | str) -> dict[str, str]:
        """The attributes that the server got, by way; names of users made equal."""
        return {
            name: self.server.seen(way.user(number)).attributes.replace(way.user(number), "user")
            for name, way in self.every.items()
        }


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    run_dir = tmp_path_factory.mktemp("differential")
    server = attribute_server("oracle", run_dir, "towards-the-server-1", CASES)
    pool = without_proxy_state(radius_pool([server], run_dir))
    port = free_udp_port()
    with ExitStack() as stack:
        stack.enter_context(server)
        stack.enter_context(Balancer(pool.config, run_dir / "mfalb", secrets=pool.secrets))
        stack.enter_context(radsecproxy(server, run_dir / "radsecproxy", port, pool.client_secret))
        every = [
            Way(DIRECT, server.port, server.secret),
            Way(RADSECPROXY, port, pool.client_secret),
            Way(MFALB, pool.port, pool.client_secret),
        ]
        yield Ways(server, {way.name: way for way in every})


# ------------------------------------------------------------------------------ what the server understands


def test_passwords_of_each_length_are_understood_alike(ways: Ways) -> None:
    """1 to 128 bytes, whole blocks among them, with bytes of any value but zero."""
    dice = random.Random(2865)  # noqa: S311 - the same passwords in each run
    passwords = [bytes(dice.choices(range(1, 256), k=length)) for length in range(1, 129)]
    for name, way in ways.every.items():
        requests = [
            [("User-Name", way.user(len(password))), ("User-Password", password.decode("latin-1"))]
            for password in passwords
        ]
        assert {answer.code for answer in way.ask(requests)} == {"Access-Accept"}
        seen = [ways.server.seen(way.user(len(password))).password for password in passwords]
        assert seen == passwords, (
            f"{name}: {[len(one) for one, was in zip(passwords, seen, strict=True) if one != was]}"
        )


def chap_requests(way: Way, password: str) -> list[Attributes]:
    """Without a challenge, where the authenticator is it, and with challenges of several lengths."""
    plain = [("User-Name", way.user("chap")), ("CHAP-Password", password)]
    challenges = ["0x" + bytes(range(size)).hex() for size in (5, 16, 17, 100)]
    return [plain, *([*plain, ("CHAP-Challenge", challenge)] for challenge in challenges)]


@pytest.mark.parametrize(("password", "code"), [(CHAP_PASSWORD, "Access-Accept"), ("wrong", "Access-Reject")])
@pytest.mark.parametrize("name", [DIRECT, *PROXIES])
def test_chap_is_judged_alike_with_a_challenge_and_without(ways: Ways, name: str, password: str, code: str) -> None:
    requests = chap_requests(ways.every[name], password)
    assert [answer.code for answer in ways.every[name].ask(requests)] == [code] * len(requests)


def test_both_proxies_spell_out_the_challenge_that_was_the_authenticator(ways: Ways) -> None:
    challenge = hashlib.sha256(b"a challenge").digest()[:16]
    response = b"\5" + hashlib.md5(b"\5" + CHAP_PASSWORD.encode() + challenge).digest()
    for way in ways.every.values():
        user = radius.attribute(radius.USER_NAME, way.user("spelt").encode())
        (code, *_) = way.say(user + radius.attribute(radius.CHAP_PASSWORD, response), challenge)
        assert code == (0, bytes((radius.ACCESS_ACCEPT,)))
    understood = ways.understood("spelt")
    assert understood[MFALB] == understood[RADSECPROXY] == f"{understood[DIRECT]}, CHAP-Challenge = 0x{challenge.hex()}"


UNKNOWN_BODIES: Final[Mapping[str, bytes]] = {
    "an unassigned type": b"\x69\x06\1\2\3\4" + b"\x69\x03\5",
    "an empty attribute": b"\x69\x02",
    "another vendor": b"\x1a\x0a\0\1\x86\x9f\x03\4\1\2",
    "a vendor's stump": b"\x1a\x08\0\0\1\x37\x10\x09",  # Microsoft, its attribute longer than it is
    "extended, unknown": b"\xf1\x05\xfa\1\2",
    "extended, a known TLV": b"\xf1\x09\5\1\6\0\0\0\3",
    "extended, no type": b"\xf1\x02",
    "long extended, in two parts": b"\xf5\xff\xfa\x80" + bytes(251) + b"\xf5\x08\xfa\0abcd",
    "long extended, a lone More flag": b"\xf5\x06\xfa\x80ab",
    "extended vendor specific": b"\xf1\x0b\x1a\0\0\0\x09\xfaabc",
    "all three kinds of order": b"\x19\3a\x21\3b\x19\3c\x21\3d\x12\3e\x21\3f",
}


@pytest.mark.parametrize("case", UNKNOWN_BODIES)
def test_what_no_dictionary_knows_reaches_the_server_alike(ways: Ways, case: str) -> None:
    authenticator = hashlib.sha256(case.encode()).digest()[:16]
    number = f"unknown{list(UNKNOWN_BODIES).index(case):02}"
    for way in ways.every.values():
        way.say(radius.attribute(radius.USER_NAME, way.user(number).encode()) + UNKNOWN_BODIES[case], authenticator)
    understood = ways.understood(number)
    assert understood[MFALB] == understood[DIRECT]
    assert understood[RADSECPROXY] == understood[DIRECT]


# ---------------------------------------------------------------------------------- what the client reads


LONG: Final = {f"tunnel {size}" for size in LENGTHS if size > 127}
SALTED: Final = [case for case in CASES if case.partition(" ")[0] in {"keys", "key", "tunnel", "tag"}]


@pytest.mark.parametrize("case", SALTED)
def test_keys_and_a_tunnel_password_are_read_alike(ways: Ways, case: str) -> None:
    replies = ways.replies(case, but=(RADSECPROXY,) if case in LONG else ())
    assert replies[DIRECT].code == "Access-Accept"
    assert replies[DIRECT].pairs, "the server said nothing"
    assert all(reply == replies[DIRECT] for reply in replies.values()), f"{replies}"


def test_radsecproxy_drops_what_has_a_long_tunnel_password(ways: Ways) -> None:
    way = ways.every[RADSECPROXY]
    target = Target(LOOPBACK, way.port, way.secret, parallel=len(LONG), timeout_s=0.3, tries=1)
    requests = [[("User-Name", way.user(case)), ("NAS-Identifier", case)] for case in LONG]
    assert send(target, requests) == [None] * len(LONG)


def test_the_keys_are_those_that_the_server_was_given(ways: Ways) -> None:
    expected = [("MS-MPPE-Send-Key", f"0x{SEND_KEY}"), ("MS-MPPE-Recv-Key", f"0x{RECV_KEY}")]
    assert [reply.pairs for reply in ways.replies("keys").values()] == [expected] * 3


def test_each_of_several_tunnel_passwords_is_read_as_it_was_written(ways: Ways) -> None:
    replies = ways.replies("tunnels")
    assert replies[DIRECT].pairs == [
        ("Tunnel-Password:1", "the first tunnel"),
        ("Tunnel-Password:2", "the second tunnel, with a longer password"),
        ("Tunnel-Type:2", "L2TP"),
        ("Tunnel-Password:3", "the third"),
    ]
    assert replies[MFALB] == replies[DIRECT]
    assert replies[RADSECPROXY].pairs[0] == replies[DIRECT].pairs[0]
    assert replies[RADSECPROXY].pairs[1:] != replies[DIRECT].pairs[1:], "1.9.2 hides the first one only anew"


def test_ms_chap_mppe_keys_are_read_as_they_were_written(ways: Ways) -> None:
    replies = ways.replies("chap keys")
    assert replies[MFALB] == replies[DIRECT]
    assert replies[RADSECPROXY].pairs != replies[DIRECT].pairs, "1.9.2 passes them as they are"


@pytest.mark.parametrize("case", ["accept", "reject", "challenge", "unknown"])
@pytest.mark.parametrize("proxy_states", [0, 1, 3])
def test_the_attributes_of_an_answer_come_in_the_same_order(ways: Ways, case: str, proxy_states: int) -> None:
    """State, Class, Reply-Message and what no dictionary knows; the client's Proxy-States come back, and no others."""
    authenticator = hashlib.sha256(f"{case} {proxy_states}".encode()).digest()[:16]
    tail = b"".join(radius.attribute(radius.PROXY_STATE, bytes((index, 0))) for index in range(proxy_states))
    tail += radius.attribute(radius.NAS_IDENTIFIER, case.encode())
    answers = {
        name: way.say(radius.attribute(radius.USER_NAME, way.user("order").encode()) + tail, authenticator)
        for name, way in ways.every.items()
    }
    assert len(answers[DIRECT]) > 4 + proxy_states, "the server left something out"
    assert answers[MFALB] == answers[DIRECT]
    assert answers[RADSECPROXY] == answers[DIRECT]
