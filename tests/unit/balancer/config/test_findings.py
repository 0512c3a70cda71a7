from mfalb.balancer.config.document import Position
from mfalb.balancer.config.findings import Findings
from mfalb.errors import Problem


def test_findings_are_sorted_by_place_and_told_once() -> None:
    findings = Findings("a.yaml")
    findings.warning(Position(10, 1), "late")
    findings.error(Position(2, 9), "right")
    findings.error(Position(2, 3), "left")
    findings.error(Position(2, 3), "left")
    assert findings.sorted() == [
        Problem("a.yaml", 2, 3, "left"),
        Problem("a.yaml", 2, 9, "right"),
        Problem("a.yaml", 10, 1, "late", is_error=False),
    ]


def test_warnings_are_no_errors() -> None:
    findings = Findings("a.yaml")
    findings.warning(Position(1, 1), "careful")
    assert not findings.has_errors
    findings.error(Position(1, 1), "wrong")
    assert findings.has_errors
