from __future__ import annotations

import pytest

from mfalb.reference.mfa_server.group.standing import Membership, Role, Standing, is_believed

MASTER_1 = Membership(Role.MASTER, 1, "mfa1:4443")
SLAVE_1 = Membership(Role.SLAVE, 1, "mfa1:4443")
MASTER_2 = Membership(Role.MASTER, 2, "mfa2:4443")
SLAVE_2 = Membership(Role.SLAVE, 2, "mfa2:4443")
MOVED_1 = Membership(Role.SLAVE, 1, "mfa1.moved:4443")


@pytest.mark.parametrize(
    ("told", "known", "known_epoch", "is_good"),
    [
        (MASTER_1, None, 0, True),
        (SLAVE_1, None, 0, True),
        (SLAVE_1, None, 1, True),
        (MASTER_1, None, 1, True),  # its first start ended before it had noted that it is the master
        (MASTER_1, None, 2, False),
        (MASTER_1, MASTER_1, 1, True),
        (SLAVE_1, SLAVE_1, 0, True),
        (MOVED_1, SLAVE_1, 1, True),
        (SLAVE_2, MASTER_1, 1, True),
        (MASTER_2, SLAVE_1, 1, True),
        (MASTER_2, SLAVE_1, 2, True),  # a promotion that ended after its epoch had begun in the file
        (SLAVE_1, MASTER_1, 1, False),
        (MASTER_1, SLAVE_1, 1, False),
        (MASTER_1, SLAVE_2, 2, False),
        (SLAVE_1, MASTER_2, 2, False),
    ],
)
def test_roles_change_with_an_epoch_and_epochs_only_go_up(
    told: Membership, known: Membership | None, known_epoch: int, *, is_good: bool
) -> None:
    assert is_believed(told, known, known_epoch) is is_good


@pytest.mark.parametrize(
    ("standing", "is_writable"),
    [
        (Standing(), False),
        (Standing(MASTER_1), False),
        (Standing(MASTER_1, is_confirmed=True), True),
        (Standing(MASTER_1, is_confirmed=True, is_retiring=True), False),
        (Standing(SLAVE_1, is_confirmed=True), False),
    ],
)
def test_writes_are_made_by_a_master_that_the_cloud_has_confirmed(standing: Standing, *, is_writable: bool) -> None:
    assert standing.is_writable is is_writable


def test_a_server_that_was_never_activated_has_no_role_and_no_epoch() -> None:
    assert (Standing().role, Standing().epoch) == (Role.UNACTIVATED, 0)
    assert "key" not in repr(Membership(Role.SLAVE, 1, "mfa1:4443", "license-key")).replace("license_key", "")
