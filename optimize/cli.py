"""The frame of every `python -m optimize...` command: composing, typing, validating, and reporting errors."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from optimize.config import schema
from optimize.config.command_help import asks_for_help, command_help
from optimize.config.compose import composed, explain, from_hydra, to_typed
from optimize.config.locations import split_config_dirs
from optimize.config.repetition import refuse_repeated_additions
from optimize.config.secrets import as_yaml
from optimize.config.validate import validate
from optimize.engine.proxies import with_direct_loopback
from optimize.errors import ConfigError, OptimizeError, closest
from optimize.files import in_words
from optimize.formatting import printable
from optimize.redaction import forgetting, redacted_streams

# Read when numpy is imported, which every verb does after this module. After each product OpenBLAS's threads spin for a
# tenth of a second, each on a core of its own; beside an engine under measurement this showed in the longest latencies
# of a study's first window.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130

Verb = Callable[[schema.StudyConfig, str], int]


def run_verb(verb: Verb, module: str = "", group: str = "study") -> None:
    """Compose the configuration from the command line, validate it, run the verb, and end the process.

    Exit codes: 0 success, 2 bad input (one line on standard error), 1 any other failure, 130 interrupted.

    Args:
        verb: Takes the valid configuration and its YAML; returns the exit code.
        module: The module of the command; empty for that of the verb.
        group: The group that a word without a key is most likely a choice of.
    """
    if asks_for_help(sys.argv[1:]) and (text := _help(module or verb.__module__)):
        print(text)
        sys.exit(0)
    os.environ.update(with_direct_loopback(os.environ))
    # Hydra then lets its errors through instead of printing them in its own way with exit code 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    _take_any_text()
    with forgetting(), redacted_streams():
        code = _heard(_guarded(verb, group))
    sys.exit(code)


def _take_any_text() -> None:
    """Have standard output write what its encoding lacks as an escape: a name of a file that is no UTF-8 is a name."""
    if sys.stdout is None:  # closed by whoever started this process
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (for as long as the process lives)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _heard(code: int) -> int:
    """The exit code, once the last of the output is written; where nobody reads it (`| head`), that is no failure."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
    except OSError as error:
        _discard_output()
        return _complain(in_words(error), FAILED)
    return code


def _discard_output() -> None:
    """Have what is left of the output go nowhere: the interpreter would complain of it once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def run_named(verb: Callable[[str, schema.StudyConfig, str], int], names: Sequence[str], noun: str) -> None:
    """Run a verb whose first word is a name: `python -m optimize.tables batch_size ...`.

    Args:
        verb: Takes the name, the configuration and its YAML.
        names: The valid names.
        noun: What a name stands for, in messages.
    """
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word.startswith("-"):  # --help and the like are Hydra's
        return run_verb(lambda _, __: 0, verb.__module__)
    if word not in names:
        is_name = word and not set(word) & set("=+~")
        unknown, missing = f"no such {noun}: {word!r}", f"no {noun} given; name it first"
        message = f"{unknown}; {closest(word, names)}" if is_name else f"{missing}, {closest('', names)}"
        sys.exit(_complain(message, BAD_INPUT))
    del sys.argv[1]
    return run_verb(lambda config, config_yaml: verb(word, config, config_yaml))


def _help(module: str) -> str:
    """The help of a command, whose module is called __main__ where it was started by `python -m`."""
    command = sys.modules[module]
    return command_help(command.__spec__.name if command.__spec__ else module, command.__doc__ or "")


def _guarded(verb: Verb, group: str) -> int:
    words = sys.argv[1:]
    try:
        refuse_repeated_additions(words)
        node = _answered(words) if _asks_hydra(words) else composed(words)
        if node is None:
            return 0
        config = to_typed(node)
        validate(config)
        return verb(config, as_yaml(node, words))
    except ConfigError as error:
        return _complain(str(error), BAD_INPUT)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        return _complain(explain(error, words, group), BAD_INPUT)
    except OptimizeError as error:
        return _complain(str(error), FAILED)
    except BrokenPipeError:
        return _complain("nobody reads the output any more: the same command then goes on from here", FAILED)
    except OSError as error:  # of the system, not of this project: a full disk, a folder without permission
        return _complain(in_words(error), FAILED)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except Exception:  # here, where what is written hides secrets
        traceback.print_exc()
        return FAILED
    finally:
        GlobalHydra.instance().clear()


def _asks_hydra(words: Sequence[str]) -> bool:
    """Whether there are words such as --help and --cfg, which are for Hydra's own command line to answer."""
    return any(word.startswith("-") for word in split_config_dirs(words)[1])


def _answered(words: Sequence[str]) -> DictConfig | None:
    """Hydra's own answer to words such as --cfg, which shows the configuration: its secrets are registered before."""
    with suppress(HydraException, OmegaConfBaseException, YAMLError, ConfigError):
        folders, others = split_config_dirs(words)
        overrides = [word for word in others if not word.startswith("-") and set(word) & set("=~")]
        composed([*(f"--config-dir={folder}" for folder in folders), *overrides])
    GlobalHydra.instance().clear()
    return from_hydra(words)


def complain_of(damage: Iterable[str]) -> int:
    """Print what could not be read, and was left out; returns the exit code of a verb that did all the rest."""
    code = 0
    for line in damage:
        print(f"warning: {line}", file=sys.stderr)
        code = FAILED
    return code


def _complain(message: str, code: int) -> int:
    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return code
