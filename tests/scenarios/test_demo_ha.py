"""Promise: `mfalb demo --topology ha` is conf/contoso at work, and loses no sign-in to a lost master or a drain."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from programs.process import wait_until

UP = "Everything stays up until Ctrl-C."
COMMAND = [sys.executable, "-u", "-m", "mfalb", "demo", "--topology", "ha"]
DEADLINE_S = 150


def test_the_script_goes_through_all_of_it() -> None:
    done = subprocess.run(
        [*COMMAND, "--once", "--sign-ins", "4"], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    text = done.stdout
    assert (done.returncode, done.stderr) == (0, ""), text + done.stderr
    assert re.findall(r"(\d+) of 4 second halves reached the MFA Server that had sent the code", text) == ["4"] * 3
    assert len(re.findall(r"User Portal, one-way SMS: signed in at (\S+), and 4 more pages from \1", text)) == 1
    assert re.search(r"RADIUS, one-way SMS: half one on (mfa\d), half two on \1, accepted", text)
    assert re.search(r"AD FS, client certificate: taken by adfs\d, and refused without one", text)
    assert "Mobile App Web Service at up-mas1 reaches the MFA Servers" in text
    steps = (
        "mfa1, the master, is killed",
        "second halves",
        "the portal, which is read-only and says so",
        "mfa2 is the master now (epoch 2).",
        "alice changes the phone number at the portal: done",
        "mfa1 is a slave now, mfa2 stays the master",
        "mfa-sdk/mfa2 drain:",
        "had sent the code (mfa1 4)",
        "mfa-sdk/mfa2 is ready.",
        "Texts sent: ",
    )
    place = 0
    for step in steps:
        place = text.find(step, place)
        assert place >= 0, f"{step!r} is not in its place:\n{text}"
    sent = re.search(r"Texts sent: (\d+), for (\d+) one-way SMS sign-ins", text)
    assert sent is not None
    assert sent.group(1) == sent.group(2) == "16"


class Demo:
    """A demonstration that stays up, and what it has printed."""

    def __init__(self, output: Path, process: subprocess.Popen[bytes]) -> None:
        self._output = output
        self.process = process

    @property
    def text(self) -> str:
        return self._output.read_text("utf-8")

    def found(self, pattern: str) -> str:
        match = re.search(pattern, self.text)
        assert match is not None, self.text
        return match.group(1)

    def paste(self, word: str) -> str:
        """Run the printed command with this word; returns what it printed."""
        (command,) = re.findall(rf"^    (.*\b{word}\b.*)$", self.text, re.MULTILINE)
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    output = tmp_path / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*COMMAND, "--sign-ins", "1"], stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    running = Demo(output, process)
    try:
        wait_until(lambda: UP in running.text or process.poll() is not None, "the demonstration", deadline_s=DEADLINE_S)
        assert UP in running.text, running.text
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_what_is_printed_can_be_pasted_and_ctrl_c_leaves_nothing_behind(demo: Demo) -> None:
    ca = demo.found(r"know the authority, (\S+)\)")
    for title in ("Application", "User Portal", "Mobile app"):
        page = requests.get(demo.found(rf"  {title} +(https://\S+)"), verify=ca, timeout=20)
        assert page.status_code == 200, title
    phone = requests.get(demo.found(r"Phones +(\S+)"), timeout=20)
    assert "Your verification code is" in phone.text
    demo.paste("kill")
    assert demo.paste("promote") == "mfa2 is the master now (epoch 2).\n"
    assert '"slow_s": 5' in demo.paste("slow_s")
    assert '"duplicate": true' in demo.paste("duplicate")
    assert "mfa-portal/up-mas1 drain" in demo.paste("drain up-mas1")
    assert "up-mas1" in demo.paste("status.*balancer-perimeter")
    os.killpg(demo.process.pid, signal.SIGINT)  # as a terminal does: everybody gets it
    assert demo.process.wait(timeout=60) == 0
    assert demo.text.rstrip().endswith("Stopped.")
    assert "Traceback" not in demo.text
    assert not Path(ca).parents[2].exists()
    wait_until(lambda: not _is_in_use(demo.process.pid), "the services to end", deadline_s=10)


def _is_in_use(group: int) -> bool:
    """Whether a process group has anybody left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
