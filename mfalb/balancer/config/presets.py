"""Named affinities for products whose ways are known: `affinity: {preset: azure_mfa_sdk}`.

A preset is written out as the table it stands for, so nothing else in the balancer knows of any product. Keys that
stand next to `preset` win over it.
"""

from __future__ import annotations

from mfalb.balancer.config.document import Document, Loc
from mfalb.balancer.config.findings import Findings
from mfalb.balancer.config.models import CookieAffinity
from mfalb.balancer.config.outline import Place, did_you_mean
from mfalb.balancer.config.values import quoted

PRESETS: dict[str, dict[str, object]] = {
    # Microsoft's Web Service SDK: half one (PfAuthUser_4) hands back an authreqid, half two brings user name and
    # authreqid to the server that sent the SMS. Callers (AD FS adapters) keep no cookies: content is all there is.
    "azure_mfa_sdk": {
        "type": "transaction",
        "id_element": "authreqid",
        "user_element": "username",
        "body_limit": "64KiB",
        "lifetime": "5m",
    },
    # Mobile App Web Service: the answer to ActivateNew hands out a ConfirmationCode, and whatever brings that code goes
    # to the server that is waiting with it. The app is no browser, and names no user.
    "azure_mfa_mobile_app": {
        "type": "transaction",
        "id_element": "ConfirmationCode",
        "request_id_element": "confirmationCode",
        "user_element": None,
        "body_limit": "64KiB",
        "lifetime": "10m",
    },
    # User Portal: ASP.NET session state in the memory of the server that began it.
    "azure_mfa_portal": {
        "type": "cookie",
        "name": "mfalb",
        "path": "/",
        "idle_timeout": "30m",
        "max_life": "12h",
    },
    # privacyIDEA 3: what triggers a challenge (/validate/check, triggerchallenge and initialize, /auth) hands out a
    # transaction_id of twenty random digits. Who answers the challenge, or polls for it, brings that, older plugins as
    # `state`. The order is privacyIDEA's own (get_all_params in its api/lib/utils.py).
    "privacyidea": {
        "type": "transaction_id",
        "answer_json": [
            "/detail/transaction_id",
            "/detail/transaction_ids/*",
            "/detail/multi_challenge/*/transaction_id",
        ],
        "request_path": ["/validate/polltransaction/*", "/token/challenges/transaction/*"],
        "request_json": ["/transaction_id", "/state"],
        "request_query": ["transaction_id", "state"],
        "request_form": ["transaction_id", "state"],
        "body_limit": "64KiB",
        "lifetime": "5m",
    },
    # Any RADIUS server that asks for a one-time password by Access-Challenge (RFC 2865 section 4.4).
    "radius_challenge": {"type": "radius_state", "lifetime": "5m"},
}


def expand(place: Place, document: Document, findings: Findings) -> None:
    """Replaces `preset` in an affinity's table by what it stands for; unknown names are findings."""
    if CookieAffinity not in place.choices or "preset" not in place.data:
        return
    loc: Loc = (*place.loc, "preset")
    name = place.data.pop("preset")
    preset = PRESETS.get(name) if isinstance(name, str) else None
    if preset is None:
        wrong = f"{quoted(name)} is not" if isinstance(name, str) else "must be"
        message = f"preset: {wrong} one of {', '.join(PRESETS)}{did_you_mean(str(name), PRESETS)}"
        findings.error(document.at_value(loc), message)
        place.data.clear()
        place.data["type"] = "none"
        return
    written_type = place.data.get("type", preset["type"])
    if written_type != preset["type"]:
        findings.error(
            document.at_value((*place.loc, "type")),
            f"type: preset {name} is a {preset['type']} affinity; remove 'type' or 'preset'",
        )
        place.data.clear()
    for key, value in preset.items():
        place.data.setdefault(key, value)
