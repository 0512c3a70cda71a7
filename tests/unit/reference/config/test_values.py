from __future__ import annotations

import pytest

from mfalb.reference.config.passwords import PasswordHash
from mfalb.reference.config.tables import read_table
from mfalb.reference.config.values import Account, User

KEPT = {"salt": "5a" * 16, "digest": "cd" * 64, "cost": 4096}
NT_HASH = "8846f7eaee8fb117ad06bdd830b7586c"


def test_an_account_s_header_is_the_rfc_s_example() -> None:
    assert Account("Aladdin", "open sesame").authorization == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="  # RFC 7617 section 2


def test_a_user_s_password_may_be_a_hash_and_neither_it_nor_an_nt_hash_is_shown() -> None:
    table = {"name": "alice", "phone": "+1 555 0101", "password_hash": KEPT, "nt_hash": NT_HASH}
    user = read_table(User, table)
    assert (user.password, user.password_hash, user.nt_hash) == ("", PasswordHash("5a" * 16, "cd" * 64), NT_HASH)
    assert repr(user) == "User(name='alice', phone='+1 555 0101', method=<Method.ONE_WAY_SMS: 'one_way_sms'>)"


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"password": "p", "password_hash": KEPT}, "users[0]: password and password_hash: only one of them is wanted"),
        ({"password": "p", "nt_hash": NT_HASH}, "users[0]: nt_hash goes with password_hash; of a password it is made"),
        ({"nt_hash": NT_HASH}, "users[0]: nt_hash goes with password_hash; of a password it is made"),
        ({"password_hash": KEPT, "nt_hash": NT_HASH[1:]}, "users[0]: nt_hash: 32 hexadecimal digits are wanted"),
        ({"password_hash": KEPT, "nt_hash": int("8" * 32)}, "users[0].nt_hash: a text is wanted"),
        ({"password_hash": "cd" * 64}, "users[0].password_hash: a table is wanted"),
        ({"password_hash": {**KEPT, "n": 4096}}, "users[0].password_hash.n: there is no such setting; "),
    ],
)
def test_what_does_not_go_together_in_a_user_s_entry_is_refused_without_being_shown(
    table: dict[str, object], reason: str
) -> None:
    with pytest.raises(ValueError, match="users") as refused:
        read_table(User, {"name": "alice", "phone": "", **table}, "users[0]")
    assert str(refused.value).startswith(reason)
    assert not [secret for secret in (NT_HASH[1:], "cd" * 8, "5a" * 8, "8" * 32) if secret in str(refused.value)]
