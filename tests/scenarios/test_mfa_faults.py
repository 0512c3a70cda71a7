"""Promise: what can go wrong with an MFA Server goes wrong at a word, and is over at a word."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs.mfa_group import MfaGroup, MfaServer, NoAnswer
from programs.process import wait_until


@pytest.fixture
def group(tmp_path: Path) -> Iterator[MfaGroup]:
    with MfaGroup(tmp_path) as running:
        yield running


@pytest.fixture
def server(group: MfaGroup) -> MfaServer:
    server = group.start("mfa1")
    server.wait_for("master")
    return server


def test_a_server_that_dies_in_the_middle_of_a_challenge_has_sent_the_text(group: MfaGroup, server: MfaServer) -> None:
    server.set_faults(die_mid_challenge=True)
    assert server.call("PfAuthUser_4", username="alice").is_good
    wait_until(lambda: not server.program.is_running(), "the server to be dead")
    assert len(group.codes("alice")) == 1
    server.start()
    server.wait_for("master")
    code = group.codes("alice")[0]
    assert not server.call("VerifyOneWayOtp", username="alice", authreqid="1", otp=code).is_good, "codes are in memory"


def test_a_server_is_slow_down_and_cut_off_as_long_as_it_is_told_to_be(group: MfaGroup, server: MfaServer) -> None:
    server.set_faults(slow_s=0.5)
    begun_at = time.monotonic()
    assert server.call("TestMasterConnection").is_good
    assert time.monotonic() - begun_at >= 0.5
    server.set_faults(slow_s=0.0, down=True)
    with pytest.raises(NoAnswer):
        server.call("TestMasterConnection")
    assert server.status()["role"] == "master", "the control endpoint hears its operator"
    server.set_faults(down=False, cloud_unreachable=True)
    told = server.call("PfAuthUser_4", username="alice")
    assert "not available" in told.texts["Description"]
    assert group.codes("alice") == []
    server.set_faults(cloud_unreachable=False)
    assert server.call("PfAuthUser_4", username="alice").is_good


def test_a_clock_that_is_wrong_ends_bypasses_early(group: MfaGroup, server: MfaServer) -> None:
    assert server.call("OneTimeBypass", user="alice", seconds="300").is_good
    server.set_faults(clock_skew_s=600.0)
    server.call("PfAuthUser_4", username="alice")
    assert len(group.codes("alice")) == 1, "she is asked as if there were no bypass"
