"""Every change that can be made to the group's users, as the master makes it.

A write is a name and texts, because that is how a slave passes it on. It gives texts back, or refuses and says why;
what it draws at random it draws here, once, and replication carries the outcome.
"""

from __future__ import annotations

import secrets
from base64 import b32encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import apsw

from mfalb.errors import MfalbError
from mfalb.reference.config.values import Method, User
from mfalb.reference.mfa_server.data.records import UserRecord, find_user, user_key
from mfalb.reference.mfa_server.data.user_pins import PinHash, hash_pin, is_pin, is_possible
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

Texts = Mapping[str, str]
Write = Callable[[apsw.Connection, Texts, float], dict[str, str]]

ACTIVATION_LIFE_S: Final = 600.0
BYPASS_DEFAULT_S: Final = 300
BYPASS_LIMIT_S: Final = 86_400
DEVICE_LIMIT: Final = 10  # of a user, as in the portal's settings
TEXT_LIMIT: Final = 1024  # characters; a push token is the longest
_CODE_DIGITS: Final = 9
_OATH_SECRET_BYTES: Final = 20


class WriteRefused(MfalbError):  # noqa: N818 - says what happened
    """The write was not made; `failure` is what the caller is told."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


def perform(db: apsw.Connection, name: str, texts: Texts, now: float) -> dict[str, str]:
    """Make one write, inside the caller's transaction. `now` is unix seconds. Raises WriteRefused."""
    write = WRITES.get(name)
    if write is None or any(len(text) > TEXT_LIMIT for text in texts.values()):
        raise WriteRefused(BAD_ARGUMENT)
    return write(db, texts, now)


def import_users(db: apsw.Connection, users: tuple[User, ...]) -> None:
    """What the first master of a group begins with: the users of its settings, as if imported from the directory."""
    for user in users:
        _insert_user(db, user.name, user.phone, user.method)
        key = user_key(user.name)
        if user.pin is not None:
            pin = (bytes.fromhex(user.pin.salt), bytes.fromhex(user.pin.digest), key)
            db.execute("UPDATE users SET pin_salt = ?, pin_hash = ? WHERE key = ?", pin)
        if user.device_token:  # an app that was activated long ago
            device = (key, "app", user.device_token, "", secrets.token_bytes(_OATH_SECRET_BYTES))
            db.execute("INSERT INTO devices VALUES (?, ?, ?, ?, ?, 0, NULL, 0)", device)


# ------------------------------------------------------------------------------ users


def _insert_user(db: apsw.Connection, name: str, phone: str, method: Method) -> None:
    row = (user_key(name), name, phone, method.value)
    db.execute("INSERT INTO users (key, name, phone, method, enabled) VALUES (?, ?, ?, ?, 1)", row)


def _add_user(db: apsw.Connection, texts: Texts, _now: float) -> dict[str, str]:
    name, phone = _needed(texts, "user"), _needed(texts, "phone")
    method = _method(texts) or Method.ONE_WAY_SMS
    if find_user(db, name) is not None:
        raise WriteRefused(KNOWN_USER)
    _insert_user(db, name, phone, method)
    return {}


def _update_user(db: apsw.Connection, texts: Texts, _now: float) -> dict[str, str]:
    user = _user(db, texts)
    method = _method(texts) or user.method
    is_enabled = _boolean(texts["enabled"]) if texts.get("enabled") else user.is_enabled
    row = (texts.get("phone") or user.phone, method.value, int(is_enabled), user_key(user.name))
    db.execute("UPDATE users SET phone = ?, method = ?, enabled = ? WHERE key = ?", row)
    return {}


def _disable(db: apsw.Connection, texts: Texts, _now: float) -> dict[str, str]:
    user = _user(db, texts)
    db.execute("UPDATE users SET enabled = 0 WHERE key = ?", (user_key(user.name),))
    return {}


def _change_user_pin(db: apsw.Connection, texts: Texts, _now: float) -> dict[str, str]:
    """A first user PIN needs no current one. Unknown users and wrong PINs look alike and take alike."""
    user, new = find_user(db, texts.get("user", "")), texts.get("newPin", "")
    kept = None if user is None else user.pin
    is_right = is_pin(texts.get("currentPin", ""), kept)
    if user is None or (kept is not None and not is_right) or not is_possible(new):
        raise WriteRefused(PIN_REFUSED)
    pin: PinHash = hash_pin(new)
    row = (pin.salt, pin.digest, user_key(user.name))
    db.execute("UPDATE users SET pin_salt = ?, pin_hash = ? WHERE key = ?", row)
    return {}


# ------------------------------------------------------------------------------ bypasses


def _one_time_bypass(db: apsw.Connection, texts: Texts, now: float) -> dict[str, str]:
    user = _user(db, texts)
    seconds = _number(texts.get("seconds") or str(BYPASS_DEFAULT_S))
    if not 0 < seconds <= BYPASS_LIMIT_S:
        raise WriteRefused(BAD_ARGUMENT)
    row = (user_key(user.name), now + seconds, texts.get("reason", ""), texts.get("requestedBy", ""))
    db.execute("INSERT OR REPLACE INTO bypasses VALUES (?, ?, ?, ?)", row)
    return {}


