"""The directory itself is tried against a real slapd (scenarios); here is what never reaches one."""

from __future__ import annotations

import ldap3
import pytest

from mfalb.reference.config.ldap import LdapSettings
from mfalb.reference.ldap_directory import NAME_LIMIT, LdapDirectory


@pytest.mark.parametrize(("name", "password"), [("", "x"), ("alice", ""), ("", ""), ("a" * (NAME_LIMIT + 1), "x")])
async def test_an_empty_password_or_name_and_an_endless_name_are_nobodys_and_nothing_is_asked(
    monkeypatch: pytest.MonkeyPatch, name: str, password: str
) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("the directory was asked")

    monkeypatch.setattr(ldap3, "Connection", asked)
    directory = LdapDirectory(LdapSettings("ldaps://dc1.test", "dc=test", "cn=x", "p"))
    assert await directory.check(name, password) is None
