"""The page of `explain POD`: every node's filters and scores for one pod, as the scheduler sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from cli import screen
from protos import control_pb2 as control


def page(name: str, answer: control.ExplainPodResponse) -> None:
    """Prints where the pod is, then a row a node: whether it fits, its points by name, or what stands in the way."""
    click.echo(_head(name, answer))
    if not answer.nodes:
        click.echo("No node has joined the cluster.")
        return
    fits = [node for node in answer.nodes if node.fits]
    # What gives no node any points decides nothing.
    names = sorted({part for node in fits for part, points in node.scores.items() if points})
    if fits:
        headings = ("NODE", "TOTAL", *(part.upper() for part in names))
        rows = [
            (node.node, f"{node.total:.1f}", *(f"{node.scores.get(part, 0):.1f}" for part in names)) for node in fits
        ]
        click.echo("\nNodes that fit, best first (points by what gives them):")
        screen.rows(headings, rows)
    refused = [node for node in answer.nodes if not node.fits]
    if refused:
        click.echo("\nNodes that do not fit:")
        screen.rows(("NODE", "FILTER", "REASON"), [(node.node, node.filter, node.reason) for node in refused])


def _head(name: str, answer: control.ExplainPodResponse) -> str:
    if answer.node_name:
        return f"pod/{name} is on {answer.node_name}; it is looked at here as if it were to be placed now."
    lines = [f"pod/{name} waits for a node."]
    if answer.nominated_node_name:
        lines.append(f"Pods of lower priority are leaving {answer.nominated_node_name} for it.")
    if answer.message:
        lines.append(answer.message.partition("\n")[0])
    return "\n".join(lines)


def document(name: str, namespace: str, answer: control.ExplainPodResponse) -> Mapping[str, Any]:
    """The same for `-o json` and `-o yaml`."""
    return {
        "pod": name,
        "namespace": namespace,
        "nodeName": answer.node_name,
        "nominatedNodeName": answer.nominated_node_name,
        "message": answer.message,
        "nodes": [
            {
                "node": node.node,
                "fits": node.fits,
                "filter": node.filter,
                "reason": node.reason,
                "total": node.total,
                "scores": dict(node.scores),
            }
            for node in answer.nodes
        ],
    }
