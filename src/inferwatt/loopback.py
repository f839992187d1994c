"""Whether a host is this machine: there a secret needs no TLS, and nobody else hears."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches `host`; a name other than localhost counts as reachable."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host.lower() == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
