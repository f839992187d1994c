"""A real Alertmanager beside a test, which sends what it is told to a webhook."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.real.prometheus import free_port, program

from .victoria import get, wait_until


class Alertmanager:
    """The query side of one running Alertmanager."""

    def __init__(self, address: str) -> None:
        self.address = address

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that it has now."""
        return list(json.loads(get(f"http://{self.address}/api/v2/alerts?active=true") or b"[]"))

    def names(self) -> set[str]:
        """Return the names of those that fire."""
        return {alert["labels"]["alertname"] for alert in self.alerts()}


@contextmanager
def alerting(folder: Path, webhook: str = "http://127.0.0.1:9/") -> Iterator[Alertmanager]:
    """Run it in `folder`; it tells each alert at once."""
    route = {"receiver": "hook", "group_by": ["alertname"], "group_wait": "0s", "group_interval": "1s"}
    hook = {"name": "hook", "webhook_configs": [{"url": webhook}]}
    (folder / "alertmanager.yml").write_text(json.dumps({"route": route, "receivers": [hook]}))
    address = f"127.0.0.1:{free_port()}"
    flags = [f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder / 'alerts'}"]
    flags += [f"--web.listen-address={address}", "--cluster.listen-address=", "--log.level=warn"]
    with (folder / "alertmanager.log").open("w") as log:
        process = subprocess.Popen([program("prometheus-alertmanager"), *flags], stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: get(f"http://{address}/-/ready"))
        yield Alertmanager(address)
    finally:
        process.kill()
        process.wait(10)