def _use_bypass(db: apsw.Connection, texts: Texts, now: float) -> dict[str, str]:
    """What a sign-in does: of all servers of the group, one uses the bypass, once."""
    found = db.execute("SELECT until FROM bypasses WHERE key = ?", (user_key(_needed(texts, "user")),)).fetchone()
    db.execute("DELETE FROM bypasses WHERE key = ?", (user_key(texts["user"]),))
    return {"isUsed": "true" if found is not None and found[0] > now else "false"}


# ------------------------------------------------------------------------------ devices


def _new_activation(db: apsw.Connection, texts: Texts, now: float) -> dict[str, str]:
    user = _user(db, texts)
    db.execute("DELETE FROM activations WHERE until <= ? OR key = ?", (now, user_key(user.name)))
    code = "".join(secrets.choice("0123456789") for _ in range(_CODE_DIGITS))
    db.execute(
        "INSERT OR REPLACE INTO activations VALUES (?, ?, ?)", (code, user_key(user.name), now + ACTIVATION_LIFE_S)
    )
    return {"activationCode": code}


def _activate_device(db: apsw.Connection, texts: Texts, now: float) -> dict[str, str]:
    """A code is good once. The device counts when its confirmation code has come back."""
    code = texts.get("activationCode", "")
    row = db.execute("SELECT key FROM activations WHERE code = ? AND until > ?", (code, now)).fetchone()
    user = None if row is None else find_user(db, row[0])
    if user is None:
        raise WriteRefused(ACTIVATION_REFUSED)
    key, name = user_key(user.name), _needed(texts, "deviceName")
    db.execute("DELETE FROM activations WHERE code = ?", (code,))
    db.execute("DELETE FROM devices WHERE confirmation IS NOT NULL AND until <= ?", (now,))
    query = "SELECT count(*) FROM devices WHERE key = ? AND name <> ?"
    if int(db.execute(query, (key, name)).get) >= DEVICE_LIMIT:
        raise WriteRefused(TOO_MANY_DEVICES)
    secret, confirmation = secrets.token_bytes(_OATH_SECRET_BYTES), secrets.token_hex(16)
    device = (key, name, _needed(texts, "deviceToken"), texts.get("version", ""), secret)
    counter = _number(texts.get("oathCounter") or "0")
    db.execute(
        "INSERT OR REPLACE INTO devices VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*device, counter, confirmation, now + ACTIVATION_LIFE_S),
    )
    return {
        "Username": user.name,
        "ConfirmationCode": confirmation,
        "OathTokenSecretKey": b32encode(secret).decode("ascii"),
    }


def _confirm_device(db: apsw.Connection, texts: Texts, now: float) -> dict[str, str]:
    code = _needed(texts, "confirmationCode")
    db.execute("UPDATE devices SET confirmation = NULL WHERE confirmation = ? AND until > ?", (code, now))
    if not db.changes():
        raise WriteRefused(ACTIVATION_REFUSED)
    return {}


def _remove_device(db: apsw.Connection, texts: Texts, _now: float) -> dict[str, str]:
    user = _user(db, texts)
    db.execute("DELETE FROM devices WHERE key = ? AND name = ?", (user_key(user.name), _needed(texts, "deviceName")))
    if not db.changes():
        raise WriteRefused(UNKNOWN_DEVICE)
    return {}


# ------------------------------------------------------------------------------ arguments


def _needed(texts: Texts, name: str) -> str:
    text = texts.get(name, "")
    if not text:
        raise WriteRefused(BAD_ARGUMENT)
    return text


def _user(db: apsw.Connection, texts: Texts) -> UserRecord:
    user = find_user(db, _needed(texts, "user"))
    if user is None:
        raise WriteRefused(UNKNOWN_USER)
    return user


def _method(texts: Texts) -> Method | None:
    """The method that is named; None for an empty one, which leaves it as it is."""
    with suppress(ValueError):
        return Method(texts["method"]) if texts.get("method") else None
    raise WriteRefused(BAD_ARGUMENT)


def _boolean(text: str) -> bool:
    if text not in ("true", "false", "1", "0"):
        raise WriteRefused(BAD_ARGUMENT)
    return text in ("true", "1")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12):  # noqa: PLR2004 - far within 64 bits
        raise WriteRefused(BAD_ARGUMENT)
    return int(text)


WRITES: Final[Mapping[str, Write]] = {
    "ActivateDevice": _activate_device,
    "AddUser": _add_user,
    "ChangeUserPin": _change_user_pin,
    "ConfirmDevice": _confirm_device,
    "Disable": _disable,
    "NewActivation": _new_activation,
    "OneTimeBypass": _one_time_bypass,
    "RemoveDevice": _remove_device,
    "UpdateUser": _update_user,
    "UseBypass": _use_bypass,
}
