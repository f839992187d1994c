"""Keep it: the write-ahead ledger of requests and their joules, hash-chained, and what a restart must know."""
