from __future__ import annotations

from pathlib import Path

import pytest

from mfalb.cli.deployment import read_deployment, values_of


def folder_with(tmp_path: Path, **files: str) -> Path:
    (tmp_path / "hosts").write_text("# who is where\n10.0.1.1 one one.contoso.com  # the first\n\n10.0.1.2 two one\n")
    for name, text in files.items():
        path = tmp_path / "one" / f"{name.replace('_', '-')}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_folder_is_a_host_and_a_file_in_it_a_service(tmp_path: Path) -> None:
    deployment = read_deployment(folder_with(tmp_path, balancer="pools: {}", mfa_server="name: one"))
    assert [service.title for service in deployment.services] == ["one/balancer", "one/mfa-server"]
    (server,) = deployment.of_kind("mfa-server")
    assert (server.place, server.tables) == (Path("one/mfa-server.yaml"), {"name": "one"})


def test_a_name_stands_for_the_first_address_that_hosts_gives_it(tmp_path: Path) -> None:
    addresses = read_deployment(folder_with(tmp_path)).addresses
    assert addresses == {"one": "10.0.1.1", "one.contoso.com": "10.0.1.1", "two": "10.0.1.2"}


def test_a_file_that_is_called_after_no_service_is_refused_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no service portal; there are balancer, cloud, mfa-server"):
        read_deployment(folder_with(tmp_path, portal="name: one"))


def test_settings_are_not_shown(tmp_path: Path) -> None:
    assert "hidden" not in repr(read_deployment(folder_with(tmp_path, cloud="activation_codes: [hidden]")))


def test_values_are_found_at_any_depth_and_items_of_lists_have_the_list_s_key() -> None:
    tables = {"a": {"b": 1}, "c": [{"d": 2}, 3]}
    assert list(values_of(tables)) == [("a", {"b": 1}), ("b", 1), ("c", {"d": 2}), ("d", 2), ("c", 3)]
