import pytest
from unit.wire.pyrad_peer import accepts_request

from mfalb.balancer.health.status_probe import status_fault_untrusted, status_request
from mfalb.wire import radius
from mfalb.wire.radius import SharedSecret

SECRET = SharedSecret(b"towards-the-server-1")
AUTHENTICATOR = bytes(range(50, 66))


def answer(code: int = radius.ACCESS_ACCEPT, identifier: int = 40, secret: SharedSecret = SECRET) -> bytes:
    return radius.signed_response(code, identifier, AUTHENTICATOR, b"", secret)


def unsigned_answer() -> bytes:
    head = bytes((radius.ACCESS_ACCEPT, 40, 0, 20))
    return head + SECRET.digest(head + AUTHENTICATOR)


def test_d3_a_probe_is_status_server_with_a_signature_and_nothing_else() -> None:
    request = status_request(40, AUTHENTICATOR, SECRET)
    code, identifier, length, authenticator = request[0], request[1], request[2:4], request[4:20]
    assert (code, identifier, authenticator) == (12, 40, AUTHENTICATOR)
    assert length == (38).to_bytes(2, "big") == len(request).to_bytes(2, "big")
    assert request[20:22] == bytes((80, 18)), "the Message-Authenticator is the only attribute"
    assert accepts_request(request, SECRET)


@pytest.mark.parametrize(
    "datagram",
    [
        answer(),
        answer(radius.ACCOUNTING_RESPONSE),
        answer(radius.ACCESS_REJECT),
        answer(radius.ACCESS_CHALLENGE),
        unsigned_answer(),
        answer() + b"padding",
    ],
    ids=["accept", "accounting response", "reject", "challenge", "unsigned", "padded"],
)
def test_d3_any_valid_answer_to_status_server_shows_a_working_server(datagram: bytes) -> None:
    assert status_fault_untrusted(datagram, 40, AUTHENTICATOR, SECRET) is None


@pytest.mark.parametrize(
    ("datagram", "fault"),
    [
        (b"", "short_datagram"),
        (answer()[:-1], "truncated"),
        (answer(radius.STATUS_SERVER), "unexpected answer"),
        (answer(radius.ACCESS_REQUEST), "unexpected answer"),
        (answer(identifier=41), "unexpected answer"),
        (answer(secret=SharedSecret(b"another")), "wrong secret"),
        (radius.signed_response(2, 40, bytes(16), b"", SECRET), "wrong secret"),
        (answer()[:-1] + b"?", "wrong secret"),
    ],
)
def test_d3_what_does_not_answer_the_probe_shows_nothing_good(datagram: bytes, fault: str) -> None:
    assert status_fault_untrusted(datagram, 40, AUTHENTICATOR, SECRET) == fault
