import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfalb.balancer.affinity.transaction import TransactionReader, transaction_key
from mfalb.balancer.config.models import TransactionAffinity

READER = TransactionReader("sdk", TransactionAffinity(type="transaction"))


def soap(**texts: str) -> bytes:
    inner = "".join(f"<{name}>{text}</{name}>" for name, text in texts.items())
    return f"<e:Envelope xmlns:e='u'><e:Body><PfAuthUser>{inner}</PfAuthUser></e:Body></e:Envelope>".encode()


@pytest.mark.parametrize(
    ("body", "user", "continued"),
    [
        (soap(username="contoso\\alice"), "contoso\\alice", None),
        (soap(username="alice", authreqid="7"), "alice", ("alice", "7")),
        (soap(username="alice", authreqid=""), "alice", None),
        (soap(username="", authreqid="7"), "", None),
        (soap(authreqid="7"), "", None),
        (soap(other="x"), "", None),
        (b"", "", None),
        (b"not soap at all", "", None),
        (b"<html><body>username</body></html>", "", None),
        (b"<!DOCTYPE x>" + soap(username="alice", authreqid="7"), "", None),
        (soap(username="alice", authreqid="7")[:-9], "", None),
    ],
)
def test_a_request_names_its_user_and_what_it_continues(
    body: bytes, user: str, continued: tuple[str, str] | None
) -> None:
    key = None if continued is None else transaction_key("sdk", *continued)
    assert READER.request_untrusted(body) == (user, key)


@pytest.mark.parametrize(
    ("user", "body", "begun"),
    [
        ("alice", soap(authreqid="7"), ("alice", "7")),
        ("alice", soap(authreqid=" 7\n"), ("alice", "7")),
        ("alice", soap(username="eve", authreqid="7"), ("alice", "7")),
        ("alice", soap(authreqid=""), None),
        ("alice", soap(result="ok"), None),
        ("", soap(authreqid="7"), None),
        ("alice", b"<html>502 Bad Gateway</html>", None),
        ("alice", b"", None),
    ],
)
def test_a_response_begins_a_transaction_of_the_user_who_asked(
    user: str, body: bytes, begun: tuple[str, str] | None
) -> None:
    assert READER.response_untrusted(user, body) == (None if begun is None else transaction_key("sdk", *begun))


def test_both_halves_of_a_sign_in_meet_whatever_the_case_of_the_user_name() -> None:
    begun = READER.response_untrusted("CONTOSO\\Jos\xc9", soap(authreqid="7"))
    assert READER.request_untrusted(soap(username="contoso\\jos\xe9", authreqid="7"))[1] == begun
    assert transaction_key("sdk", "STRASSE", "7") == transaction_key("sdk", "stra\xdfe", "7")


def test_request_ids_collide_across_users_and_servers_but_keys_do_not() -> None:
    keys = {
        transaction_key(pool, user, number)
        for pool in ("sdk", "sdk2")
        for user in ("alice", "bob", "alice7")
        for number in ("7", "77", "8")
    }
    assert len(keys) == 2 * 3 * 3


def test_elements_are_those_that_the_configuration_names() -> None:
    reader = TransactionReader(
        "otp", TransactionAffinity(type="transaction", user_element="user", id_element="transaction_id")
    )
    body = soap(user="alice", transaction_id="x1", username="eve", authreqid="7")
    assert reader.request_untrusted(body) == ("alice", transaction_key("otp", "alice", "x1"))


def answered(method: str, **elements: str) -> bytes:
    inside = "".join(f"<{name}>{text}</{name}>" for name, text in elements.items())
    body = f"<s:Body><m:{method} xmlns:m='urn:x'>{inside}</m:{method}></s:Body>"
    return f"<s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/'>{body}</s:Envelope>".encode()


@pytest.mark.parametrize(
    ("body", "is_ended"),
    [
        (answered("VerifyOneWayOtpResponse", VerifyOneWayOtpResult="true"), True),
        (answered("AnyResponse", AnyResult=" True "), True),
        (answered("AnyResponse", AnyResult="1"), True),
        (answered("VerifyOneWayOtpResponse", VerifyOneWayOtpResult="false"), False),  # mistyped: another try may come
        (answered("VerifyOneWayOtpResponse", OtherResult="true"), False),
        (answered("VerifyOneWayOtpResponse"), False),
        (answered("Fault", faultstring="true"), False),
        (b"true", False),
        (b"", False),
    ],
)
def test_a_transaction_has_ended_when_the_method_s_own_result_is_true(body: bytes, *, is_ended: bool) -> None:
    assert READER.is_ended_by_untrusted(body) is is_ended


def test_the_element_that_tells_of_the_end_may_be_another() -> None:
    reader = TransactionReader("otp", TransactionAffinity(type="transaction", result_element="done"))
    assert reader.is_ended_by_untrusted(answered("XResponse", done="true", XResult="false"))
    assert not reader.is_ended_by_untrusted(answered("XResponse", XResult="true"))


@given(st.binary(max_size=200))
@settings(max_examples=100)
def test_a_body_of_any_bytes_is_balanced_like_any_other(body: bytes) -> None:
    assert READER.request_untrusted(body) == ("", None)
    assert READER.response_untrusted("alice", body) is None
    assert not READER.is_ended_by_untrusted(body)


APP = TransactionReader(
    "app",
    TransactionAffinity(
        type="transaction", id_element="ConfirmationCode", request_id_element="confirmationCode", user_element=None
    ),
)


@pytest.mark.parametrize(
    ("body", "continued"),
    [
        (soap(confirmationCode="c0de"), "c0de"),
        (soap(confirmationCode="c0de", username="alice"), "c0de"),
        (soap(ConfirmationCode="c0de"), None),
        (soap(ActivationCode="123456789"), None),
        (b"not soap at all", None),
    ],
)
def test_without_a_user_element_the_id_alone_ties_requests_under_the_name_it_has_there(
    body: bytes, continued: str | None
) -> None:
    begun = APP.response_untrusted("", soap(Username="alice", ConfirmationCode="c0de"))
    assert begun == transaction_key("app", "", "c0de")
    assert APP.request_untrusted(body) == ("", None if continued is None else begun)


def test_an_answer_without_an_id_begins_nothing_without_a_user_either() -> None:
    assert APP.response_untrusted("", soap(ConfirmationCode="")) is None
