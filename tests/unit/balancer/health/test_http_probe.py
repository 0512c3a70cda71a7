from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from unit.balancer.health.fake_calls import BACKEND, FakeCalls

from mfalb.balancer.config.health_models import HttpCheck
from mfalb.balancer.health.http_probe import HttpProbe, fault_of
from mfalb.balancer.health.outcomes import ProbeFailed, Works
from mfalb.balancer.health.web_calls import Answer, Question

READY = (("x-ready", "no"), ("x-ready", "yes"))


def check(**more: Any) -> HttpCheck:
    return HttpCheck.model_validate({"type": "http", **more})


@pytest.mark.parametrize(
    ("expected", "answer", "fault"),
    [
        ({}, Answer(200, (), b""), ""),
        ({}, Answer(204, (), b""), "status 204"),
        ({"expect_status": [200, 401]}, Answer(401, (), b""), ""),
        ({"expect_header": {"name": "X-Ready"}}, Answer(200, READY, b""), ""),
        ({"expect_header": {"name": "X-Ready"}}, Answer(200, (), b""), "no X-Ready"),
        ({"expect_header": {"name": "x-ready", "value": "yes"}}, Answer(200, READY, b""), ""),
        ({"expect_header": {"name": "X-Ready", "value": "Yes"}}, Answer(200, READY, b""), "another X-Ready"),
        ({"expect_body": "ok"}, Answer(200, (), b"it is ok."), ""),
        ({"expect_body": "ok"}, Answer(200, (), b"it is OK."), "another body"),
        ({"expect_body": "grün"}, Answer(200, (), "alles grün".encode()), ""),
        ({"expect_body": "ok", "body_limit": 4}, Answer(200, (), b"  ok!"), ""),
        ({"expect_body": "ok", "body_limit": 4}, Answer(200, (), b"   ok"), "another body"),
        ({"expect_body": "ok", "expect_status": [201]}, Answer(200, (), b""), "status 200"),
    ],
)
def test_an_answer_is_good_when_all_that_is_expected_is_there(
    expected: dict[str, Any], answer: Answer, fault: str
) -> None:
    assert fault_of(answer, check(**expected)) == fault


async def test_the_request_is_the_one_that_is_written(tmp_path: Path) -> None:
    body = tmp_path / "question"
    body.write_bytes(b"<q/>")
    calls = FakeCalls(Answer(200, (), b""))
    written = check(method="POST", path="/p?q=1", headers={"X-Probe": "a"}, body_file=body)
    assert await HttpProbe(written, calls)(BACKEND) == Works("status 200")
    assert calls.questions == [Question("POST", "/p?q=1", {"X-Probe": "a"}, b"<q/>")]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "timeout"),
        (ProbeFailed("connection closed"), "connection closed"),
        (Answer(503, (), b""), "status 503"),
    ],
)
async def test_a_bad_answer_or_none_fails_with_a_short_reason(answer: Answer | ProbeFailed | None, reason: str) -> None:
    with pytest.raises(ProbeFailed, match=f"^{reason}$"):
        await HttpProbe(check(timeout_s=0.001), FakeCalls(answer))(BACKEND)


def test_a_body_that_cannot_be_read_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        HttpProbe(check(method="POST", body_file=tmp_path / "gone"), FakeCalls())
