"""Rows of `top` from the nodes' answers; pure. Cores as millicores, memory in Mi, as kubectl shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from common.quantity import parse_quantity

NODE_HEADINGS = ("NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)")
_UNKNOWN = "<unknown>"
_MIB = 1024 * 1024

# Name(s), cores, bytes; what sorting looks at.
_Row = tuple[tuple[str, ...], float, int]


def node_rows(nodes: Sequence[Any], answers: Mapping[str, Any], sort_by: str | None) -> list[tuple[str, ...]]:
    """One row a node; those that did not answer last and without figures."""
    known, silent = [], []
    for node in nodes:
        name = node.metadata.name
        answer = answers.get(name)
        if answer is None:
            silent.append((name, *[_UNKNOWN] * 4))
            continue
        room = node.status.allocatable or node.status.capacity
        cpu, memory = float(answer["cpu"]), int(answer["memory"])
        shares = (_share(cpu, room, "cpu"), _share(memory, room, "memory"))
        known.append((((name,), cpu, memory), (name, cores(cpu), shares[0], mebibytes(memory), shares[1])))
    known.sort(key=lambda pair: _order(sort_by)(pair[0]))
    return [row for _, row in known] + sorted(silent)


def pod_headings(*, containers: bool, namespaces: bool) -> tuple[str, ...]:
    names = ("POD", "NAME") if containers else ("NAME",)
    return (*(("NAMESPACE",) if namespaces else ()), *names, "CPU(cores)", "MEMORY(bytes)")


def pod_rows(
    pods: Sequence[Any], answers: Mapping[str, Any], sort_by: str | None, *, containers: bool, namespaces: bool
) -> list[tuple[str, ...]]:
    """One row a pod, or a container, of those that the answers know."""
    measured = {
        (node, pod["namespace"], pod["name"]): pod["containers"]
        for node, answer in answers.items()
        for pod in answer["pods"]
    }
    found: list[_Row] = []
    for pod in pods:
        meta = pod.metadata
        parts = measured.get((pod.spec.nodeName, meta.namespace, meta.name))
        if parts is None:
            continue
        head = (meta.namespace, meta.name) if namespaces else (meta.name,)
        if containers:
            found += [((*head, part["name"]), float(part["cpu"]), int(part["memory"])) for part in parts]
        else:
            total = sum(float(part["cpu"]) for part in parts), sum(int(part["memory"]) for part in parts)
            found.append((head, *total))
    found.sort(key=_order(sort_by))
    return [(*names, cores(cpu), mebibytes(memory)) for names, cpu, memory in found]


def _order(sort_by: str | None) -> Callable[[_Row], Any]:
    def key(row: _Row) -> Any:
        names, cpu, memory = row
        return (-cpu if sort_by == "cpu" else -memory if sort_by == "memory" else 0, names)

    return key


def cores(amount: float) -> str:
    """ "250m"; what is used at all is not shown as none."""
    return f"{max(1, round(amount * 1000)) if amount > 0 else 0}m"


def mebibytes(amount: int) -> str:
    return f"{round(amount / _MIB)}Mi"


def _share(amount: float, room: Mapping[str, Any], what: str) -> str:
    whole = float(parse_quantity(room[what].value)) if what in room else 0.0
    return f"{round(100 * amount / whole)}%" if whole else _UNKNOWN
