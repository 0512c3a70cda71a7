"""The settings of reference services that the README shows are settings."""

from __future__ import annotations

import re
from pathlib import Path

from mfalb.reference.config.files import SettingsFile
from mfalb.reference.config.mfa_server import RPC_PORT

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_s_mfa_server_can_be_started(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n# mfa1\.yaml\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    path = tmp_path / "mfa1.yaml"
    path.write_text(block, "utf-8")
    settings = SettingsFile.read(path).mfa_server()
    assert settings.group is not None
    assert (settings.group.rpc.port, settings.account.name) == (RPC_PORT, "CONTOSO\\mfa-service")
