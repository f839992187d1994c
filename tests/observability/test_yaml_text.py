import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.export.yaml_text import Data, yaml_text

yaml = pytest.importorskip("yaml", reason="it comes with make test-observability")
TEXTS = st.text(max_size=20) | st.text(st.sampled_from("ab -:#'\"\\\n\t{}[]&*!|>%@`.,0"), max_size=200)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.integers(-999, 999).map(lambda n: n / 8) | TEXTS
DATA = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)


@given(DATA)
def test_what_is_written_is_read_back(data: Data) -> None:
    """A YAML reader that is not ours reads the same from what we write, whatever it is."""
    assert yaml.safe_load(yaml_text(data, "a comment")) == data
