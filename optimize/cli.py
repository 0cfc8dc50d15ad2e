"""What every `python -m optimize...` verb with a Hydra configuration shares: composing, typing, error manners."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence

from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from optimize.config import schema
from optimize.config.compose import composed, explain, from_hydra, to_typed
from optimize.config.locations import split_config_dirs
from optimize.config.schema import GIVEN
from optimize.config.validate import validate
from optimize.errors import ConfigError, OptimizeError, closest

# Read when numpy is imported, which every verb does after this module. OpenBLAS's threads wait for more work, each on a
# core of its own, for a tenth of a second a product: beside an engine under measurement that was seen in the longest
# latencies of a study's first window.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130

Verb = Callable[[schema.StudyConfig, str], int]


def run_verb(verb: Verb) -> None:
    """Compose the configuration from the command line, hand it over typed, and end the process.

    Exit codes: 0 done, 2 bad input (one line on standard error), 1 anything else that went wrong, 130 interrupted.
    """
    schema.register()
    # Hydra then lets its errors through instead of printing them in its own way with exit code 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.exit(_guarded(verb))


def run_named(verb: Callable[[str, schema.StudyConfig, str], int], names: Sequence[str], what: str) -> None:
    """`run_verb` for a verb whose first argument is one of some names: `python -m optimize.tables batch_size ...`."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word.startswith("-"):  # --help and the like are Hydra's
        return run_verb(lambda _, __: 0)
    if word not in names:
        given = word and not set(word) & set("=+~")
        said = f"no such {what}: {word!r}; {closest(word, names)}"
        sys.exit(_complain(said if given else f"no {what} given; name it first, {closest('', names)}", BAD_INPUT))
    del sys.argv[1]
    return run_verb(lambda config, config_yaml: verb(word, config, config_yaml))


def _guarded(verb: Verb) -> int:
    words = sys.argv[1:]
    try:
        node = from_hydra(words) if _asks_hydra(words) else composed(words)
        if node is None:
            return 0
        config = to_typed(node)
        validate(config)
        return verb(config, _as_yaml(node, words))
    except ConfigError as error:
        return _complain(str(error), BAD_INPUT)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        return _complain(explain(error, words), BAD_INPUT)
    except OptimizeError as error:
        return _complain(str(error), FAILED)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    finally:
        GlobalHydra.instance().clear()


def _asks_hydra(words: Sequence[str]) -> bool:
    """Whether there are words such as --help and --cfg, which are for Hydra's own command line to answer."""
    return any(word.startswith("-") for word in split_config_dirs(words)[1])


def _as_yaml(node: DictConfig, words: Sequence[str]) -> str:
    """The configuration as composed, headed by the command's words as they were typed: a report repeats them, and an
    interpolation of the environment may be a secret.
    """
    folders, others = split_config_dirs(words)
    repeated = [*(word for word in others if not word.startswith("-")), *(f"--config-dir={path}" for path in folders)]
    return f"{GIVEN}{shlex.join(repeated)}\n{OmegaConf.to_yaml(node)}"


def _complain(message: str, code: int) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code
