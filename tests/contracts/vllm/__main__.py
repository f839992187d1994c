"""`python -m tests.contracts.vllm [NAME==VERSION ...] [--write]`: what of vLLM is not as we need it."""

import argparse
import sys

from tests.contracts.vllm.contract import SUPPORTED, breaks
from tests.contracts.vllm.page import PAGE, VERSIONS, text
from tests.contracts.vllm.wheels import NoWheel, vllm_of


def main() -> int:
    """Look at the versions that are asked for, all supported ones by default; 1 if anything is otherwise."""
    parser = argparse.ArgumentParser(prog="python -m tests.contracts.vllm", description=__doc__)
    parser.add_argument("versions", nargs="*", metavar="NAME==VERSION", default=SUPPORTED)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} anew")
    arguments = parser.parse_args()
    if arguments.write:
        PAGE.write_text(text([vllm_of(version) for version in VERSIONS]), encoding="utf-8")
    found = [one for version in arguments.versions for one in breaks(vllm_of(version))]
    sys.stdout.writelines(f"{one}\n" for one in found)
    sys.stdout.write(f"{len(found)} differences in {', '.join(arguments.versions)}\n")
    return bool(found)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NoWheel as exc:
        sys.exit(str(exc))
