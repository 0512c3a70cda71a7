"""What can go wrong with a demonstration."""

from __future__ import annotations

from mfalb.errors import MfalbError


class DemoFailed(MfalbError):  # noqa: N818 - says what happened
    """The demonstration could not go on."""


class SignInFailed(DemoFailed):
    """A sign-in of the demonstration did not end as it should."""
