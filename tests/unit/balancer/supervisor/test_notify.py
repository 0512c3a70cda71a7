from __future__ import annotations

from mfalb.balancer.supervisor.notify import Notifier


def test_the_variables_are_taken_out_so_that_no_child_has_them() -> None:
    environment = {"NOTIFY_SOCKET": "@there", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7", "HOME": "/"}
    assert Notifier.from_environment(environment, 7).watchdog_s == 3.0
    assert environment == {"HOME": "/"}


def test_a_watchdog_for_another_process_is_not_ours() -> None:
    environment = {"NOTIFY_SOCKET": "@there", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}
    assert Notifier.from_environment(environment, 7).watchdog_s == 0.0


def test_without_a_socket_nothing_is_sent_and_nobody_waits_for_pings() -> None:
    notifier = Notifier.from_environment({"WATCHDOG_USEC": "3000000"}, 7)
    assert notifier.watchdog_s == 0.0
    notifier.ready("all is well")


def test_a_process_that_replaces_us_can_tell_the_same_manager() -> None:
    environment = {"NOTIFY_SOCKET": "@there", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}
    told = Notifier.from_environment(environment, 7).environment
    assert told == {"NOTIFY_SOCKET": "@there", "WATCHDOG_USEC": "3000000"}
    assert Notifier.from_environment(told, 8).watchdog_s == 3.0
    assert Notifier.from_environment({}, 7).environment == {}
