import asyncio
import threading

import pytest

from mfalb.reference.config.passwords import PasswordHash, scrypt_digest
from mfalb.reference.config.values import User
from mfalb.reference.directory import Directory, nt_hash

ALICE = User("Alice", "right-password", "+1 555 0101")
BOB = User("bob", "pässwörd", "+1 555 0102")


@pytest.fixture(scope="module")
def directory() -> Directory:
    return Directory([ALICE, BOB])


@pytest.mark.parametrize(
    ("name", "password", "user"),
    [
        ("Alice", "right-password", ALICE),
        ("alice", "right-password", ALICE),
        ("ALICE", "right-password", ALICE),
        ("BOB", "pässwörd", BOB),
        ("alice", "Right-password", None),
        ("alice", "", None),
        ("alice", "right-password ", None),
        ("alice", "pässwörd", None),
        ("nobody", "right-password", None),
        ("nobody", "", None),
        ("", "", None),
    ],
)
async def test_only_the_right_password_of_a_known_name_is_taken_and_all_else_is_refused_alike(
    directory: Directory, name: str, password: str, user: User | None
) -> None:
    assert await directory.check(name, password) is user


@pytest.mark.parametrize(("name", "user"), [("aLiCe", ALICE), ("bob", BOB), ("nobody", None), ("", None)])
def test_a_user_is_found_by_name_whatever_its_case(directory: Directory, name: str, user: User | None) -> None:
    assert directory.find(name) is user


@pytest.mark.parametrize("typed", ["", "wrong", "right-password", "x" * 10_000])
async def test_an_unknown_name_costs_the_same_slow_hash_as_a_wrong_password_does(typed: str) -> None:
    hashed: list[tuple[str, int]] = []

    def counted(password: str, salt: bytes) -> bytes:
        hashed.append((password, len(salt)))
        return password.encode().ljust(64, b"\0")

    directory = Directory([ALICE, BOB], counted)
    costs = []
    for name in ("alice", "nobody", "", "n" * 10_000):
        hashed.clear()
        await directory.check(name, typed)
        costs.append(list(hashed))
    assert costs == [[(typed, 16)]] * 4, "one hash each, of what was typed, with a salt of its own"


async def test_passwords_are_hashed_with_scrypt_beside_the_event_loop_which_goes_on_meanwhile() -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    def slow(password: str, salt: bytes) -> bytes:
        if password == "slow":  # not while the directory is made
            has_begun.set()
            assert may_end.wait(30), "the event loop stood still"
        return scrypt_digest(password, salt)

    directory = Directory([ALICE], slow)
    checked = asyncio.ensure_future(directory.check("alice", "slow"))  # noqa: TID251 - own
    assert await asyncio.to_thread(has_begun.wait, 30)
    assert not checked.done()
    may_end.set()  # by the loop: had the hash been on it, this line would never be reached
    assert await checked is None


def test_the_directory_keeps_no_digest_twice_and_shows_none() -> None:
    twins = Directory([User("one", "same", "1"), User("two", "same", "2")])
    one, two = twins._entries.values()
    assert one.digest != two.digest
    assert one.salt != two.salt
    assert "digest" not in repr(one)
    assert "same" not in repr(one)


async def test_an_empty_directory_knows_nobody() -> None:
    assert await Directory([]).check("alice", "right-password") is None


async def test_nobody_signs_in_even_who_could_guess_the_password_that_unknown_names_are_compared_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.urandom", bytes)
    assert await Directory([]).check("nobody", bytes(16).hex()) is None


def test_an_nt_hash_is_asked_about_once_for_an_unknown_name_too_and_only_a_known_name_is_taken(
    directory: Directory,
) -> None:
    asked: list[bytes] = []

    def say_yes(given: bytes) -> bool:
        asked.append(given)
        return True

    assert directory.check_nt_hash("ALICE", say_yes) is ALICE
    assert directory.check_nt_hash("nobody", say_yes) is None
    assert directory.check_nt_hash("alice", lambda _: False) is None
    assert asked[0] == nt_hash("right-password")
    assert len(asked) == 2
    assert len(asked[1]) == 16
    assert nt_hash("right-password").hex() not in repr(directory._entries)


HASHED = User("carol", "", "+1 555 0103", password_hash=PasswordHash.of("hers"), nt_hash=nt_hash("hers").hex().upper())
UNPROVED = User("dave", "", "+1 555 0104", password_hash=PasswordHash.of("his"))


@pytest.mark.parametrize(
    ("name", "password", "user"),
    [
        ("CAROL", "hers", HASHED),
        ("dave", "his", UNPROVED),
        ("alice", "right-password", ALICE),
        ("carol", "his", None),
        ("dave", "", None),
        ("nobody", "hers", None),
    ],
)
async def test_a_user_whose_password_is_given_as_a_hash_signs_in_with_that_password_only(
    name: str, password: str, user: User | None
) -> None:
    assert await Directory([ALICE, HASHED, UNPROVED]).check(name, password) is user


async def test_a_given_hash_is_not_made_again_and_costs_what_every_other_check_costs() -> None:
    hashed: list[tuple[str, int]] = []

    def counted(password: str, salt: bytes) -> bytes:
        hashed.append((password, len(salt)))
        return scrypt_digest(password, salt)

    directory = Directory([HASHED, UNPROVED], counted)
    assert len(hashed) == 1, "only nobody's was made"
    hashed.clear()
    for name in ("carol", "dave", "nobody"):
        await directory.check(name, "wrong")
    assert hashed == [("wrong", 16)] * 3


def test_without_an_nt_hash_even_the_right_answer_is_refused_and_as_much_is_asked_as_for_an_unknown_name() -> None:
    asked: list[bytes] = []

    def say_yes(given: bytes) -> bool:
        asked.append(given)
        return True

    directory = Directory([HASHED, UNPROVED])
    assert directory.check_nt_hash("carol", say_yes) is HASHED
    assert directory.check_nt_hash("dave", say_yes) is None
    assert directory.check_nt_hash("nobody", say_yes) is None
    assert asked[0] == nt_hash("hers")
    assert asked[1] == asked[2], "nobody's"
    assert asked[1] not in (nt_hash("his"), nt_hash(""))
    assert len(asked[1:]) == 2
    assert "hash" not in repr(directory._entries)
