"""EAP sign-ins with eapol_test (wpa_supplicant's test client), which also verifies the MS-MPPE keys it is given."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

from programs.certificates import CertificateFiles
from programs.freeradius import TestUser
from programs.process import find_program

_MPPE: Final = re.compile(r"^MPPE keys OK: (\d+)\s+mismatch: (\d+)", re.MULTILINE)
_LOG_TAIL_LINES: Final = 60


class Method(Enum):
    """An EAP method and what runs inside its tunnel, in wpa_supplicant's words."""

    PEAP_MSCHAPV2 = ("PEAP", "auth=MSCHAPV2")
    TTLS_PAP = ("TTLS", "auth=PAP")
    TTLS_MSCHAPV2 = ("TTLS", "auth=MSCHAPV2")


@dataclass(frozen=True, slots=True)
class EapTarget:
    """Where sign-ins go, and how long one may take."""

    host: str
    port: int
    secret: str
    timeout_s: int = 20


@dataclass(frozen=True, slots=True)
class EapResult:
    """How one sign-in ended. `log_tail` is empty unless it failed; it holds no password."""

    is_success: bool
    mppe_keys_ok: int
    mppe_keys_mismatched: int
    log_tail: str = field(default="", repr=False)

    @property
    def is_perfect(self) -> bool:
        """Accepted, and both sides hold the same keys."""
        return self.is_success and self.mppe_keys_ok > 0 and self.mppe_keys_mismatched == 0


def write_supplicant_config(path: Path, method: Method, user: TestUser, certificate: CertificateFiles) -> None:
    """A wpa_supplicant network for `method`; the server's certificate is verified."""
    eap, phase2 = method.value
    path.touch(mode=0o600)
    path.write_text(
        "network={\n"
        "    key_mgmt=WPA-EAP\n"
        f"    eap={eap}\n"
        f'    identity="{user.name}"\n'
        f'    anonymous_identity="{user.name}"\n'
        f'    password="{user.password}"\n'
        f'    phase2="{phase2}"\n'
        f'    ca_cert="{certificate.ca}"\n'
        "}\n",
        "utf-8",
    )


def sign_in(target: EapTarget, supplicant_config: Path, mac: str) -> EapResult:
    """One whole EAP sign-in; `mac` becomes Calling-Station-Id. Retransmits are eapol_test's own."""
    finished = subprocess.run(
        [
            *(find_program("eapol_test"), "-c", str(supplicant_config)),
            *("-a", target.host, "-p", str(target.port), "-s", target.secret),
            *("-M", mac, "-t", str(target.timeout_s)),
        ],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=target.timeout_s + 20,
        check=False,  # a failed sign-in is a result
    )
    output = finished.stdout
    ok, mismatched = (int(number) for number in found.groups()) if (found := _MPPE.search(output)) else (0, 0)
    is_success = finished.returncode == 0 and output.rstrip().endswith("SUCCESS")
    return EapResult(is_success, ok, mismatched, "" if is_success else _harmless_tail(output))


def _harmless_tail(output: str) -> str:
    """The end of eapol_test's debug log, without the lines that dump keys and passwords."""
    lines = [line for line in output.splitlines() if "hexdump" not in line and "password" not in line.lower()]
    return "\n".join(lines[-_LOG_TAIL_LINES:])


def mac_of(number: int) -> str:
    """A locally administered MAC address for the sign-in of this number (0..65535)."""
    return f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"
