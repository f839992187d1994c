"""Models beyond the limit: their joules and tokens are one fold's, and no joule is lost."""

from inferwatt.books import Books, BooksConfig
from inferwatt.records import Device, Engine, Outcome, Request, RequestEnergy, Tier
from inferwatt.snapshot import Labels

ENERGY, REQUESTS = "inferwatt_energy_joules_total", "inferwatt_requests_total"


def booked(models: int, limit: int) -> Books:
    """Return books with one ended request for each of so many models that clients named."""
    books = Books(BooksConfig(max_models=limit))
    books.add_device(Device("gpu-0"))
    books.add_engine(Engine("sdk", "", server="sdk", kind="sdk"))
    for number in range(models):
        request = Request(f"r{number}", "sdk", f"m{number}", outcome=Outcome.FINISHED, end_ns=1, output_tokens=3)
        books.request(request, RequestEnergy(f"r{number}", (), Tier.REQUEST_SPAN, final=True), 1.0)
    return books


def test_a_client_that_invents_models_makes_no_more_series_than_the_limit() -> None:
    """A thousand names of models make two series: one named, one fold, with every request and token in them."""
    books = booked(1000, limit=1)
    expected: dict[Labels, float] = {("m0", "sdk", "finished"): 1, ("__other__", "sdk", "finished"): 999}

    assert books.values[REQUESTS] == expected
    assert books.values["inferwatt_output_tokens_total"] == {("m0", "sdk"): 3, ("__other__", "sdk"): 2997}
    assert books.values["inferwatt_models_limit"] == {(): 1}
    assert books.values["inferwatt_models_folded_total"][()] == 100  # names remembered: the limit times a hundred


def test_a_model_keeps_its_name_over_a_restart() -> None:
    """What was named before is named again, though another came first this time."""
    before = booked(2, limit=2)
    after = Books(BooksConfig(max_models=2))
    after.restore(before.values, {})
    after.add_engine(Engine("e", "new", server="s", kind="vllm"))

    request = Request("r", "sdk", "m1", outcome=Outcome.FINISHED, end_ns=1)
    after.request(request, RequestEnergy("r", (), Tier.REQUEST_SPAN, final=True), 1.0)

    assert after.values[REQUESTS][("m1", "", "finished")] == 1
