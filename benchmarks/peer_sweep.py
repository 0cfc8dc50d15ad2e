"""`vllm bench sweep serve` and `vllm bench serve` by their Python entry points.

The `vllm` command itself asks for the metadata of a distribution called vllm, which the CPU build is not.
Usage: python -m benchmarks.peer_sweep sweep|bench ARGUMENTS...; `sweep` prints the seconds of the sweep itself, without
the imports before it, as its last line.
"""

from __future__ import annotations

import sys
import time


def _bench(arguments: list[str]) -> None:
    from vllm.benchmarks.serve import add_cli_args, main
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = FlexibleArgumentParser()
    add_cli_args(parser)
    main(parser.parse_args(arguments))


def _sweep(arguments: list[str]) -> None:
    from vllm.benchmarks.sweep.serve import SweepServeArgs, run_main
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    args = SweepServeArgs.from_cli_args(SweepServeArgs.add_cli_args(FlexibleArgumentParser()).parse_args(arguments))
    began = time.monotonic()
    run_main(args)
    print(time.monotonic() - began)


if __name__ == "__main__":
    {"bench": _bench, "sweep": _sweep}[sys.argv[1]](sys.argv[2:])
