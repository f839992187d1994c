"""The demo's load is a plan: seeded, Poisson, of two tenants."""

from itertools import islice

from inferwatt.demo.plan import Arrival, plan, read_tenants


def arrivals(count: int, seed: int = 1) -> list[Arrival]:
    """Return the first arrivals of a plan of two requests a second."""
    return list(islice(plan(read_tenants(), seed=seed, requests_per_second=2.0), count))


def test_the_same_seed_asks_the_same_questions() -> None:
    """Equal seed, equal arrivals; another seed, others."""
    assert arrivals(200) == arrivals(200)
    assert arrivals(200) != arrivals(200, seed=2)


def test_arrivals_are_a_poisson_process_of_the_asked_rate() -> None:
    """Waits have the mean 1/rate and, being exponential, a standard deviation equal to the mean."""
    waits = [arrival.wait_seconds for arrival in arrivals(5000)]
    mean = sum(waits) / len(waits)
    deviation = (sum((wait - mean) ** 2 for wait in waits) / len(waits)) ** 0.5

    assert 0.475 < mean < 0.525
    assert 0.9 < deviation / mean < 1.1


def test_the_load_is_mixed() -> None:
    """Both tenants, streamed and not, short and long, and some clients that leave early: streamed ones only."""
    load = arrivals(2000)
    leaving = [arrival for arrival in load if arrival.leaves_after_tokens is not None]

    assert {arrival.tenant for arrival in load} == {"acme-support", "globex-research"}
    assert {arrival.streamed for arrival in load} == {True, False}
    assert all(arrival.streamed for arrival in leaving)
    assert 0.03 < len(leaving) / len(load) < 0.10
    assert all(arrival.leaves_after_tokens < arrival.max_tokens for arrival in leaving if arrival.leaves_after_tokens)


def test_questions_are_whole() -> None:
    """At least forty questions, and no place for a passage is left open."""
    tenants = read_tenants()

    assert sum(len(tenant.questions) for tenant in tenants) >= 40
    assert not any("{passage}" in arrival.question for arrival in arrivals(2000))
