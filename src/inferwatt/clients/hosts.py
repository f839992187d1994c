"""Whose server a call goes to: one's own, which its own meter sees, or a managed API's, and which. Pure."""

import re
from ipaddress import ip_address

_URL_HOST = re.compile(r"^[a-z]+://(?:[^/@]*@)?(\[[^\]]*\]|[^/:?#]*)", re.IGNORECASE)
OWN_NAMES = (".local", ".localhost", ".internal", ".lan", ".svc", ".cluster.local", ".home.arpa", ".test")
"""RFC 6761, 6762, 8375 and 9476, and what Kubernetes and offices use."""

PROVIDERS = {
    "openai.com": "openai",
    "azure.com": "azure.ai.openai",
    "anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "googleapis.com": "gcp.vertex_ai",
    "amazonaws.com": "aws.bedrock",
    "huggingface.co": "huggingface",
    "mistral.ai": "mistral_ai",
    "cohere.com": "cohere",
    "cohere.ai": "cohere",
    "groq.com": "groq",
    "deepseek.com": "deepseek",
    "x.ai": "x_ai",
    "perplexity.ai": "perplexity",
}
"""By the end of a host's name; the values as OpenTelemetry's `gen_ai.provider.name` spells them (conventions 1.37)."""

SPELLINGS = {
    "az.ai.openai": "azure.ai.openai",
    "azure": "azure.ai.openai",
    "azure.ai.inference": "azure.ai.inference",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "vertex_ai": "gcp.vertex_ai",
    "bedrock": "aws.bedrock",
    "aws_bedrock": "aws.bedrock",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
"""What older conventions (`gen_ai.system`) and libraries call them."""


def host_of(url: object) -> str:
    """Return the host in a URL, whatever object stands for it; empty where there is none."""
    found = _URL_HOST.match(str(url or ""))
    return found.group(1).strip("[]").lower() if found else ""


def is_own(host: str) -> bool:
    """Say whether a host is no public one: this machine, a private network, a name without a dot."""
    name = host.strip("[]").rstrip(".").lower()
    try:
        return not ip_address(name.partition("%")[0]).is_global
    except ValueError:
        return bool(name) and ("." not in name or name.endswith(OWN_NAMES))


def provider_of(host: str, usual: str = "") -> str:
    """Return who serves at a host: by its name, else `usual`, else the host itself."""
    name = host.rstrip(".").lower()
    known = (said for end, said in PROVIDERS.items() if name == end or name.endswith(f".{end}"))
    return next(known, usual or name)


def spelled(provider: str) -> str:
    """Return a provider's name as the newest conventions spell it."""
    name = provider.strip().lower()
    return SPELLINGS.get(name, name)
