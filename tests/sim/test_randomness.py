from __future__ import annotations

from posthouse.testing.sim.randomness import SimRandomness, Streams, weighted


def test_a_stream_depends_on_the_seed_and_its_name_only() -> None:
    one, other = Streams(7), Streams(7)
    other.stream("disturbs").random()
    assert [one.stream("disk").random() for _ in range(5)] == [other.stream("disk").random() for _ in range(5)]
    assert Streams(7).stream("disk").random() != Streams(8).stream("disk").random()
    assert Streams(7).stream("disk").random() != Streams(7).stream("network").random()


def test_a_stream_goes_on_where_it_was() -> None:
    streams = Streams(1)
    assert streams.stream("a") is streams.stream("a")


def test_the_seam_draws_from_its_stream() -> None:
    seam, again = SimRandomness(Streams(1).stream("a")), SimRandomness(Streams(1).stream("a"))
    assert {seam.below(3) for _ in range(50)} == {0, 1, 2}
    assert len([again.below(3) for _ in range(50)]) == 50
    assert seam.token_bytes(6) == again.token_bytes(6)


def test_weights_say_how_often() -> None:
    stream = Streams(1).stream("weights")
    drawn = [weighted(stream, [("rare", 1.0), ("often", 9.0)]) for _ in range(1000)]
    assert 50 < drawn.count("rare") < 200
