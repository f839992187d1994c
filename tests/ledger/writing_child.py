"""A process that commits rows and says so on its standard output, until it is killed."""

import sys
from pathlib import Path

from inferwatt.ledger.rows import LedgerBatch
from tests.ledger.books import open_ledger, row


def main(path: str) -> None:
    """Commit batches of 1 to 40 rows with a counter, and print the number of the last row after each commit."""
    ledger = open_ledger(Path(path))
    done = int(ledger.counters().get("rows", {}).get((), 0))
    while True:
        size = 1 + done * 7 % 40
        rows = [row(number) for number in range(done, done + size)]
        done += size
        ledger.commit(LedgerBatch(rows=rows, counters={"rows": {(): done}}))
        sys.stdout.write(f"{done}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
