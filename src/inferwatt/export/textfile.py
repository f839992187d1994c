"""A page for node_exporter's textfile collector: for machines where only that one is scraped.

The collector takes text 0.0.4 without times, from files that end in `.prom`, whenever it is scraped: so the page is
written beside and renamed, never seen half. The `process_*` families are left out: they are node_exporter's own there,
and one family twice would fail the whole scrape.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from inferwatt.errors import ConfigError
from inferwatt.export.exporter import About, Batch, ExportRetry
from inferwatt.export.prometheus import render
from inferwatt.export.settings import ExportConfig


@dataclass(frozen=True, slots=True)
class Textfile:
    """Writes the page to `path` at each period; what is old there tells that the agent has ended."""

    path: Path
    period_seconds: float
    name: str = "textfile"
    wants_requests: bool = False

    def export(self, batch: Batch) -> int:
        """Write the page, readable by all, and put it in place of the one before.

        Raises:
            ExportRetry: it cannot be written.
        """
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            beside.write_bytes(render(batch.snapshot, openmetrics=False))
            beside.chmod(0o644)
            beside.replace(self.path)
        except OSError as exc:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            what = f"the page for node_exporter cannot be written: {exc.strerror}"
            fix = "make the folder, and let the agent's user write there"
            raise ExportRetry(what, where=self.path, fix=fix, reason="file") from exc
        return 0

    def close(self) -> None:
        """Leave the last page where it is: its counters are right, and node_exporter tells its age."""


def open_exporter(settings: ExportConfig, _about: About) -> Textfile | None:
    """Return the exporter, None where no path is set.

    Raises:
        ConfigError: the collector would not read the file.
    """
    config = settings.textfile
    if not config.path:
        return None
    if not config.path.endswith(".prom"):
        what = "node_exporter reads files that end in .prom"
        raise ConfigError(
            what, where="export.textfile.path", fix=f"{config.path.rpartition('/')[2] or 'inferwatt'}.prom"
        )
    return Textfile(Path(config.path), config.period_seconds)
