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
from mfalb.reference.sdk_client.client import SdkClient
from mfalb.reference.sdk_client.transport import sdk_caller, sdk_session
from mfalb.reference.service import main, serve_http


async def start(settings: SettingsFile, stack: AsyncExitStack) -> Mapping[str, int]:
    """Serve one node of the AD FS farm."""
    adfs, faults = settings.adfs(), Faults("slow_s", "hang", "down", "clock_skew_s")
    farm = Farm(
        issuer=adfs.issuer,
        key=FarmKey.of_file(Path(adfs.farm_key)),
        signer=TokenSigner.of_files(adfs.token_cert, adfs.token_key),
        trusts=Trusts(adfs.relying_parties),
        token_life_s=adfs.token_life_s,
    )
    session = await stack.enter_async_context(sdk_session(adfs.sdk))
    sdk = SdkClient(sdk_caller(adfs.sdk, session), "AD FS")
    node = AdfsNode(adfs.name, farm, sdk, faults.unix_time)
    ports = {"https": await serve_http(node.application(faults), adfs.endpoint, stack)}
    if adfs.certificate_endpoint is not None:
        application = node.application(faults)
        ports["certificates"] = await serve_http(application, adfs.certificate_endpoint, stack)
    if adfs.control is not None:
        ports["control"] = await serve_http(faults.control_application(), adfs.control, stack)
    return ports


if __name__ == "__main__":
    main("A node of the reference AD FS farm.", start)
