from __future__ import annotations

from typing import Any

import pytest

from mfalb.reference.config.ldap import LdapSettings

GOOD: dict[str, Any] = {"url": "ldaps://dc1.test", "base": "dc=test", "bind_dn": "cn=reader", "bind_password": "secret"}


@pytest.mark.parametrize(
    "more",
    [{}, {"url": "ldap://dc1.test", "starts_tls": True}, {"url": "ldap://dc1.test:3389", "is_plain_allowed": True}],
)
def test_a_directory_over_tls_or_in_clear_where_that_is_said_is_taken(more: dict[str, Any]) -> None:
    assert "secret" not in repr(LdapSettings(**GOOD | more))


@pytest.mark.parametrize(
    ("more", "wrong"),
    [
        ({"url": "ldap://dc1.test"}, "in clear"),
        ({"url": "http://dc1.test"}, "url is"),
        ({"url": "ldaps://"}, "url is"),
        ({"user_filter": "(uid=alice)"}, "user_filter"),
        ({"user_filter": "(|(uid={})(mail={}))"}, "user_filter"),
        ({"timeout_s": 0}, "timeout_s"),
    ],
)
def test_what_would_show_passwords_or_cannot_work_is_refused(more: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        LdapSettings(**GOOD | more)
