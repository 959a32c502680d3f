"""What a workload says of its rollout; one module a kind, `registry.py` is the table."""
