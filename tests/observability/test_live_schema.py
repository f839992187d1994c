"""The live stream's events are of the schema, to a validator that is not ours."""

import json

import pytest

from inferwatt.web.events import encode_view, encode_window, schema
from tests.web.running import LIVE
from tests.web.stand_in import view

jsonschema = pytest.importorskip("jsonschema", reason="it comes with make test-observability")


@pytest.mark.parametrize("details", [True, False])
def test_events_are_of_the_schema(details: bool) -> None:
    """The schema is one, every window and every request is valid, and what is no event is not."""
    validator = jsonschema.Draft202012Validator(schema())
    jsonschema.Draft202012Validator.check_schema(schema())
    for live in (LIVE, view()):
        validator.validate(json.loads(encode_window(live, details=details)))
        for request in json.loads(encode_view(live, details=details))["requests"]:
            validator.validate(request)
    wrong = json.loads(encode_window(LIVE, details=details)) | {"unix_seconds": "now"}

    assert not validator.is_valid(wrong)
    assert not validator.is_valid({})
