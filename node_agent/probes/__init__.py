"""Probes, hooks and termination messages of a node's containers; docs/probes.md says what lives where."""
