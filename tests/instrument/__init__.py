"""Client libraries, the real ones, instrumented (`make test-clients`): each with a server, or a stand-in of its API."""
