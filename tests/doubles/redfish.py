"""A stand-in for a BMC's Redfish service: documented resources, sessions and basic authentication, and bad habits.

The shapes are those of DMTF's published schemas (ServiceRoot, Chassis, EnvironmentMetrics, Sensor, Power,
PowerSubsystem, PowerSupply, PowerSupplyMetrics, Session); a test sets the figures and what goes wrong.
"""

import base64
import json
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ROOT = "/redfish/v1"
CHASSIS = f"{ROOT}/Chassis"
SESSIONS = f"{ROOT}/SessionService/Sessions"
USER, PASSWORD = "meter", "s3cret-Pa55w0rd"

Document = dict[str, Any]


@dataclass(slots=True)
class Reply:
    """One answer in place of the documented one; a `drip` sends its bytes one by one, each when the event allows."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    drip: threading.Event | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked, and how it was said who asks."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class RedfishBmc:
    """A service that runs while the context lasts."""

    def __init__(self, *chassis: Document, account: bool = False, tls: ssl.SSLContext | None = None) -> None:
        self.resources: dict[str, object] = {}
        self.replies: dict[str, Reply | Callable[[], Reply]] = {}
        self.asked: list[Question] = []
        self.needs_account = account
        self.has_sessions = True
        self.takes_basic = True
        self.password = PASSWORD
        self.sessions: dict[str, str] = {}
        self.logins = 0
        for each in chassis:
            self.add(each)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._scheme = "http" if tls is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        """Return its address."""
        return f"{self._scheme}://localhost:{self._server.server_address[1]}"

    def __enter__(self) -> "RedfishBmc":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, chassis: Document) -> None:
        """Take up a chassis with its inner resources, which `chassis` made."""
        for path, resource in chassis.items():
            self.resources[path] = resource
        listed = [path for path in self.resources if path.startswith(f"{CHASSIS}/") and path.count("/") == 4]
        self.resources[CHASSIS] = {"Members": [{"@odata.id": path} for path in listed]}
        self.resources[ROOT] = {
            "@odata.type": "#ServiceRoot.v1_15_0.ServiceRoot",
            "RedfishVersion": "1.17.0",
            "Chassis": {"@odata.id": CHASSIS},
            "Links": {"Sessions": {"@odata.id": SESSIONS}},
        }

    def paths(self) -> list[str]:
        """Return what was asked, without logins."""
        return [question.path for question in self.asked if question.method == "GET"]

    def answer(self, question: Question) -> Reply:
        """Return what a question is answered."""
        path = question.path.rstrip("/")
        reply = self.replies.get(path)
        if reply is not None:
            return reply() if callable(reply) else reply
        if path == SESSIONS and question.method == "POST":
            return self._log_in(question)
        if question.method == "DELETE":
            self.sessions = {token: address for token, address in self.sessions.items() if address != path}
            return Reply(204)
        if path != ROOT and self.needs_account and not self._is_known(question):
            headers = {"WWW-Authenticate": 'Basic realm="BMC"'} if self.takes_basic else {}
            return Reply(401, b"{}", headers)
        if path not in self.resources:
            return Reply(404, b"{}")
        found = self.resources[path]
        return Reply(200, found if isinstance(found, bytes) else json.dumps(found).encode())

    def _log_in(self, question: Question) -> Reply:
        if not self.has_sessions:
            return Reply(404, b"{}")
        self.logins += 1
        account = json.loads(question.body)
        if (account["UserName"], account["Password"]) != (USER, self.password):
            return Reply(401, b"{}")
        token, address = f"token-{self.logins}", f"{SESSIONS}/{self.logins}"
        self.sessions[token] = address
        return Reply(201, b"{}", {"X-Auth-Token": token, "Location": address})

    def _is_known(self, question: Question) -> bool:
        if question.headers.get("x-auth-token") in self.sessions:
            return True
        account = base64.b64encode(f"{USER}:{self.password}".encode()).decode()
        return self.takes_basic and question.headers.get("authorization") == f"Basic {account}"


def chassis(
    name: str = "1",
    *,
    form: str = "RackMount",
    inside: str = "",
    environment: object = None,
    power: object = None,
    supplies: Mapping[str, object] | None = None,
) -> Document:
    """Return one chassis and what it links: each given part is the resource itself.

    `supplies` maps a supply's name to the reading of its metrics, or to a whole PowerSupply resource.
    """
    path = f"{CHASSIS}/{name}"
    found: Document = {"@odata.id": path, "Id": name, "ChassisType": form, "Links": {}}
    resources: Document = {path: found}
    if inside:
        found["Links"]["ContainedBy"] = {"@odata.id": f"{CHASSIS}/{inside}"}
    for key, resource in (("EnvironmentMetrics", environment), ("Power", power)):
        if resource is not None:
            found[key] = {"@odata.id": f"{path}/{key}"}
            resources[f"{path}/{key}"] = resource
    if supplies is not None:
        found["PowerSubsystem"] = {"@odata.id": f"{path}/PowerSubsystem"}
        resources |= _supplies(f"{path}/PowerSubsystem", supplies)
    return resources


def environment(watts: object) -> Document:
    """Return an EnvironmentMetrics resource whose power sensor reads `watts`, with an energy beside it."""
    return {
        "@odata.type": "#EnvironmentMetrics.v1_3_1.EnvironmentMetrics",
        "PowerWatts": {"DataSourceUri": f"{CHASSIS}/1/Sensors/TotalPower", "Reading": watts},
        "EnergykWh": {"Reading": 325675},
    }


def sensor(watts: object, units: str = "W") -> Document:
    """Return a Sensor resource."""
    return {"@odata.type": "#Sensor.v1_7_0.Sensor", "ReadingType": "Power", "ReadingUnits": units, "Reading": watts}


def control(*watts: object, average: float = 187.0) -> Document:
    """Return an old Power resource with an entry for each of `watts`, and a mean of 20 minutes."""
    metrics = {"AverageConsumedWatts": average, "IntervalInMin": 20}
    entries = [
        {"MemberId": str(n), "PowerConsumedWatts": each, "PowerMetrics": metrics} for n, each in enumerate(watts)
    ]
    return {"@odata.type": "#Power.v1_7_1.Power", "PowerControl": entries}


def _supplies(path: str, supplies: Mapping[str, object]) -> Document:
    collection = f"{path}/PowerSupplies"
    resources: Document = {
        path: {"PowerSupplies": {"@odata.id": collection}, "CapacityWatts": 3000},
        collection: {"Members": [{"@odata.id": f"{collection}/{name}"} for name in supplies]},
    }
    for name, given in supplies.items():
        metrics = f"{collection}/{name}/Metrics"
        whole: Document = {"Status": {"State": "Enabled"}, "Metrics": {"@odata.id": metrics}}
        resources[f"{collection}/{name}"] = given if isinstance(given, dict) else whole
        resources[metrics] = {"InputPowerWatts": {"Reading": given}, "OutputPowerWatts": {"Reading": 1}}
    return resources


def _handler(bmc: RedfishBmc) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Hands each question to the service, and sends what it says."""

        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            """Answer a question of any kind."""
            size = int(self.headers.get("Content-Length", 0))
            headers = {name.lower(): text for name, text in self.headers.items()}
            question = Question(self.command, self.path, headers, self.rfile.read(size))
            bmc.asked.append(question)
            with suppress(OSError, ssl.SSLError):  # who asked hung up
                self._send(bmc.answer(question))

        do_POST = do_DELETE = do_GET  # noqa: N815 - the names by which http.server looks for them

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _send(self, reply: Reply) -> None:
            self.send_response(reply.status)
            sized = {"Content-Length": str(len(reply.body)), "Content-Type": "application/json", **reply.headers}
            for name, text in sized.items():
                self.send_header(name, text)
            self.end_headers()
            for part in [reply.body] if reply.drip is None else [reply.body[n : n + 1] for n in range(len(reply.body))]:
                if reply.drip is not None and reply.drip.wait(0.02):
                    return
                self.wfile.write(part)
                self.wfile.flush()

    return Handler
