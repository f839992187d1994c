"""What every exporter asks of HTTP: no redirect is followed, and no secret goes over the network in the clear."""

import ssl
import urllib.request
from http.client import HTTPMessage
from typing import IO


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key is for one address only."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """Follow nothing."""


def opener(ca_file: str = "") -> urllib.request.OpenerDirector:
    """Return what opens addresses: by the proxy that the environment names, trusting also who `ca_file` vouches for.

    Raises:
        OSError: that file cannot be read, or holds no certificate.
    """
    if not ca_file:
        return urllib.request.build_opener(_NoRedirect)
    trusted = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca_file))
    return urllib.request.build_opener(_NoRedirect, trusted)
