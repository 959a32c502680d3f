"""Waits until the nodes of `make up` are Ready, applies examples/ and waits for what they bring; tells what changes."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
SAMPAN = str(pathlib.Path(sys.executable).parent / "sampan")
NODES = ("node1", "node2", "node3")
MASTER = f"127.0.0.1:{os.environ.get('SAMPAN_MASTER_PORT', '7443')}"
# The ports that docker-compose.yml publishes for the example service, one per node.
_PORTS = (("SAMPAN_NODE1_PORT", "8765"), ("SAMPAN_NODE2_PORT", "8766"), ("SAMPAN_NODE3_PORT", "8767"))
URLS = tuple(f"http://127.0.0.1:{os.environ.get(name, usual)}/" for name, usual in _PORTS)


def say(text: str) -> None:
    print(f"\033[1m==>\033[0m {text}", flush=True)


def items(kind: str) -> list[dict[str, Any]]:
    """The objects of a kind in all namespaces; empty while the master does not answer."""
    # The cluster of this tree is meant, whatever the caller's shell points at.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SAMPAN_")}
    command = [SAMPAN, "--master", MASTER, "get", kind, "-A", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment)
    if done.returncode != 0:
        raise LookupError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no answer")
    answer = json.loads(done.stdout)
    return list(answer["items"]) if "items" in answer else [answer]


def ready(node: dict[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def wait_for(what: str, seconds: float, look: Any) -> None:
    """Polls `look()` -> (done, state as text) and prints each new state; ends the program at the deadline."""
    say(f"waiting for {what}")
    begin, last = time.monotonic(), ""
    while True:
        try:
            done, state = look()
        except (LookupError, subprocess.TimeoutExpired, json.JSONDecodeError) as error:
            done, state = False, f"not yet: {error}"
        passed = time.monotonic() - begin
        if state != last:
            print(f"    {passed:5.1f} s  {state}", flush=True)
            last = state
        if done:
            return
        if passed > seconds:
            sys.exit(f"error: still waiting for {what} after {seconds:.0f} s; last state: {last}")
        time.sleep(0.3)


def nodes_ready() -> tuple[bool, str]:
    there = {node["metadata"]["name"]: ready(node) for node in items("nodes")}
    states = [f"{name} {'Ready' if there.get(name) else 'NotReady' if name in there else '-'}" for name in NODES]
    return all(there.get(name) for name in NODES), "  ".join(states)


def examples_ready() -> tuple[bool, str]:
    controllers = items("replicationcontrollers")
    states, done = [], bool(controllers)
    for controller in controllers:
        wanted = controller["spec"].get("replicas", 1)
        have = controller.get("status", {}).get("readyReplicas", 0)
        states.append(f"rc/{controller['metadata']['name']} {have}/{wanted} ready")
        done = done and have == wanted
    return done, "  ".join(states) or "no controllers yet"


def service_answers() -> tuple[bool, str]:
    states = []
    for url in URLS:
        try:
            with urllib.request.urlopen(url, timeout=3) as response:
                states.append(response.read().decode().strip())
        except (urllib.error.URLError, OSError) as error:
            return False, f"{url}: {getattr(error, 'reason', error)}"
    return True, "; ".join(states)


def main() -> None:
    wait_for("the nodes", 120, nodes_ready)
    say("applying examples/")
    command = [SAMPAN, "--master", MASTER, "apply", "-f", str(ROOT / "examples")]
    subprocess.run(command, check=True, timeout=60)
    wait_for("the examples", 120, examples_ready)
    wait_for("the example service on every node", 60, service_answers)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {' '.join(error.cmd)} failed with exit code {error.returncode}")
    except KeyboardInterrupt:
        sys.exit(130)
