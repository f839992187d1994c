from tests.attribution.test_engine import Bench, counted, sums


def test_what_a_record_explains_is_no_work_beside_it() -> None:
    """A page's second with a record at work in it is the record's; one that runs more than the records know is not."""
    bench = Bench()
    bench.request("r", 0.5, 0.75)
    for second, running in enumerate((0, 0, 1)):
        bench.engine.counts.add(sums(second, second + 1, output_tokens=5, running=running))

    assert [counted(bench, t, t + 0.25) for t in (0, 0.75, 1, 2)] == [False, False, True, True]
    bench.request("open", 2.5, 3.5)
    assert not counted(bench, 2, 2.25)
    bench.engine.counts.add(sums(3, 4, output_tokens=5, running=1))
    assert counted(bench, 3.5, 4)
