import pytest

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
def test_only_the_right_password_of_a_known_name_is_taken_and_all_else_is_refused_alike(
    directory: Directory, name: str, password: str, user: User | None
) -> None:
    assert directory.check(name, password) is user


@pytest.mark.parametrize(("name", "user"), [("aLiCe", ALICE), ("bob", BOB), ("nobody", None), ("", None)])
def test_a_user_is_found_by_name_whatever_its_case(directory: Directory, name: str, user: User | None) -> None:
    assert directory.find(name) is user


def test_an_unknown_name_costs_one_hash_as_a_wrong_password_does(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []

    def count(password: str, _salt: bytes) -> bytes:
        hashed.append(password)
        return b""

    monkeypatch.setattr("mfalb.reference.directory._digest", count)
    directory.check("alice", "wrong-one")
    directory.check("nobody", "wrong-two")
    assert hashed == ["wrong-one", "wrong-two"]


def test_the_directory_keeps_no_digest_twice_and_shows_none() -> None:
    twins = Directory([User("one", "same", "1"), User("two", "same", "2")])
    one, two = twins._entries.values()
    assert one.digest != two.digest
    assert one.salt != two.salt
    assert "digest" not in repr(one)
    assert "same" not in repr(one)


def test_an_empty_directory_knows_nobody() -> None:
    assert Directory([]).check("alice", "right-password") is None


def test_nobody_signs_in_even_who_could_guess_the_password_that_unknown_names_are_compared_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.urandom", bytes)
    assert Directory([]).check("nobody", bytes(16).hex()) is None


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
