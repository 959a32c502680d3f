"""The runtime on a Docker Engine."""

from __future__ import annotations

from node_agent.runtime.docker.runtime import DockerRuntime

__all__ = ["DockerRuntime"]
