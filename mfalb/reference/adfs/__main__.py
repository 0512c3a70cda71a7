"""`python -m mfalb.reference.adfs --settings FILE`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from mfalb.reference.adfs.app import AdfsNode, Farm
from mfalb.reference.adfs.farm import FarmKey
from mfalb.reference.adfs.tokens import TokenSigner
from mfalb.reference.adfs.trusts import Trusts
from mfalb.reference.config.files import SettingsFile
from mfalb.reference.faults import Faults
from mfalb.reference.sdk_client.transport import open_sdk
from mfalb.reference.service import main, serve_sites
from mfalb.reference.web.clients import Clients


async def start(settings: SettingsFile, stack: AsyncExitStack) -> Mapping[str, int]:
    """Serve one node of the AD FS farm."""
    adfs, faults = settings.adfs(), Faults("slow_s", "hang", "down", "die_mid_challenge", "clock_skew_s")
    farm = Farm(
        issuer=adfs.issuer,
        key=FarmKey.of_file(Path(adfs.farm_key)),
        signer=TokenSigner.of_files(adfs.token_cert, adfs.token_key),
        trusts=Trusts(adfs.relying_parties),
        token_life_s=adfs.token_life_s,
    )
    sdk = await open_sdk(adfs.sdk, "AD FS", stack)
    node = AdfsNode(adfs.name, farm, sdk, faults.unix_time, Clients(adfs.trusted_proxies))
    return await serve_sites(
        stack,
        https=(node.application(faults), adfs.endpoint),
        certificates=(node.application(faults), adfs.certificate_endpoint),
        control=(faults.control_application(), adfs.control),
    )


if __name__ == "__main__":
    main("A node of the reference AD FS farm.", start)
