"""What several tests here need."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.real.conftest import missing


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a certificate for this machine that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-out", str(files[0]), "-keyout", str(files[1])]
    if shutil.which("openssl") is None:
        missing("openssl is not installed")
    subprocess.run(command, check=True, capture_output=True)
    return files
