from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mfalb.reference.config.values import Method
from mfalb.reference.mfa_server.data.pfdata import Pfdata
from mfalb.reference.mfa_server.data.records import UserRecord, devices_of, find_user, has_bypass
from mfalb.reference.mfa_server.data.writes import perform

NOW = 1_000_000.0


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Pfdata]:
    with Pfdata(tmp_path / "PhoneFactor.pfdata") as data:
        texts = {"user": "Straße", "phone": "+1 555 0101", "method": "app_push"}
        data.write(lambda db: perform(db, "AddUser", texts, NOW), NOW)
        yield data


@pytest.mark.parametrize("name", ["Straße", "STRASSE", "strasse"])
def test_a_user_is_found_in_whatever_case_the_name_is_written(data: Pfdata, name: str) -> None:
    record = data.read(lambda db: find_user(db, name))
    assert record == UserRecord("Straße", "+1 555 0101", Method.APP_PUSH, is_enabled=True)
    assert data.read(lambda db: find_user(db, "nobody")) is None


@pytest.mark.parametrize(
    ("phone", "masked"), [("+1 555 0101", "+* *** **01"), ("12", "12"), ("", ""), ("123", "*23"), ("+49-30", "+**-30")]
)
def test_of_a_phone_the_last_two_digits_are_shown(phone: str, masked: str) -> None:
    assert UserRecord("alice", phone, Method.ONE_WAY_SMS, is_enabled=True).masked_phone == masked


def test_a_bypass_ends_with_its_time(data: Pfdata) -> None:
    data.write(lambda db: perform(db, "OneTimeBypass", {"user": "strasse", "seconds": "60"}, NOW), NOW)
    assert data.read(lambda db: has_bypass(db, "STRASSE", NOW + 59))
    assert not data.read(lambda db: has_bypass(db, "STRASSE", NOW + 60))
    assert not data.read(lambda db: has_bypass(db, "nobody", NOW))


def test_a_device_counts_when_it_was_confirmed(data: Pfdata) -> None:
    code = data.write(lambda db: perform(db, "NewActivation", {"user": "strasse"}, NOW), NOW)[0]["activationCode"]
    texts = {"activationCode": code, "deviceToken": "push-token", "deviceName": "phone", "oathCounter": "7"}
    told = data.write(lambda db: perform(db, "ActivateDevice", texts, NOW), NOW)[0]
    assert data.read(lambda db: devices_of(db, "strasse")) == ()
    data.write(lambda db: perform(db, "ConfirmDevice", {"confirmationCode": told["ConfirmationCode"]}, NOW), NOW)
    (device,) = data.read(lambda db: devices_of(db, "strasse"))
    assert (device.name, device.token, device.oath_counter, len(device.oath_secret)) == ("phone", "push-token", 7, 20)
    assert "push-token" not in repr(device)
