"""Starts vLLM's OpenAI server in the same way for every build and release that this project supports.

`vllm serve` reads the metadata of a distribution called `vllm`, which the CPU build is not; calling the same subcommand
directly works with both. Usage: `python -m optimize.engine.serve MODEL [vLLM flags]`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from typing import Any

CGROUPS = "OPTIMIZE_CGROUPS"
"""Environment variable: folders of control groups that the server joins before it allocates anything."""
_ARGUMENTS = "OPTIMIZE_ARGUMENTS"
"""Environment variable: the arguments as JSON where the command line does not hold them, because of their secrets."""

_PARSERS = (
    "vllm.entrypoints.common.cli_args",  # 0.33
    "vllm.entrypoints.launchers.cli_args",  # 0.32
    "vllm.entrypoints.openai.cli_args",  # 0.25
)


def join_cgroups() -> None:
    """Join the control groups that the launcher names, with all processes that this one will start."""
    for folder in filter(None, os.environ.pop(CGROUPS, "").split(os.pathsep)):
        with open(os.path.join(folder, "cgroup.procs"), "w", encoding="utf-8") as procs:
            procs.write("0")


def serve(arguments: list[str]) -> None:
    """Run the server until it ends.

    Args:
        arguments: As `vllm serve` takes them, the model first.
    """
    join_cgroups()
    gc.disable()  # collections among ten thousand new modules take a fifth of the import
    from vllm.entrypoints.cli.serve import ServeSubcommand

    args = parsed(arguments)
    gc.enable()
    ServeSubcommand.cmd(args)


def _cli_args() -> Any:
    """The module with the parser, which has moved twice."""
    for name in _PARSERS:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise ModuleNotFoundError(f"vLLM has none of {', '.join(_PARSERS)}")


def parsed(arguments: list[str]) -> Any:
    """The arguments as parsed and checked by vLLM's own parser."""
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    cli_args = _cli_args()
    sys.argv = ["vllm serve", *arguments]  # parts of vLLM read the arguments here
    parser = cli_args.make_arg_parser(FlexibleArgumentParser(prog="vllm serve"))
    args = parser.parse_args(arguments)
    cli_args.validate_parsed_serve_args(args)
    if getattr(args, "model_tag", None) is not None:
        args.model = args.model_tag  # as the subcommand does it
    return args


if __name__ == "__main__":
    serve(json.loads(os.environ.pop(_ARGUMENTS, "null")) or sys.argv[1:])
