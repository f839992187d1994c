"""Which hosts are this machine."""

import pytest

from inferwatt.loopback import is_loopback


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True), ("localhost", True), ("::1%lo", True)]
    + [(host, False) for host in ("0.0.0.0", "::", "::ffff:10.0.0.1", "testclient", "")],
)
def test_loopback_is_known_in_every_spelling(host: str, loopback: bool) -> None:
    """An IPv4 address seen through an IPv6 socket is still what it is."""
    assert loopback is is_loopback(host)
