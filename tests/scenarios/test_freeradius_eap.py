"""EAP through the balancer: every round of a sign-in reaches the server that began it, and the keys survive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from programs.balancer import Balancer
from programs.certificates import CertificateFiles
from programs.eapol import EapResult, EapTarget, Method, mac_of, sign_in, write_supplicant_config
from programs.freeradius import FreeRadius, TestUser
from programs.ports import LOOPBACK
from programs.radius_pool import radius_pool

METHODS = (Method.PEAP_MSCHAPV2, Method.TTLS_PAP)


@dataclass(frozen=True)
class Station:
    """Signs in through the balancer."""

    target: EapTarget
    configs: dict[Method, Path]

    def sign_in(self, method: Method, number: int) -> EapResult:
        return sign_in(self.target, self.configs[method], mac_of(number))


@pytest.fixture
def station(
    eap_servers: tuple[FreeRadius, FreeRadius], certificate: CertificateFiles, tmp_path: Path
) -> Iterator[Station]:
    user, configs = TestUser(), {method: tmp_path / f"{method.name}.conf" for method in METHODS}
    for method, path in configs.items():
        write_supplicant_config(path, method, user, certificate)
    pool = radius_pool(eap_servers, tmp_path)
    with Balancer(pool.config, tmp_path / "mfalb", secrets=(*pool.secrets, user.password)):
        yield Station(EapTarget(LOOPBACK, pool.port, pool.client_secret), configs)


def assert_all_signed_in_over_both(results: Sequence[EapResult], servers: Sequence[FreeRadius]) -> None:
    failed = [result for result in results if not result.is_perfect]
    assert not failed, f"{len(failed)} of {len(results)} failed; the first one:\n{failed[0]}\n{failed[0].log_tail}"
    served = Counter({server.name: server.sign_ins() for server in servers})
    assert served.total() == len(results), f"sign-ins completed by the servers' own logs: {served}"
    assert min(served.values()) >= len(results) // 5, f"one server was hardly used: {served}"


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_fifty_sign_ins_one_after_the_other_all_succeed_and_share_keys(
    station: Station, eap_servers: tuple[FreeRadius, FreeRadius], method: Method
) -> None:
    results = [station.sign_in(method, number) for number in range(50)]
    assert_all_signed_in_over_both(results, eap_servers)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_twenty_sign_ins_at_the_same_time_all_succeed_and_share_keys(
    station: Station, eap_servers: tuple[FreeRadius, FreeRadius], method: Method
) -> None:
    with ThreadPoolExecutor(20) as threads:
        results = list(threads.map(lambda number: station.sign_in(method, number), range(20)))
    assert_all_signed_in_over_both(results, eap_servers)
