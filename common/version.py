"""The version of this Sampan, one place for the CLI, the master and the agent."""

from __future__ import annotations

VERSION = "0.1.0"
