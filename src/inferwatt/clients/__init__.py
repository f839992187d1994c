"""What runs in a client's process, or on behalf of one: estimates for managed APIs, and instrumentation."""
