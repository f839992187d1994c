"""The example of docs/attribution-api.md runs, and prints what stands beside it."""

import contextlib
import io

from tests.docs.documents import DOCS, blocks


def test_the_example_prints_what_stands_beside_it() -> None:
    """Its figures are those of the code that stands."""
    page = DOCS / "attribution-api.md"
    [code], [printed] = blocks(page, "python"), blocks(page, "text")
    out = io.StringIO()

    with contextlib.redirect_stdout(out):
        exec(compile(code, str(page), "exec"), {})

    assert out.getvalue().strip() == printed.strip()
