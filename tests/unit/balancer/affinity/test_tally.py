from mfalb.balancer.affinity.tally import PinsLeft, PinTally


def test_pins_count_until_the_second_in_which_they_expire_is_over() -> None:
    tally = PinTally()
    tally.add("mfa1", 9.2)
    tally.add("mfa1", 10.0)
    tally.add("mfa2", 20.5)
    assert tally.left(9.9) == {"mfa1": PinsLeft(2, 10.0), "mfa2": PinsLeft(1, 21.0)}
    assert tally.left(10.0) == {"mfa2": PinsLeft(1, 21.0)}


def test_what_gives_way_is_taken_off_and_what_was_forgotten_is_no_error() -> None:
    tally = PinTally()
    tally.add("mfa1", 9.2)
    tally.add("mfa1", 15.0)
    tally.remove("mfa1", 15.0)
    tally.remove("mfa1", 15.0)
    tally.remove("gone", 15.0)
    assert tally.left(0.0) == {"mfa1": PinsLeft(1, 10.0)}
    tally.expire(10.0)
    tally.remove("mfa1", 9.2)
    assert tally.left(0.0) == {}
