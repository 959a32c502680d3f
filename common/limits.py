"""Bounds that every end of a connection keeps; apart from gRPC's library, which not all of them load."""

from __future__ import annotations

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""The largest message that any end takes."""
