from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.balancer.health.fake_calls import BACKEND, FakeCalls

from mfalb.balancer.config.health_models import SdkCheck
from mfalb.balancer.health.outcomes import ProbeFailed, Works
from mfalb.balancer.health.sdk_probe import SdkProbe, result_untrusted
from mfalb.balancer.health.web_calls import Answer
from mfalb.wire.soap import read_envelope_untrusted

SOAP = '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>{}</s:Body></s:Envelope>'


def said(method: str, result: str, namespace: str = "urn:any") -> Answer:
    inner = f'<{method}Response xmlns="{namespace}"><{method}Result>{result}</{method}Result></{method}Response>'
    return Answer(200, (), SOAP.format(inner).encode())


SECURE = said("TestSecurity", "secure")
REACHED = said("TestMasterConnection", "true")
NOT_REACHED = said("TestMasterConnection", "false")
FAULT = Answer(500, (), SOAP.format("<s:Fault><faultstring>no</faultstring></s:Fault>").encode())
POLITE_FAULT = Answer(200, (), FAULT.body)
DENIED = Answer(401, (), b"")
UNWELL = "TestMasterConnection: "

# TestSecurity's answer, TestMasterConnection's -> what is found
ROWS: list[tuple[Answer | ProbeFailed | None, Answer | ProbeFailed | None, Works | str]] = [
    (SECURE, REACHED, Works("secure")),
    (said("TestSecurity", " Secure\n"), said("TestMasterConnection", "True"), Works("secure")),
    (SECURE, NOT_REACHED, Works("secure", "does not reach the master")),
    (SECURE, said("TestMasterConnection", ""), Works("secure", "does not reach the master")),
    (SECURE, FAULT, Works("secure", UNWELL + "status 500")),
    (SECURE, POLITE_FAULT, Works("secure", UNWELL + "soap fault")),
    (SECURE, DENIED, Works("secure", UNWELL + "status 401")),
    (SECURE, None, Works("secure", UNWELL + "timeout")),
    (SECURE, ProbeFailed("connection closed"), Works("secure", UNWELL + "connection closed")),
    (SECURE, said("TestSecurity", "true"), Works("secure", UNWELL + "no result")),
    (said("TestSecurity", "insecure"), REACHED, "not secure"),
    (said("TestSecurity", ""), REACHED, "not secure"),
    (DENIED, REACHED, "status 401"),
    (FAULT, REACHED, "status 500"),
    (POLITE_FAULT, REACHED, "soap fault"),
    (None, REACHED, "timeout"),
    (ProbeFailed("TLS: certificate has expired"), REACHED, "TLS: certificate has expired"),
    (REACHED, REACHED, "no result"),
    (Answer(200, (), b"<html/>"), REACHED, "soap_no_body"),
    (Answer(200, (), b"hello"), REACHED, "xml_not_well_formed"),
    (Answer(200, (), b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"), REACHED, "xml_doctype"),
]


def check(**more: Any) -> SdkCheck:
    return SdkCheck.model_validate({"type": "sdk", "timeout_s": 0.01, **more})


@pytest.mark.parametrize(("security", "master", "found"), ROWS)
async def test_a_server_is_up_by_the_one_call_and_degraded_by_the_other(
    security: Answer | ProbeFailed | None, master: Answer | ProbeFailed | None, found: Works | str
) -> None:
    calls = FakeCalls(security, master)
    probe = SdkProbe(check(), calls)
    if isinstance(found, Works):
        assert await probe(BACKEND) == found
        assert len(calls.questions) == 2
    else:
        with pytest.raises(ProbeFailed, match=f"^{found}$"):
            await probe(BACKEND)
        assert len(calls.questions) == 1, "who does not work is not asked for more"


async def test_the_master_is_asked_for_only_if_that_is_wanted() -> None:
    calls = FakeCalls(SECURE)
    assert await SdkProbe(check(check_master=False), calls)(BACKEND) == Works("secure")
    assert len(calls.questions) == 1


async def test_an_answer_past_the_limit_is_not_read() -> None:
    limit = len(SECURE.body) - 1
    with pytest.raises(ProbeFailed, match=r"^answer too long$"):
        await SdkProbe(check(body_limit=limit), FakeCalls(SECURE))(BACKEND)
    await SdkProbe(check(body_limit=limit + 1, check_master=False), FakeCalls(SECURE))(BACKEND)


async def test_the_calls_are_soap_1_1_in_the_namespace_that_is_written() -> None:
    calls = FakeCalls(SECURE, REACHED)
    await SdkProbe(check(path="/x.asmx", namespace="http://tempuri.org/"), calls)(BACKEND)
    for question, method in zip(calls.questions, ("TestSecurity", "TestMasterConnection"), strict=True):
        assert (question.method, question.target) == ("POST", "/x.asmx")
        assert question.headers["SOAPAction"] == f'"http://tempuri.org/{method}"'
        assert question.headers["Content-Type"] == "text/xml; charset=utf-8"
        assert question.body is not None
        assert read_envelope_untrusted(question.body).method == method
        assert b'xmlns="http://tempuri.org/"' in question.body


@given(st.binary(max_size=300), st.integers(0, len(SECURE.body)))
@settings(max_examples=200)
def test_whatever_a_server_says_it_is_a_result_or_a_reason_in_our_own_words(garbage: bytes, cut: int) -> None:
    for body in (garbage, SECURE.body[:cut] + garbage, SECURE.body[:cut]):
        try:
            result = result_untrusted("TestSecurity", 200, body)
        except ProbeFailed as failure:
            assert str(failure) in {  # noqa: PT017 - both ends are right
                "xml_not_well_formed", "xml_doctype", "xml_encoding", "xml_too_deep", "soap_no_body", "soap fault",
                "no result",
            }  # fmt: skip
        else:
            assert result == "secure" or garbage
