from __future__ import annotations

from base64 import b32decode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mfalb.reference.config.values import Method, User
from mfalb.reference.mfa_server.data.pfdata import Pfdata
from mfalb.reference.mfa_server.data.records import UserRecord, devices_of, find_user
from mfalb.reference.mfa_server.data.user_pins import is_pin
from mfalb.reference.mfa_server.data.writes import (
    ACTIVATION_LIFE_S,
    DEVICE_LIMIT,
    TEXT_LIMIT,
    WriteRefused,
    import_users,
    perform,
)
from mfalb.reference.mfa_server.failures import (
    ACTIVATION_REFUSED,
    BAD_ARGUMENT,
    KNOWN_USER,
    PIN_REFUSED,
    TOO_MANY_DEVICES,
    UNKNOWN_DEVICE,
    UNKNOWN_USER,
    Failure,
)

NOW = 1_000_000.0
Perform = Callable[..., dict[str, str]]


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Pfdata]:
    with Pfdata(tmp_path / "PhoneFactor.pfdata") as data:
        users = (User("alice", "secret", "+1 555 0101"), User("bob", "secret", "+1 555 0102", Method.PHONE_CALL))
        data.write(lambda db: import_users(db, users), NOW)
        yield data


@pytest.fixture
def do(data: Pfdata) -> Perform:
    def write(name: str, now: float = NOW, **texts: str) -> dict[str, str]:
        return data.write(lambda db: perform(db, name, texts, now), now)[0]

    return write


def user(data: Pfdata, name: str) -> UserRecord:
    record = data.read(lambda db: find_user(db, name))
    assert record is not None
    return record


