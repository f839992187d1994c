"""What the inference servers did: work records and their own counters; nothing here knows a joule."""
