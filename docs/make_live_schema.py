"""Write docs/live.schema.json from the types of the live stream's events."""

import json
from pathlib import Path

from inferwatt.web.events import schema

PAGE = Path(__file__).with_name("live.schema.json")


def text() -> str:
    """Return the schema as it is kept."""
    return json.dumps(schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
