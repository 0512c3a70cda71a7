from __future__ import annotations

import errno
import ssl
from typing import Any, cast

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from mfalb.reference.config.sdk_access import SdkAccess
from mfalb.reference.config.values import Account
from mfalb.reference.sdk_client.failures import LEVEL_TEXTS, Level
from mfalb.reference.sdk_client.transport import failure_of

KEY = cast("ConnectionKey", None)


def certificate_error(code: int) -> aiohttp.ClientConnectorCertificateError:
    inner = ssl.SSLCertVerificationError(1, "certificate verify failed")
    inner.verify_code = code
    return aiohttp.ClientConnectorCertificateError(KEY, inner)


def tls_error(reason: str, *, is_wrapped: bool = True) -> aiohttp.ClientError | OSError:
    inner = ssl.SSLError(1, reason)
    inner.reason = reason
    if not is_wrapped:
        return inner
    outer = aiohttp.ClientOSError(1, "tls")
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "level", "reason"),
    [
        (TimeoutError(), Level.UNREACHABLE, "timeout"),
        (aiohttp.ServerDisconnectedError(), Level.UNREACHABLE, "ServerDisconnectedError"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), Level.UNREACHABLE, "ConnectionResetError"),
        (aiohttp.ClientConnectorError(KEY, OSError(111, "refused")), Level.UNREACHABLE, "ClientConnectorError"),
        (certificate_error(62), Level.HOST_NAME, "certificate_of_another_name"),
        (certificate_error(64), Level.HOST_NAME, "certificate_of_another_name"),
        (certificate_error(20), Level.HOST_NAME, "certificate_refused"),
        (tls_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), Level.CREDENTIALS, "tls"),
        (tls_error("TLSV1_ALERT_UNKNOWN_CA", is_wrapped=False), Level.CREDENTIALS, "tls"),
        (tls_error("SSLV3_ALERT_HANDSHAKE_FAILURE"), Level.UNREACHABLE, "tls"),
        (tls_error("WRONG_VERSION_NUMBER"), Level.UNREACHABLE, "tls"),
    ],
)
def test_a_call_without_an_answer_failed_at_one_of_four_levels(error: Any, level: Level, reason: str) -> None:
    failure = failure_of(error)
    assert (failure.level, failure.reason) == (level, reason)


def test_each_level_has_a_text_and_they_are_numbered_as_support_has_them() -> None:
    assert [level.value for level in Level] == [1, 2, 3, 4]
    assert set(LEVEL_TEXTS) == set(Level)


def test_an_access_without_account_and_certificate_is_no_access() -> None:
    with pytest.raises(ValueError, match="account or a client certificate"):
        SdkAccess("https://sdk.example/")
    assert SdkAccess("u", cert="c", key="k").cert == "c"
    access = SdkAccess("u", account=Account("svc", "hidden"))
    assert access.account == Account("svc", "hidden")
    assert "hidden" not in repr(access)
