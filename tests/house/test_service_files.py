"""The files for systemd are what systemd takes, and as locked up as the README says."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf" / "systemd"
ONLY_SINCE_253 = "Failed to parse service type, ignoring: notify-reload"


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units as they would lie in /etc, with a program that is there."""
    for file in CONF.iterdir():
        shutil.copy(file, tmp_path)
    service = tmp_path / "mfalb.service"
    service.write_text(service.read_text().replace("/opt/mfalb/.venv/bin/mfalb", "/bin/true"))
    (tmp_path / "mfalb.service.d").mkdir()
    (tmp_path / "debian-12.conf").rename(tmp_path / "mfalb.service.d" / "debian-12.conf")
    return tmp_path


def complaints(unit: Path) -> list[str]:
    """What systemd says of a unit itself; it looks at others of the machine, too."""
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if str(unit.parent) in line or "mfalb" in line]
    return [line for line in said if ONLY_SINCE_253 not in line]


@pytest.mark.parametrize("name", ["mfalb.service", "mfalb.socket"])
def test_systemd_finds_nothing_wrong_with_the_unit(name: str, units: Path) -> None:
    assert complaints(units / name) == []


def test_a_wrong_key_of_a_unit_is_found(units: Path) -> None:
    service = units / "mfalb.service"
    service.write_text(service.read_text().replace("WatchdogSec=", "WatchDogSecs="))
    assert any("WatchDogSecs" in line for line in complaints(service))


def test_the_exposure_is_what_the_readme_says(units: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(units / "mfalb.service")]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"exposure level for mfalb.service: (\d+\.\d)", shown)
    told = re.search(r"exposure of (\d+\.\d)", (ROOT / "README.md").read_text())
    assert found is not None, shown
    assert told is not None
    assert found[1] == told[1]


def faults(conf: Path) -> str:
    """What keepalived says of it, in a network of its own where there is an eth0.

    Not by its exit code: 2.2.7 was seen to end by SIGTERM with nothing wrong.
    """
    said = conf.with_suffix(".faults")
    said.unlink(missing_ok=True)
    script = f"ip link add eth0 type veth peer name other && exec keepalived --config-test={said} --use-file {conf}"
    command = ["unshare", "--net", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, start_new_session=True)
    return done.stdout + done.stderr + (said.read_text() if said.exists() else "")


def test_keepalived_finds_nothing_wrong_with_its_configuration(tmp_path: Path) -> None:
    conf = tmp_path / "keepalived.conf"
    text = (ROOT / "conf" / "keepalived" / "keepalived.conf").read_text()
    conf.write_text(re.sub(r"/etc/keepalived/mfalb-\w+", "/bin/true", text))  # where root alone may write
    assert faults(conf) == ""
    conf.write_text(conf.read_text().replace("virtual_router_id 51", "virtual_router_id 0"))
    assert "VRID" in faults(conf)
