"""The Mobile App Web Service over HTTP."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from aiohttp import web

from mfalb.reference.asmx import BODY_LIMIT_BYTES, Answer, Asmx, Description
from mfalb.reference.faults import Faults
from mfalb.reference.mobile_app import soap
from mfalb.reference.mobile_app.activations import Activations
from mfalb.reference.sdk_client.client import DeviceFacts, SdkClient
from mfalb.reference.sdk_client.failures import MasterUnavailable, SdkUnavailable
from mfalb.wire.soap import Envelope

PATH: Final = "/MultiFactorAuthMobileAppWebService/PfPaWs.asmx"
_DESCRIPTION: Final = Description(PATH, soap.NAMESPACE, soap.OPERATIONS, Path(__file__).parent / "templates")
_TOKEN_LIMIT: Final = 1024  # characters; push services' tokens are a few hundred
_NAME_LIMIT: Final = 200
_ACTIVATION_CODE: Final = re.compile(r"[0-9]{9}").fullmatch
_NUMBER: Final = re.compile(r"[0-9]{1,12}").fullmatch
_ANSWERS: Final = {"approve": True, "deny": False}

_log = logging.getLogger("mfalb.reference.mobile_app")

Texts = Mapping[str, str]
Operation = Callable[[Texts], Awaitable[Answer]]


class MobileApp:
    """One Mobile App Web Service: its activations under way, and the SDK that it asks for everything that lasts."""

    def __init__(self, name: str, sdk: SdkClient, activations: Activations, push_wait_s: float) -> None:
        self._name = name
        self._sdk = sdk
        self._activations = activations
        self._push_wait_s = push_wait_s
        self._faults = Faults()
        self._asmx = Asmx(name, _DESCRIPTION, self._answer)
        self._operations: dict[str, Operation] = {
            "ActivateNew": self._activate_new,
            "ConfirmActivation": self._confirm_activation,
            "PushAnswer": self._push_answer,
            "TestPfWsSdkConnection": self._test_connection,
        }

    def application(self, faults: Faults | None = None) -> web.Application:
        self._faults = faults or self._faults
        application = web.Application(client_max_size=BODY_LIMIT_BYTES, middlewares=[self._faults.middleware])
        application.router.add_route("*", "/{path:.*}", self._asmx.handle)
        application.on_response_prepare.append(self._sign)
        return application

    async def _sign(self, _request: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-Served-By"] = self._name
        response.headers["Cache-Control"] = "no-store"  # answers hold the keys of devices

    async def _answer(self, call: Envelope) -> Answer | None:
        operation = self._operations.get(call.method)
        if operation is None:
            return None
        try:
            return await operation(call.texts)
        except SdkUnavailable as failure:
            self._tell("SDK not available", level=failure.level.value, reason=failure.reason)
            return self._refusal(call.method, (failure.level.value, failure.explanation))
        except MasterUnavailable:
            self._tell("no master")
            return self._refusal(call.method, soap.NO_MASTER)

    @staticmethod
    def _refusal(method: str, error: soap.Error) -> Answer:
        """A no. ActivateNew's answer has its activationInfo even then, empty: clients that read the WSDL expect it."""
        inside = dict.fromkeys(("Username", "ConfirmationCode", "OathTokenSecretKey"), "")
        return soap.result(method, is_good=False, error=error, inside=inside if method == "ActivateNew" else None)

    # ------------------------------------------------------------------------------ operations

    async def _activate_new(self, texts: Texts) -> Answer:
        """A device shows the code that its user got from the portal, and gets a key and a code to confirm with."""
        device = _device(texts)
        code = "".join(texts.get("ActivationCode", "").split())
        if device is None:
            return self._refusal("ActivateNew", soap.BAD_CALL)
        # What cannot be a code is not worth a call
        activation = await self._sdk.activate_device(code, device) if _ACTIVATION_CODE(code) else None
        if activation is None:
            self._tell("activation code refused")
            return self._refusal("ActivateNew", soap.CODE_REFUSED)
        self._activations.begin(activation.confirmation_code, activation.user)
        self._tell("activation begun", activation.user)
        self._faults.challenge_begun()
        inside = {
            "Username": activation.user,
            "ConfirmationCode": activation.confirmation_code,
            "OathTokenSecretKey": activation.oath_secret,
        }
        return soap.result("ActivateNew", is_good=True, error=soap.NO_ERROR, inside=inside)

    async def _confirm_activation(self, texts: Texts) -> Answer:
        """Stays open until the test push was answered; when it was approved, the device counts."""
        code = texts.get("confirmationCode", "")
        activation = await self._activations.wait(code, self._push_wait_s)
        if activation is None:
            self._tell("confirmation code not known")
            return self._refusal("ConfirmActivation", soap.NOT_KNOWN)
        if not activation.answer.done() or not activation.answer.result():
            reason = "denied" if activation.answer.done() else "no answer"
            self._tell("test push not approved", activation.user, reason=reason)
            return self._refusal("ConfirmActivation", soap.NOT_APPROVED)
        if not await self._sdk.confirm_device(code):
            self._tell("confirmation refused", activation.user)
            return self._refusal("ConfirmActivation", soap.CODE_REFUSED)
        self._tell("activated", activation.user)
        return soap.result("ConfirmActivation", is_good=True, error=soap.NO_ERROR)

    async def _push_answer(self, texts: Texts) -> Answer:
        """The app's answer to the test push."""
        answer = _ANSWERS.get(texts.get("answer", ""))
        if answer is None:
            return self._refusal("PushAnswer", soap.BAD_CALL)
        if not self._activations.answer(texts.get("confirmationCode", ""), is_approved=answer):
            self._tell("push answer for nobody")
            return self._refusal("PushAnswer", soap.NOT_KNOWN)
        return soap.result("PushAnswer", is_good=True, error=soap.NO_ERROR)

    async def _test_connection(self, _texts: Texts) -> Answer:
        """Support's test: true, or (by the SdkUnavailable that it raises) at which of four levels the SDK fails."""
        await self._sdk.test_security()
        if not await self._sdk.is_master_reached():
            return soap.result("TestPfWsSdkConnection", is_good=True, error=(0, "The master server is not available."))
        return soap.result("TestPfWsSdkConnection", is_good=True, error=soap.NO_ERROR)

    def _tell(self, event: str, user: str = "", **fields: object) -> None:
        shown = hashlib.sha256(user.casefold().encode()).hexdigest()[:8] if user else "-"
        _log.info(event, extra={"node": self._name, "user": shown, **fields})


def _device(texts: Texts) -> DeviceFacts | None:
    """What a device says of itself; None when something is missing or makes no sense."""
    token, name, counter = (texts.get(key, "") for key in ("DeviceToken", "DeviceName", "OathCounter"))
    is_sane = 0 < len(token) <= _TOKEN_LIMIT and 0 < len(name) <= _NAME_LIMIT and _NUMBER(counter or "0")
    return DeviceFacts(token, name, counter or "0", texts.get("Version", "")[:_NAME_LIMIT]) if is_sane else None
