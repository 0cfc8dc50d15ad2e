"""vLLM's own OpenAI server, started the same way for every build and release this project supports.

`vllm serve` looks up the metadata of a distribution called `vllm`, which the CPU build is not; calling the same
subcommand directly works with both. Usage: `python -m optimize.engine.serve MODEL [vLLM flags]`.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from typing import Any

CGROUPS = "OPTIMIZE_CGROUPS"
"""Environment variable: control groups that the server joins before it allocates anything, by their folders."""
NICENESS = "OPTIMIZE_NICENESS"
"""Environment variable: how far the server gives way to other programs; see `give_way`."""
_TRIES, _RETRY_S = 10, 0.05


def join_cgroups() -> None:
    """Enter the control groups that the launcher names, this process and whatever it starts."""
    for folder in filter(None, os.environ.pop(CGROUPS, "").split(os.pathsep)):
        with open(os.path.join(folder, "cgroup.procs"), "w", encoding="utf-8") as procs:
            procs.write("0")


def give_way() -> None:
    """Take a processor only where no other program wants it, as far as the launcher says.

    Clients and whoever watches them stand for other machines: they must not queue for the cores behind the engine that
    they measure. A nice value alone does not see to that, neither the engine's nor theirs: where Linux groups processes
    by session (sched(7), "The autogroup feature"), it counts within a session only, and each session has its own.
    """
    niceness = int(os.environ.pop(NICENESS, "0"))
    if not niceness:
        return
    os.nice(niceness)
    for _ in range(_TRIES):
        try:
            with open("/proc/self/autogroup", "w", encoding="ascii") as group:
                group.write(str(niceness))
            return
        except BlockingIOError:  # no more than ten such changes a second, all users together
            time.sleep(_RETRY_S)
        except OSError:  # this kernel has no such groups
            return


def serve(arguments: list[str]) -> None:
    """Run the server until it ends.

    Args:
        arguments: As `vllm serve` takes them, the model first.
    """
    join_cgroups()
    give_way()
    from vllm.entrypoints.cli.serve import ServeSubcommand

    ServeSubcommand.cmd(parsed(arguments))


def parsed(arguments: list[str]) -> Any:
    """The arguments as vLLM's own parser reads and checks them."""
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    try:
        cli_args = importlib.import_module("vllm.entrypoints.launchers.cli_args")  # 0.32
    except ModuleNotFoundError:
        cli_args = importlib.import_module("vllm.entrypoints.openai.cli_args")  # 0.25
    sys.argv = ["vllm serve", *arguments]  # parts of vLLM look here for what was asked
    parser = cli_args.make_arg_parser(FlexibleArgumentParser(prog="vllm serve"))
    args = parser.parse_args(arguments)
    cli_args.validate_parsed_serve_args(args)
    if getattr(args, "model_tag", None) is not None:
        args.model = args.model_tag  # as the subcommand does it
    return args


if __name__ == "__main__":
    serve(sys.argv[1:])
