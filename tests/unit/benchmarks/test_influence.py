"""What the benchmark of F-SI adds up."""

from benchmarks.influence import Case, _totals


def seconds(value: float) -> dict[str, float]:
    return {"wall": 2 * value, "cpu": value}


def test_totals_take_the_steps_of_their_own_evaluation_images() -> None:
    case = Case("network", 8, 40, 3, (10, 100), 5, (8, 4))
    walk = {"rows": seconds(5), "M = 10: scores": seconds(1), "M = 100: scores": seconds(10)}
    theirs = {"factors": seconds(8), "scores": seconds(4)}
    shared = {"factors": seconds(2)}
    one = _totals(10, case, shared, {"all": walk}, theirs, seconds(2))
    assert one["batches"] == 2
    assert one["kronfluence"] == seconds(16)
    assert one["all"]["cpu"] == 8
    assert one["all"]["passes"] == 4
    assert one["all"]["ratio"] == {"wall": 2, "cpu": 2}
    more = _totals(100, case, shared, {"all": walk}, theirs, seconds(2))
    assert more["all"]["cpu"] == 17
    assert more["kronfluence"]["cpu"] == 88
