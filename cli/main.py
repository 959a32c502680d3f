"""The command `sampan`: which verbs there are, and what becomes of an error; imports little, so that help is quick."""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

import click

from cli.app import Root

_C = "cli.commands"

WRONG_USAGE = 64
"""EX_USAGE of sysexits.h: click's own 2 is "rolled back" for the verbs that wait for rollouts."""

SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Objects": {
        "apply": (f"{_C}.apply:apply", "Create or change objects as manifest files say."),
        "create": (f"{_C}.apply:create", "Create objects from manifest files; fail where they exist."),
        "get": (f"{_C}.get:get", "Show objects as a table, YAML, JSON or names; watch them."),
        "describe": (f"{_C}.describe:describe", "Show everything about an object, with its events."),
        "delete": (f"{_C}.delete:delete", "Delete objects and wait until they are gone."),
        "diff": (f"{_C}.diff:diff", "Show what apply would change."),
        "edit": (f"{_C}.edit:edit", "Change an object in your editor."),
        "patch": (f"{_C}.patch:patch", "Change part of an object."),
        "run": (f"{_C}.run:run", "Run one pod."),
        "expose": (f"{_C}.run:expose", "Make a service for the pods of an object."),
        "set": (f"{_C}.set:set_", "Change images, variables or resources of a workload."),
        "scale": (f"{_C}.scale:scale", "Set the number of replicas."),
        "rollout": (f"{_C}.rollout:rollout", "Watch, undo, pause or restart the rollout of a new template."),
        "rolling-update": (f"{_C}.rolling_update:rolling_update", "Replace a controller's pods one by one."),
        "label": (f"{_C}.label:label", "Set or remove labels."),
        "annotate": (f"{_C}.label:annotate", "Set or remove annotations."),
        "wait": (f"{_C}.wait:wait", "Wait until objects are as you want them."),
        "logs": (f"{_C}.logs:logs", "Print what containers wrote."),
        "exec": (f"{_C}.exec:exec_", "Run a command in a container."),
        "attach": (f"{_C}.exec:attach", "Join the process that runs in a container."),
        "port-forward": (f"{_C}.portforward:port_forward", "Reach a pod's ports from this machine."),
        "cp": (f"{_C}.cp:cp", "Copy files to and from containers."),
        "events": (f"{_C}.events:events", "Show what happened, oldest first."),
    },
    "Nodes": {
        "cordon": (f"{_C}.cordon:cordon", "Put no new pods on a node."),
        "uncordon": (f"{_C}.cordon:uncordon", "Let a node have new pods again."),
        "drain": (f"{_C}.drain:drain", "Empty a node as the disruption budgets allow."),
        "taint": (f"{_C}.taint:taint", "Set or remove taints of nodes."),
        "top": (f"{_C}.top:top", "Show what nodes and pods use now."),
        "node": (f"{_C}.node:node", "Look at one node: its network."),
        "proxy": (f"{_C}.proxy:proxy", "Look at the service proxies of the nodes."),
        "token": (f"{_C}.token:token", "Make, list and revoke tokens with which machines join."),
    },
    "Cluster": {
        "backup": (f"{_C}.backup:backup", "Write the whole store into a file."),
        "restore": (f"{_C}.backup:restore", "Replace the whole store by a backup."),
        "version": (f"{_C}.version:version", "Show the versions of this command and of the master."),
        "api-resources": (f"{_C}.resources:api_resources", "List the kinds, their short names and versions."),
        "explain": (f"{_C}.explain:explain", "Show what a kind or a field is, or why a pod is on which node."),
        "completion": (f"{_C}.completion:completion", "Print a completion script for your shell."),
    },
}

EXAMPLES = """
sampan apply -f examples/
sampan get pods -o wide
sampan get nodes --master 10.0.0.5:7443
"""

sampan = Root(
    SECTIONS,
    EXAMPLES,
    name="sampan",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
    help="Sampan runs Kubernetes-shaped workloads on Docker hosts; this command talks to its master.",
)


def main() -> NoReturn:
    """Runs the command line and ends the process: 0 done, 1 failed, 64 wrong usage, 130 interrupted.

    The verbs that wait for rollouts have 2 and 3 besides.
    """
    # Loading makes many objects and no garbage: looking for some would take a tenth of what a short command takes.
    gc.set_threshold(100_000)
    code = run(sys.argv[1:])
    gc.freeze()  # nor is there any to look for at the end
    sys.exit(code)


def run(args: list[str]) -> int:
    """Runs one command line and returns its exit code; every error it can name is one message on stderr."""
    try:
        # Exit(code) comes back as a number, everything else as what the verb returned: nothing.
        code = sampan.main(args, prog_name="sampan", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.UsageError as error:
        error.show()
        return WRONG_USAGE
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # The reader went away (`| head`): nothing to tell, and nothing to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # the boundary: what we know is told in a line, the rest is a bug and keeps its trace
        from cli.failure import known, report

        if not known(error):
            raise
        report(error)
        return 1
