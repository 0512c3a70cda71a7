from mfalb.net.entropy import Entropy


def test_each_draw_is_16_fresh_bytes_within_a_block_and_over_its_edge() -> None:
    entropy = Entropy()
    drawn = [entropy.take() for _ in range(1000)]  # 256 in a block
    assert {len(part) for part in drawn} == {16}
    assert len(set(drawn)) == 1000


def test_two_sources_draw_different_bytes() -> None:
    assert Entropy().take() != Entropy().take()
