"""Deployments: pure functions from a Deployment, its ReplicaSets and their pods to a Plan; see docs/rollouts.md."""
