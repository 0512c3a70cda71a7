from __future__ import annotations

import hashlib

import pytest

from mfalb.reference.config.passwords import PASSWORD_COST, PasswordHash
from mfalb.reference.config.tables import read_table

SALT, DIGEST = "5a" * 16, "Cd" * 64


def test_a_hash_is_scrypt_s_with_a_salt_of_its_own() -> None:
    one, two = PasswordHash.of("pässwörd"), PasswordHash.of("pässwörd")
    assert one.salt != two.salt
    salt = bytes.fromhex(one.salt)
    wanted = hashlib.scrypt("pässwörd".encode(), salt=salt, n=4096, r=8, p=1, dklen=64)
    assert (len(salt), one.digest, one.cost) == (16, wanted.hex(), 4096)


def test_a_hash_shows_neither_salt_nor_digest() -> None:
    assert repr(PasswordHash(SALT, DIGEST)) == f"PasswordHash(cost={PASSWORD_COST})"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"salt": SALT[2:]}, "password_hash: salt: 32 hexadecimal digits are wanted"),
        ({"salt": SALT + "5a"}, "password_hash: salt: 32 hexadecimal digits are wanted"),
        ({"salt": " " + SALT[1:]}, "password_hash: salt: 32 hexadecimal digits are wanted"),
        ({"salt": SALT[1:] + "\n"}, "password_hash: salt: 32 hexadecimal digits are wanted"),
        ({"salt": int("5" * 32)}, "password_hash.salt: a text is wanted"),
        ({"digest": DIGEST[:64]}, "password_hash: digest: 128 hexadecimal digits are wanted"),
        ({"digest": "x" + DIGEST[1:]}, "password_hash: digest: 128 hexadecimal digits are wanted"),
        ({"digest": None}, "password_hash.digest: a text is wanted"),
        ({"cost": 2**14}, "password_hash: cost: only 4096 is taken, so that all passwords take alike to check"),
        ({"cost": 2**30}, "password_hash: cost: only 4096 is taken, so that all passwords take alike to check"),
        ({"cost": 0}, "password_hash: cost: only 4096 is taken, so that all passwords take alike to check"),
    ],
)
def test_a_hash_that_the_directory_would_not_have_made_is_refused_without_being_shown(
    change: dict[str, object], reason: str
) -> None:
    table = {"salt": SALT, "digest": DIGEST}
    assert read_table(PasswordHash, table, "password_hash") == PasswordHash(SALT, DIGEST, 4096)
    with pytest.raises(ValueError, match="password_hash") as refused:
        read_table(PasswordHash, {**table, **change}, "password_hash")
    assert str(refused.value) == reason
