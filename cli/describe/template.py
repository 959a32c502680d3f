"""The part of a page that shows a pod template, for every kind that has one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cli.describe import common
from cli.describe.container import container
from cli.describe.page import Page
from cli.describe.volumes import volume

if TYPE_CHECKING:
    from protos.core_pb2 import Pod, PodTemplateSpec


def template(page: Page, found: PodTemplateSpec, heading: str = "Pod Template") -> None:
    """Labels, annotations, containers and volumes of the pods to make."""
    with page.section(heading):
        common.marks(page, found)
        for title, containers in (
            ("Init Containers", found.spec.initContainers),
            ("Containers", found.spec.containers),
        ):
            if containers:
                with page.section(title):
                    for item in containers:
                        container(page, item, None)
        if found.spec.volumes:
            with page.section("Volumes"):
                for one in found.spec.volumes:
                    volume(page, one)
        page.mapping("Node-Selectors", found.spec.nodeSelector)


def phases(pods: Iterable[Pod]) -> str:
    """How many pods are in which phase: "2 Running / 1 Waiting / 0 Succeeded / 0 Failed"."""
    found = Counter(pod.status.phase or "Pending" for pod in pods)
    words = (("Running", "Running"), ("Pending", "Waiting"), ("Succeeded", "Succeeded"), ("Failed", "Failed"))
    return " / ".join(f"{found[phase]} {word}" for phase, word in words)
