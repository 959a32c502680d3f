"""The node's own health: pressure, eviction, images nobody uses."""
