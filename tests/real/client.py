"""A user's program: it asks a model by urllib, and the meter by `inferwatt.request`; it needs nothing else.

`python client.py URL` asks until its input is closed, `python client.py URL COUNT` so many times. It prints a line of
JSON for each request that has ended (`ended`), and one when its final joules are there (`final`, `energy_uj`, which
is null where no device was read while it ran).
"""

import http.client
import json
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import inferwatt

MODEL = "SmolLM2-135M-Instruct.Q4_1"
FINAL_SECONDS = 20.0
RETRY_SECONDS = 0.2


def ask(url: str, number: int) -> inferwatt.RequestHandle:
    """Ask once, tell what came of it, and return its handle."""
    body = {
        "messages": [{"role": "user", "content": f"Name {number % 7 + 2} rivers of Europe."}],
        "max_tokens": 6 + number % 5,
    }
    content, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
    used: dict[str, int] = {}
    try:
        with inferwatt.request(model=MODEL, tenant=f"tenant-{number % 2}") as r:
            asked = urllib.request.Request(f"{url}/v1/chat/completions", content, headers)
            with urllib.request.urlopen(asked, timeout=60) as reply:
                answer = json.load(reply)
            timings = answer["timings"]
            used = {"prompt": timings["prompt_n"] + timings["cache_n"], "cached": timings["cache_n"]}
            used["output"] = timings["predicted_n"]
            r.response_id = answer["id"]
            r.usage(**used)
    except (OSError, http.client.HTTPException, ValueError):
        time.sleep(RETRY_SECONDS)
    say(ended=r.id, response_id=r.response_id, **used)
    return r


def ask_in_place(url: str, number: int, places: threading.Semaphore) -> None:
    """Ask, let the next one ask, and tell the final joules when they are there."""
    try:
        r = ask(url, number)
    finally:
        places.release()
    energy = r.energy(wait_seconds=FINAL_SECONDS)
    if energy is not None and energy.final:
        say(final=r.id, energy_uj=energy.energy_uj if energy.parts else None)


def say(**line: object) -> None:
    """Print one line, whole."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Ask, at most two at a time; their final joules are waited for meanwhile."""
    url, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else sys.maxsize
    over = threading.Event()

    def until_input_ends() -> None:
        sys.stdin.read()
        over.set()

    if len(sys.argv) == 2:
        threading.Thread(target=until_input_ends, daemon=True).start()
    places = threading.Semaphore(2)
    with ThreadPoolExecutor(64) as pool:
        for number in range(count):
            places.acquire()
            if over.is_set():
                break
            pool.submit(ask_in_place, url, number, places)


if __name__ == "__main__":
    main()
