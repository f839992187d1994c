"""An account on a Redfish service: a session, logged out at the end; where there is none, the password each time.

DMTF's DSP0266, "Security details": log in by POST to the sessions, and send the ``X-Auth-Token`` that comes back. A
service that has no sessions, or no room for one more, takes basic authentication. A service that refuses an account is
left alone for ten minutes, since many lock it after a few tries. The password is read from its file at each login (it
may change), and is in no error, log or label.
"""

import base64
import os
import re
import stat
from collections.abc import Mapping

import msgspec

from inferwatt.errors import SourceRetry
from inferwatt.sources.client import Answer, Client
from inferwatt.sources.redfish_power import NoDocument, checked, document, link
from inferwatt.sources.slow import Postponed
from inferwatt.units import NS_PER_SECOND

SESSIONS = "/redfish/v1/SessionService/Sessions"
REFUSED_NS = 600 * NS_PER_SECOND
_MAX_PASSWORD_BYTES = 4096
_TOKEN = re.compile(r"[!-~]{1,4096}")
_JSON = {"Content-Type": "application/json", "Accept": "application/json"}


class Session:
    """Who asks: nobody where `username` is empty, else an account that is logged in when it is first needed."""

    def __init__(self, client: Client, username: str, password_file: str) -> None:
        self._client = client
        self._username = username
        self._password_file = password_file
        self._token = ""
        self._address = ""
        self._basic = ""

    def headers(self) -> Mapping[str, str]:
        """Return what says who asks; logs in if need be.

        Raises:
            SourceRetry: the account is refused, the password cannot be read, or nobody answers.
        """
        if self._username and not (self._token or self._basic):
            self._log_in()
        if self._token:
            return {"Accept": "application/json", "X-Auth-Token": self._token}
        if self._basic:
            return {"Accept": "application/json", "Authorization": self._basic}
        return {"Accept": "application/json"}

    def has_lapsed(self) -> bool:
        """Forget what was refused; True where it was a session, which a new login may replace."""
        was_session = bool(self._token)
        self._token = self._address = self._basic = ""
        return was_session

    def log_out(self) -> None:
        """End the session, so that it does not take up one of the few places."""
        token, address = self._token, self._address
        self._token = self._address = self._basic = ""
        if token and address:
            self._client.ask(address, method="DELETE", headers={"X-Auth-Token": token})

    def refused(self, status: int) -> SourceRetry:
        """Return what it means that a service answers 401 or 403."""
        if not self._username:
            what, fix = "asks for an account", "set sources.redfish.username and password_file"
        elif status == 403:
            what, fix = f"does not let {self._username} read this", "give the account the role ReadOnly or better"
        else:
            what, fix = f"refuses {self._username}", f"the right password into {self._password_file}"
        return Postponed(f"the BMC {what} ({status})", where=self._client.url, fix=fix, after_ns=REFUSED_NS)

    def _log_in(self) -> None:
        password = read_password(self._password_file)
        login = msgspec.json.encode({"UserName": self._username, "Password": password})
        answer = self._client.ask(SESSIONS, method="POST", headers=_JSON, body=login)
        if answer.status in {401, 403}:
            raise self.refused(answer.status)
        token = answer.headers.get("x-auth-token", "")
        if answer.status < 300 and _TOKEN.fullmatch(token):
            self._token, self._address = token, self._session_address(answer)
        else:
            account = f"{self._username}:{password}".encode()
            self._basic = f"Basic {base64.b64encode(account).decode('ascii')}"

    def _session_address(self, answer: Answer) -> str:
        """Return where the session can be ended: a path on this host, empty where it does not say."""
        location = answer.headers.get("location", "").removeprefix(self._client.url)
        if path := checked(location):
            return path
        try:
            return link(document(answer.body))
        except NoDocument:
            return ""


def read_password(file: str) -> str:
    """Return the first line of a file that only its owner and group can read.

    Raises:
        SourceRetry: it cannot be read, others can read it too, or it is empty. It may be put right while we run.
    """
    fix = f"(umask 077; cat > {file})  # then type the password, Enter, Ctrl-D"
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, encoding="utf-8") as stream:
            mode = os.fstat(fd).st_mode
            text = stream.read(_MAX_PASSWORD_BYTES) if stat.S_ISREG(mode) else ""
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
        raise SourceRetry(f"cannot read the password: {reason}", where=file, fix=fix) from None
    if os.name == "posix" and mode & (stat.S_IROTH | stat.S_IWOTH):
        raise SourceRetry("every user can read the password", where=file, fix=f"chmod 600 {file}")
    password = text.partition("\n")[0].rstrip("\r")
    if not password:
        raise SourceRetry("there is no password in the file", where=file, fix=fix)
    return password
