"""Show it live: the page and its stream, `/metrics`, `/healthz` and the versioned API, to whom it may be shown."""
