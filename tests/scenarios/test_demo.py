"""Promise: `mfalb demo` signs users in visibly, what it prints can be pasted, and Ctrl-C leaves nothing behind."""

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

_UP = "Everything stays up until Ctrl-C."


class Demo:
    """A running demonstration and what it has printed."""

    def __init__(self, output: Path, process: subprocess.Popen[bytes]) -> None:
        self._output = output
        self.process = process

    @property
    def text(self) -> str:
        return self._output.read_text("utf-8")

    def paste(self, containing: str, **words: str) -> str:
        """Run the printed command that contains this text, its capital words replaced; returns what it printed."""
        commands = [command for command in self.text.split("\n\n") if containing in command]
        assert len(commands) == 1, commands
        command = commands[0]
        for word, value in words.items():
            command = re.sub(rf"\b{word}\b", value, command)
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20, check=False)
        return done.stdout + done.stderr

    def newest_code(self) -> str:
        found = re.search(r"http://\S+/outbox", self.text)
        assert found is not None
        texts = requests.get(f"{found.group()}.json", timeout=5).json()
        code: str = texts[0]["otp"]
        return code


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    output = tmp_path_factory.mktemp("demo") / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "mfalb", "demo"], stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    running = Demo(output, process)
    try:
        wait_until(lambda: _UP in running.text or process.poll() is not None, "the demonstration", deadline_s=60)
        assert _UP in running.text, running.text
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_three_kinds_of_sign_in_are_shown_with_the_server_that_took_each_half(demo: Demo) -> None:
    assert len(re.findall(r"half one on (\w+) +half two on \1 +same server, signed in", demo.text)) == 6
    assert set(re.findall(r"half one on (\w+)", demo.text)) == {"mfa1", "mfa2", "portal1", "portal2"}
    assert "Texts sent: 6, for 6 sign-ins." in demo.text


def test_the_radclient_lines_can_be_pasted(demo: Demo) -> None:
    challenge = demo.paste(_first_half(demo))
    state = re.search(r"State = (0x[0-9a-f]+)", challenge)
    assert state is not None, challenge
    answer = demo.paste("User-Password=CODE", CODE=demo.newest_code(), STATE=state.group(1))
    assert "Access-Accept" in answer


def _first_half(demo: Demo) -> str:
    found = re.search(r"User-Password=[0-9a-f]+,", demo.text)
    assert found is not None
    return found.group()


def test_the_curl_lines_can_be_pasted(demo: Demo) -> None:
    begun = demo.paste("<PfAuthUser_4>")
    request_id = re.search(r"<authreqid>(\d+)</authreqid>", begun)
    assert request_id is not None, begun
    ended = demo.paste("<VerifyOneWayOtp>", ID=request_id.group(1), CODE=demo.newest_code())
    assert "<VerifyOneWayOtpResult>true</VerifyOneWayOtpResult>" in ended
    portals = {re.findall(r"X-Served-By: (\w+)", demo.paste("/jar "))[0] for _ in range(6)}
    assert len(portals) == 1, "a session with its cookie stays where it began"


def test_ctrl_c_stops_everything(demo: Demo) -> None:
    session = os.getsid(demo.process.pid)
    os.killpg(demo.process.pid, signal.SIGINT)  # as a terminal does: everybody gets it
    assert demo.process.wait(timeout=20) == 0
    assert demo.text.rstrip().endswith("Stopped.")
    assert "Traceback" not in demo.text
    wait_until(lambda: not _in_session(session), "the services to end", deadline_s=5)
    directory = re.search(r"configured by (\S+)/balancer.yaml", demo.text)
    assert directory is not None
    assert not Path(directory.group(1)).exists()


def _in_session(session: int) -> list[int]:
    """The processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getsid(int(entry.name)) == session:
                    found.append(int(entry.name))
            except ProcessLookupError:
                continue
    return found
