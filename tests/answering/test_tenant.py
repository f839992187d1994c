"""Whose a call is: nobody is believed who is not named, and no key is kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.answering.tenant import is_name, key_of, keys_of, split_path, tenants

ACME = {"authorization": "Bearer sk-acme"}
RULE = tenants({"sk-acme": "acme"}, secret=b"local", peers=["10.0.0.0/8", "::1"])


def test_a_configured_key_is_its_tenant_in_each_protocol() -> None:
    """OpenAI's, Anthropic's and Azure's header name the same tenant."""
    for headers in (ACME, {"authorization": "bearer  sk-acme "}, {"x-api-key": "sk-acme"}, {"api-key": "sk-acme"}):
        assert RULE.of(headers, "192.0.2.1") == "acme"


def test_another_key_is_a_digest_under_the_secret() -> None:
    """Two secrets give two names, and no name holds the key; without a secret it is nobody's."""
    names = {tenants({}, secret=secret).by_key("sk-secret-key") for secret in (b"a", b"b")}

    assert len(names) == 2
    assert all(is_name(name) and "secret" not in name for name in names)
    assert tenants({}).by_key("sk-secret-key") == ""


def test_header_and_path_are_believed_from_named_peers_only() -> None:
    """The path stands over the header, both over the key; another peer is who its key says."""
    headers = {**ACME, "x-inferwatt-tenant": "by-header"}

    assert RULE.of(headers, "10.1.2.3", "by-path") == "by-path"
    assert RULE.of(headers, "::1") == "by-header"
    assert RULE.of(headers, "192.0.2.1", "by-path") == "acme"
    assert RULE.of(headers, "not an address", "by-path") == "acme"


@pytest.mark.parametrize("name", ["__other__", "__unknown__", "", "a b", "a\n", "ä", "x" * 65, "-a", "a/b"])
def test_reserved_and_odd_names_are_refused(name: str) -> None:
    """Neither a peer nor a configuration can give them."""
    assert RULE.of(ACME, "10.1.2.3", name) == "acme"
    with pytest.raises(ValueError, match="is no tenant"):
        tenants({"sk": name})


def test_a_file_of_keys_names_a_tenant_a_line() -> None:
    """Each tenant by its key; what is no such line is refused, and no key is shown."""
    assert keys_of('acme = "sk-acme"\n"b.c" = "sk-b"\n') == {"sk-acme": "acme", "sk-b": "b.c"}
    for text in ("acme = 5", 'acme = ""', '[acme]\nkey = "sk-canary"', "sk-canary", 'a = "sk-canary"\na = "sk-canary"'):
        with pytest.raises(ValueError, match=r"^(?!.*canary)"):
            keys_of(text)


@given(st.text(), st.text())
def test_a_path_is_split_once(name: str, rest: str) -> None:
    """The tenant is the second part, the rest goes on as it was."""
    path = f"/t/{name.replace('/', '')}/{rest}"

    assert split_path(path) == (name.replace("/", ""), f"/{rest}")
    assert split_path(f"/v1/{rest}") == (None, f"/v1/{rest}")


@given(st.text(), st.text())
def test_whatever_a_header_holds_it_is_somebodys_or_nobodys(value: str, peer: str) -> None:
    """No header raises."""
    key_of({"authorization": value})
    assert RULE.of({"authorization": f"Bearer {value}", "x-inferwatt-tenant": value}, peer) is not None
