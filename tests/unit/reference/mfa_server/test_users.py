from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mfalb.reference.config.values import Method, User
from mfalb.reference.directory import Directory
from mfalb.reference.mfa_server.data.pfdata import Pfdata
from mfalb.reference.mfa_server.data.writes import import_users, perform
from mfalb.reference.mfa_server.users import GroupUsers

NOW = 1_000_000.0
ALICE = User("alice", "password-a", "+1 555 0101")
STRANGER = User("stranger", "password-s", "+1 555 0102")  # in the directory, and not among the group's users


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Pfdata]:
    with Pfdata(tmp_path / "PhoneFactor.pfdata") as data:
        data.write(lambda db: import_users(db, (ALICE,)), NOW)
        yield data


@pytest.fixture
def users(data: Pfdata) -> GroupUsers:
    return GroupUsers(Directory((ALICE, STRANGER)), data)


async def test_the_directory_knows_the_password_and_the_group_s_data_the_phone(data: Pfdata, users: GroupUsers) -> None:
    texts = {"user": "alice", "phone": "+49 30 1", "method": "phone_call"}
    data.write(lambda db: perform(db, "UpdateUser", texts, NOW), NOW)
    assert await users.check("ALICE", "password-a") == User("alice", "", "+49 30 1", Method.PHONE_CALL)
    assert await users.check("alice", "wrong") is None
    assert users.find("alice") == await users.check("alice", "password-a")


@pytest.mark.parametrize("name", ["stranger", "nobody"])
async def test_who_is_no_user_of_the_group_does_not_sign_in(users: GroupUsers, name: str) -> None:
    assert await users.check(name, "password-s") is None
    assert users.find(name) is None
    assert await users.is_password(name, "password-s") is (name == "stranger")


async def test_a_user_who_is_disabled_does_not_sign_in(data: Pfdata, users: GroupUsers) -> None:
    data.write(lambda db: perform(db, "Disable", {"user": "alice"}, NOW), NOW)
    assert await users.check("alice", "password-a") is None
    assert users.find("alice") is None
    record = users.record("alice")
    assert record is not None
    assert not record.is_enabled
