"""What agent and supervisor say to each other by exit code and environment; imported by both, imports nothing."""

from __future__ import annotations

EXIT_FAILED = 1
# The master does not let this machine in: starting again does not help, a person must.
EXIT_JOIN_REFUSED = 3
# BSD's EX_TEMPFAIL: start me again.
EXIT_RESTART = 75

# Environment variable with the supervisor's process id.
SUPERVISOR = "SAMPAN_SUPERVISOR_PID"
