"""Whose server a host is, and who serves there."""

import pytest

from inferwatt.clients.hosts import is_own, provider_of, spelled


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "127.0.0.1", "::1", "[::1]", "10.1.2.3", "192.168.0.9", "172.16.0.1", "169.254.1.1", "fe80::1%e",
        "vllm", "vllm.models.svc", "vllm.models.svc.cluster.local", "box.lan", "mac.local", "a.internal", "VLLM.",
    ],
)  # fmt: skip
def test_a_host_of_ones_own(host: str) -> None:
    """This machine, private networks, and names that are no public ones."""
    assert is_own(host)


@pytest.mark.parametrize(
    "host", ["api.openai.com", "8.8.8.8", "2606:4700::1111", "openrouter.ai", "local.example.com", ""]
)
def test_a_public_host(host: str) -> None:
    """Anything else is somebody else's; where no host is known the library's own is meant."""
    assert not is_own(host)


@pytest.mark.parametrize(
    ("host", "usual", "provider"),
    [
        ("api.openai.com", "", "openai"),
        ("mine.openai.azure.com", "openai", "azure.ai.openai"),
        ("bedrock-runtime.us-east-1.amazonaws.com", "", "aws.bedrock"),
        ("us-central1-aiplatform.googleapis.com", "", "gcp.vertex_ai"),
        ("generativelanguage.googleapis.com", "", "gcp.gemini"),
        ("api.groq.com", "openai", "groq"),
        ("openrouter.ai", "", "openrouter.ai"),
        ("llm.example.com", "openai", "openai"),
        ("notopenai.com", "", "notopenai.com"),
    ],
)
def test_who_serves_there(host: str, usual: str, provider: str) -> None:
    """The host decides, then what the library usually asks, then the host's own name; never a part of a name."""
    assert provider_of(host, usual) == provider


def test_older_spellings_are_the_newest() -> None:
    """`gen_ai.system` and LiteLLM's names become `gen_ai.provider.name`'s; unknown ones stay."""
    assert [spelled(name) for name in ("az.ai.openai", "Gemini", "bedrock", "acme")] == [
        "azure.ai.openai",
        "gcp.gemini",
        "aws.bedrock",
        "acme",
    ]
