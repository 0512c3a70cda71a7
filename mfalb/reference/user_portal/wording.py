"""What the portal says; always the same words for the same thing, whoever asks."""

from __future__ import annotations

from typing import Final

from mfalb.reference.config.values import Method

OLD_FORM: Final = "This form was out of date. Please try again."
WRONG_PASSWORD: Final = "The user name or password is not right."  # noqa: S105 - what users are told
NOT_CONFIRMED: Final = "The sign-in was not confirmed on your phone."
NOT_EVERYWHERE: Final = (
    "Your phone is registered, but not all servers know of it yet. Please sign in again in a minute."
)
NO_CODE: Final = "Please type the digits of the text message."
WRONG_CODE: Final = "The code was not accepted. Type it again, or cancel to have a new one sent."
DISABLED: Final = "Multi-factor authentication is switched off for this user. Please ask your help desk."

BAD_PHONE: Final = "Please type a phone number: digits, with + and the country code in front if you like."
BAD_METHOD: Final = "Please choose one of the ways to be asked."
NOT_CHANGED: Final = "The change was not accepted. Please look at what you typed."
PHONE_CHANGED: Final = "Your phone and the way to be asked were changed."
USER_PIN_CHANGED: Final = "Your user PIN was changed."
USER_PINS_DIFFER: Final = "The two new user PINs are not the same. Nothing was changed."
BAD_USER_PIN: Final = "A user PIN has 4 to 16 digits. Nothing was changed."
USER_PIN_REFUSED: Final = "The user PIN was not changed. Please look at the current user PIN that you typed."
BAD_BYPASS: Final = "Please type a number of seconds from 15 to 3600."
DEVICE_REMOVED: Final = "The device was removed."
DEVICE_REFUSED: Final = "There is no device of that name."

METHODS: Final[dict[Method, str]] = {
    Method.ONE_WAY_SMS: "Text message with a code",
    Method.TWO_WAY_SMS: "Text message that I answer",
    Method.PHONE_CALL: "Phone call",
    Method.APP_PUSH: "Question in the mobile app",
}