@pytest.mark.parametrize(
    ("name", "texts", "reason"),
    [
        ("AddUser", {"user": "ALICE", "phone": "+1"}, KNOWN_USER),
        ("AddUser", {"user": "", "phone": "+1"}, BAD_ARGUMENT),
        ("AddUser", {"user": "carol"}, BAD_ARGUMENT),
        ("AddUser", {"user": "carol", "phone": "+1", "method": "smoke signals"}, BAD_ARGUMENT),
        ("AddUser", {"user": "c" * (TEXT_LIMIT + 1), "phone": "+1"}, BAD_ARGUMENT),
        ("UpdateUser", {"user": "nobody"}, UNKNOWN_USER),
        ("UpdateUser", {"user": "alice", "enabled": "perhaps"}, BAD_ARGUMENT),
        ("Disable", {"user": "nobody"}, UNKNOWN_USER),
        ("OneTimeBypass", {"user": "nobody"}, UNKNOWN_USER),
        ("OneTimeBypass", {"user": "alice", "seconds": "0"}, BAD_ARGUMENT),
        ("OneTimeBypass", {"user": "alice", "seconds": "-5"}, BAD_ARGUMENT),
        ("OneTimeBypass", {"user": "alice", "seconds": "90000"}, BAD_ARGUMENT),
        ("ChangeUserPin", {"user": "nobody", "newPin": "4711"}, PIN_REFUSED),
        ("ChangeUserPin", {"user": "alice", "newPin": "471"}, PIN_REFUSED),
        ("NewActivation", {"user": "nobody"}, UNKNOWN_USER),
        ("ActivateDevice", {"activationCode": "123456789"}, ACTIVATION_REFUSED),
        ("ConfirmDevice", {"confirmationCode": "guessed"}, ACTIVATION_REFUSED),
        ("ConfirmDevice", {}, BAD_ARGUMENT),
        ("RemoveDevice", {"user": "alice", "deviceName": "phone"}, UNKNOWN_DEVICE),
        ("DropEverything", {}, BAD_ARGUMENT),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(
    data: Pfdata, do: Perform, name: str, texts: dict[str, str], reason: Failure
) -> None:
    before = data.digest()
    with pytest.raises(WriteRefused) as refusal:
        do(name, **texts)
    assert refusal.value.failure == reason
    assert data.digest() == before


def test_a_user_is_added_changed_and_disabled(data: Pfdata, do: Perform) -> None:
    do("AddUser", user="carol", phone="+1 555 0103")
    assert user(data, "CAROL") == UserRecord("carol", "+1 555 0103", Method.ONE_WAY_SMS, is_enabled=True)
    do("UpdateUser", user="carol", phone="", method="phone_call", enabled="")
    assert user(data, "carol") == UserRecord("carol", "+1 555 0103", Method.PHONE_CALL, is_enabled=True)
    do("UpdateUser", user="carol", phone="+2", method="", enabled="false")
    assert user(data, "carol") == UserRecord("carol", "+2", Method.PHONE_CALL, is_enabled=False)
    do("UpdateUser", user="carol", enabled="true")
    do("Disable", user="carol", requestedBy="admin")
    assert not user(data, "carol").is_enabled


def test_a_first_user_pin_needs_none_before_it_and_the_next_one_does(data: Pfdata, do: Perform) -> None:
    do("ChangeUserPin", user="alice", newPin="4711")
    for current in ("", "4712"):
        with pytest.raises(WriteRefused):
            do("ChangeUserPin", user="alice", currentPin=current, newPin="1234")
    assert is_pin("4711", user(data, "alice").pin)
    do("ChangeUserPin", user="alice", currentPin="4711", newPin="1234")
    assert is_pin("1234", user(data, "alice").pin)


@pytest.mark.parametrize("name", ["alice", "bob", "nobody"])
def test_a_wrong_user_pin_costs_the_same_guess_whether_there_is_a_user_with_one_or_not(
    do: Perform, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    do("ChangeUserPin", user="alice", newPin="4711")
    guesses: list[str] = []

    def digest(pin: str, _salt: bytes) -> bytes:
        guesses.append(pin)
        return bytes(32)

    monkeypatch.setattr("mfalb.reference.mfa_server.data.user_pins._digest", digest)
    with pytest.raises(WriteRefused):
        do("ChangeUserPin", user=name, currentPin="0815", newPin="no digits")
    assert guesses == ["0815"]


def test_a_bypass_is_used_once_and_in_time(do: Perform) -> None:
    do("OneTimeBypass", user="alice", seconds="60", reason="phone lost", requestedBy="admin")
    assert do("UseBypass", user="ALICE") == {"isUsed": "true"}
    assert do("UseBypass", user="alice") == {"isUsed": "false"}
    do("OneTimeBypass", user="alice")
    assert do("UseBypass", user="alice", now=NOW + 300) == {"isUsed": "false"}, "five minutes unless it is told"


def test_an_activation_code_is_good_once_for_ten_minutes_and_only_the_newest(data: Pfdata, do: Perform) -> None:
    old = do("NewActivation", user="alice")["activationCode"]
    new = do("NewActivation", user="alice")["activationCode"]
    device = {"deviceToken": "token", "deviceName": "phone"}
    for code, now in ((old, NOW), (new, NOW + ACTIVATION_LIFE_S)):
        with pytest.raises(WriteRefused):
            do("ActivateDevice", activationCode=code, now=now, **device)
    told = do("ActivateDevice", activationCode=new, **device)
    assert (told["Username"], len(b32decode(told["OathTokenSecretKey"]))) == ("alice", 20)
    with pytest.raises(WriteRefused):
        do("ActivateDevice", activationCode=new, **device)
    with pytest.raises(WriteRefused):
        do("ConfirmDevice", confirmationCode=told["ConfirmationCode"], now=NOW + ACTIVATION_LIFE_S)
    do("ConfirmDevice", confirmationCode=told["ConfirmationCode"])
    assert [one.name for one in data.read(lambda db: devices_of(db, "alice"))] == ["phone"]
    do("RemoveDevice", user="alice", deviceName="phone")
    assert data.read(lambda db: devices_of(db, "alice")) == ()


def test_a_user_has_only_so_many_devices_and_may_activate_one_again(do: Perform) -> None:
    def activate(name: str) -> dict[str, str]:
        code = do("NewActivation", user="alice")["activationCode"]
        return do("ActivateDevice", activationCode=code, deviceToken="token", deviceName=name)

    for number in range(DEVICE_LIMIT):
        do("ConfirmDevice", confirmationCode=activate(f"phone{number}")["ConfirmationCode"])
    with pytest.raises(WriteRefused) as refusal:
        activate("one-too-many")
    assert refusal.value.failure == TOO_MANY_DEVICES
    activate("phone3")
