"""What the API answers about ended requests: from the ledger, and where there is none from what is still in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from inferwatt.ledger.rows import standing
from inferwatt.ledger.sqlite import Ledger
from inferwatt.snapshot import Snapshot
from inferwatt.units import NS_PER_SECOND
from inferwatt.views import request_view


@dataclass(frozen=True, slots=True)
class Answers:
    """Finds ended requests, newest first."""

    ledger: Ledger | None
    snapshot: Callable[[], Snapshot]

    def __call__(
        self, *, limit: int, tenant: str | None = None, model: str | None = None, request: str | None = None
    ) -> list[dict[str, Any]]:
        """Return at most `limit` requests as the API shows them; `request` is any of a request's names."""
        if self.ledger is None:
            views = [
                view
                for view in self.snapshot().live.requests
                if tenant in {None, view.tenant}
                and model in {None, view.model_name}
                and request in {None, view.request, view.response_id, view.trace_id}
            ]
        else:
            asked = self.ledger
            if request is None:
                rows = asked.requests(limit, tenant=tenant, model=model)
            else:
                rows = standing(asked.find(request))
            views = [request_view(row.request, row.energy, row.server, row.end_unix_ns / NS_PER_SECOND) for row in rows]
        return [msgspec.to_builtins(view) for view in views[:limit]]
