from __future__ import annotations

from mfalb.reference.config.values import Account


def test_an_account_s_header_is_the_rfc_s_example() -> None:
    assert Account("Aladdin", "open sesame").authorization == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="  # RFC 7617 section 2
