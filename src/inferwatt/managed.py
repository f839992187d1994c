"""Calls of managed APIs: nobody here meters them, so they are estimated, counted in families of their own, and kept.

Several may tell of one call: the host's own instrumentation and a span, or two spans. They meet by the id of its
answer, and the first counts.
"""

from collections import OrderedDict
from dataclasses import replace

from inferwatt.books import Books
from inferwatt.clients.carbon import Intensity
from inferwatt.clients.estimates import Estimate
from inferwatt.clients.estimator import estimate
from inferwatt.engines.session import Incoming
from inferwatt.export import estimated
from inferwatt.folding import Names
from inferwatt.pending import Pending, row_of
from inferwatt.receipts import Receipts
from inferwatt.records import Component, EnergyPart, Engine, Outcome, Request, RequestEnergy, Tier
from inferwatt.units import microjoules, seconds

MOST_PROVIDERS = 100
MOST_REMEMBERED = 100_000
"""How many calls are remembered, so that another word of one of them is not counted."""


class Managed:
    """Takes calls that have ended, counts them in the books, and says what each is estimated to have taken.

    `carbon` is what their electricity emits; without it no emissions are counted.
    """

    def __init__(self, books: Books, carbon: Intensity | None = None) -> None:
        self._books, self._carbon = books, carbon
        if carbon is not None:
            books.gauge(estimated.INTENSITY, (carbon.source,), carbon.grams_per_joule)
        self._providers = Names(MOST_PROVIDERS, lambda: None)
        self._providers.restore(labels[1] for labels in books.values.get(estimated.REQUESTS, {}))
        self._seen: OrderedDict[str, None] = OrderedDict()

    def take(self, incoming: Incoming, pending: Pending, receipts: Receipts, offset_ns: int) -> None:
        """Take what a producer says of a call: its end is counted and kept, once; nobody waits for its beginning."""
        request = incoming.request
        counted = None if request.end_ns is None else self._counted(request)
        if counted is None:
            receipts.done(incoming.producer, incoming.seq)
            return
        energy, fit = counted
        row = row_of(request, energy, Engine("", request.model, server=request.provider), offset_ns)
        if pending.add_row(replace(row, fit=fit), energy):
            self._books.add("inferwatt_ledger_rows_total", (), 1)
            receipts.upon(incoming.producer, incoming.seq, request.request)
        else:
            self._books.dropped("ledger")
            receipts.done(incoming.producer, incoming.seq)

    def _counted(self, request: Request) -> tuple[RequestEnergy, str] | None:
        """Count a call; return its joules, without parts where nobody can say, and what made them, for the ledger.

        None: it was counted before.
        """
        names = {request.request, f"{request.provider} {request.response_id}" if request.response_id else ""} - {""}
        if not self._seen.keys().isdisjoint(names):
            self._books.dropped("duplicate")
            return None
        self._seen.update(dict.fromkeys(names))
        while len(self._seen) > MOST_REMEMBERED:
            self._seen.popitem(last=False)
        made = _estimate(request)
        self._book(request, made)
        energy = RequestEnergy(request.request, () if made is None else _parts(made), Tier.TOKEN_SHARE, final=True)
        beside = "" if self._carbon is None else f"; {self._carbon.text}"
        return energy, "" if made is None else f"{made.method}{beside}"

    def _book(self, request: Request, made: Estimate | None) -> None:
        books = self._books
        of = (books.model(request.model), self._providers.shown(request.provider))
        outcome = (request.outcome or Outcome.ABORTED).value
        books.add(estimated.UNKNOWN if made is None else estimated.REQUESTS, (*of, outcome), 1)
        if made is None:
            return
        provenance = made.provenance.value
        energy_uj = microjoules(made.energy_joules)
        books.add(estimated.ENERGY, (*of, provenance), energy_uj)
        books.add(estimated.LOW, (*of, provenance), microjoules(made.low_joules))
        books.add(estimated.HIGH, (*of, provenance), microjoules(made.high_joules))
        if self._carbon is not None:
            emitted = self._carbon.of(made.energy_joules, made.low_joules, made.high_joules)
            for name, key in estimated.EMISSIONS.items():
                books.add(name, (*of, provenance), round(float(emitted[key]) * 1e9))
        if books.by_tenant:
            books.add(estimated.TENANT, (books.tenant(request.tenant), *of, provenance), energy_uj)
        cached = min(request.cached_tokens or 0, request.prompt_tokens or 0)
        for kind, count in (
            (estimated.PROMPT, (request.prompt_tokens or 0) - cached),
            (estimated.CACHED, cached),
            (estimated.OUTPUT, request.output_tokens or 0),
        ):
            if count:
                books.add(estimated.TOKENS, (*of, kind), count)


def _estimate(request: Request) -> Estimate | None:
    """Return what a call is estimated to have taken; None where its tokens are not known."""
    if request.prompt_tokens is None and not request.output_tokens:
        return None
    first_ns, end_ns = request.first_token_ns, request.end_ns or request.arrival_ns
    return estimate(
        request.model,
        provider=request.provider,
        prompt_tokens=request.prompt_tokens,
        cached_tokens=request.cached_tokens,
        output_tokens=request.output_tokens,
        seconds=seconds(end_ns - request.arrival_ns),
        first_token_seconds=None if first_ns is None else seconds(first_ns - request.arrival_ns),
    )


def _parts(made: Estimate) -> tuple[EnergyPart, ...]:
    """Return an estimate as a request's joules: the accelerators, and the rest of the serving machines."""
    accelerators = made.accelerator_joules / made.energy_joules
    prefill = made.prefill.energy_joules if made.prefill is not None else 0.0
    decode = made.decode.energy_joules if made.decode is not None else 0.0
    return tuple(
        EnergyPart(
            component,
            made.provenance,
            microjoules(prefill * ratio),
            microjoules(decode * ratio),
            microjoules(made.low_joules * ratio),
            microjoules(made.high_joules * ratio),
            0.0,
        )
        for component, ratio in ((Component.ACCELERATOR, accelerators), (Component.OVERHEAD, 1 - accelerators))
    )
