from __future__ import annotations

from dataclasses import replace

import pytest

from mfalb.reference.cloud_service import groups as groups_module
from mfalb.reference.cloud_service.groups import (
    Candidate,
    Group,
    GroupRefusal,
    Refusal,
    ServerKind,
    activated,
    promoted,
)

MFA1 = Candidate("mfa1", "contoso", ServerKind.DOMAIN_JOINED, "10.0.1.11:4443")
MFA2 = Candidate("mfa2", "contoso", ServerKind.DOMAIN_JOINED, "10.0.1.12:4443")


def groups_of(*candidates: Candidate) -> dict[str, Group]:
    groups: dict[str, Group] = {}
    for number, candidate in enumerate(candidates):
        groups[candidate.group] = activated(groups, candidate, f"key-{number}")
    return groups


def test_the_first_server_of_a_group_is_its_master_at_the_first_epoch_and_the_second_changes_nothing_of_it() -> None:
    group = groups_of(MFA1, MFA2)["contoso"]
    assert (group.master, group.epoch, group.master_rpc) == ("mfa1", 1, "10.0.1.11:4443")
    assert list(group.members) == ["mfa1", "mfa2"]
    assert [member.license_key for member in group.members.values()] == ["key-0", "key-1"]


def test_groups_know_nothing_of_each_other() -> None:
    other = replace(MFA1, group="fabrikam", kind=ServerKind.STANDALONE)
    groups = groups_of(MFA1, other)
    assert groups["fabrikam"].master == "mfa1"
    assert list(groups["contoso"].members) == ["mfa1"]


def test_a_server_that_is_activated_again_keeps_its_key_and_its_role_and_may_have_moved() -> None:
    moved = replace(MFA1, rpc_address="10.0.9.9:4443")
    group = groups_of(MFA1, MFA2, moved)["contoso"]
    assert (group.master, group.epoch, group.master_rpc) == ("mfa1", 1, "10.0.9.9:4443")
    assert group.members["mfa1"].license_key == "key-0"


def test_a_group_takes_servers_of_one_kind_only_and_says_who_stands_against_it() -> None:
    groups = groups_of(MFA1)
    with pytest.raises(GroupRefusal, match=r"^mixed group: mfa1 of group contoso is domain_joined, and mfa2 is stand"):
        activated(groups, replace(MFA2, kind=ServerKind.STANDALONE), "key")


def test_a_server_alone_in_its_group_may_become_of_another_kind_and_one_of_two_may_not() -> None:
    standalone = replace(MFA1, kind=ServerKind.STANDALONE)
    assert activated(groups_of(MFA1), standalone, "key").members["mfa1"].kind is ServerKind.STANDALONE
    with pytest.raises(GroupRefusal, match="mixed group"):
        activated(groups_of(MFA1, MFA2), standalone, "key")


def test_too_many_servers_and_too_many_groups_are_refused_and_known_ones_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(groups_module, "MEMBER_LIMIT", 2)
    monkeypatch.setattr(groups_module, "GROUP_LIMIT", 1)
    groups = groups_of(MFA1, MFA2)
    for candidate in (replace(MFA1, server="mfa3"), replace(MFA1, group="fabrikam")):
        with pytest.raises(GroupRefusal) as refused:
            activated(groups, candidate, "key")
        assert refused.value.refusal is Refusal.TOO_MANY
    assert activated(groups, MFA2, "key") == groups["contoso"]


def test_a_promotion_to_the_next_epoch_makes_another_server_the_master() -> None:
    group = promoted(groups_of(MFA1, MFA2), "contoso", "mfa2", 2)
    assert (group.master, group.epoch, group.master_rpc) == ("mfa2", 2, "10.0.1.12:4443")


def test_the_promotion_that_made_the_present_state_may_be_told_again() -> None:
    group = promoted(groups_of(MFA1, MFA2), "contoso", "mfa2", 2)
    assert promoted({"contoso": group}, "contoso", "mfa2", 2) == group


@pytest.mark.parametrize(
    ("name", "server", "epoch", "refusal"),
    [
        ("contoso", "mfa1", 2, Refusal.NOT_NEXT),  # the other one was quicker
        ("contoso", "mfa1", 1, Refusal.NOT_NEXT),
        ("contoso", "mfa1", 4, Refusal.NOT_NEXT),
        ("contoso", "mfa2", 1, Refusal.NOT_NEXT),
        ("contoso", "mfa3", 3, Refusal.NO_MEMBER),
        ("fabrikam", "mfa1", 2, Refusal.NO_GROUP),
    ],
)
def test_any_other_epoch_server_or_group_is_refused(name: str, server: str, epoch: int, refusal: Refusal) -> None:
    group = promoted(groups_of(MFA1, MFA2), "contoso", "mfa2", 2)
    with pytest.raises(GroupRefusal) as refused:
        promoted({"contoso": group}, name, server, epoch)
    assert refused.value.refusal is refusal


def test_a_member_does_not_show_its_license_key() -> None:
    assert "key-0" not in repr(groups_of(MFA1))
