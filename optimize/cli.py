"""What every `python -m optimize...` verb with a Hydra configuration shares: composing, typing, error manners."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from optimize import schema
from optimize.errors import ConfigError, OptimizeError, closest
from optimize.schema import GIVEN

CONF = Path(__file__).resolve().parents[1] / "conf"
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
        # Words such as --help and --cfg are for Hydra's own command line, which ends there.
        node = _from_hydra() if any(word.startswith("-") for word in words) else composed(words)
        return verb(to_typed(node), _as_yaml(node, words)) if node is not None else 0
    except ConfigError as error:
        return _complain(str(error), BAD_INPUT)
    except (HydraException, OmegaConfBaseException) as error:
        return _complain(explain(error), BAD_INPUT)
    except OptimizeError as error:
        return _complain(str(error), FAILED)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    finally:
        GlobalHydra.instance().clear()


def composed(overrides: Sequence[str]) -> DictConfig:
    """The configuration with these overrides. Hydra's own command line takes twice as long: it composes first to see
    whether it is to run once or many times.
    """
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", list(overrides))


def _from_hydra() -> DictConfig | None:
    """The configuration by Hydra's command line; None where that only answered a question."""
    found: list[DictConfig] = []

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def compose(node: DictConfig) -> None:
        found.append(node)

    compose()
    return found[0] if found else None


def _as_yaml(node: DictConfig, words: list[str]) -> str:
    """The configuration as composed, headed by what the command was given, as it was given: a report repeats it, and
    an interpolation of the environment may be a secret.
    """
    given = [word for word in words if not word.startswith("-")]
    return f"{GIVEN}{shlex.join(given)}\n{OmegaConf.to_yaml(node)}"


def _complain(message: str, code: int) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code


def to_typed(node: DictConfig) -> schema.StudyConfig:
    """The configuration as dataclasses, every interpolation resolved.

    Raises:
        ConfigError: a value that must be given is missing.
    """
    missing = OmegaConf.missing_keys(node)
    if missing:
        raise ConfigError(f"{sorted(missing)[0]} is not set: give it, e.g. {sorted(missing)[0]}=...")
    typed = OmegaConf.to_object(node)
    assert isinstance(typed, schema.StudyConfig)
    return typed


def explain(error: Exception) -> str:
    """One line for an error of Hydra or OmegaConf, naming the closest valid key or choice."""
    text = " ".join(str(part) for part in (error, error.__cause__) if part)
    unknown_key = re.search(r"Key '([^']+)' (?:is not in struct|not in '(\w+)')", text)
    if unknown_key:
        return _explain_key(error, text, unknown_key.group(1))
    unknown_group = re.search(r"Could not override '([^']+)'", text)
    if unknown_group:
        name = unknown_group.group(1)
        return f"no such key or group {name!r}; {closest(name, [*_fields(), *_groups()])}"
    unknown_choice = re.search(r"Could not (?:find|load) '([^'/]+)/([^']+)'", text)
    if unknown_choice:
        group, choice = unknown_choice.groups()
        return f"{group} has no choice {choice!r}; {closest(choice, [p.stem for p in (CONF / group).glob('*.yaml')])}"
    return text


def _explain_key(error: Exception, text: str, key: str) -> str:
    full = re.search(r"full_key: (\S+)", text)
    parent = getattr(error.__cause__ or error, "parent_node", None)
    valid = [str(k) for k in parent] if isinstance(parent, DictConfig) else _fields()
    return f"unknown key {full.group(1) if full else key!r} in the configuration; {closest(key, valid)}"


def _fields() -> list[str]:
    return [f.name for f in dataclasses.fields(schema.StudyConfig)]


def _groups() -> list[str]:
    return [p.name for p in CONF.iterdir() if p.is_dir()]
