"""Composing the configuration from `conf/` and the command line with Hydra, and typing it."""

from __future__ import annotations

import dataclasses
import gc
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import get_type_hints

import hydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from optimize.config import schema
from optimize.config.locations import CONF, refuse_ambiguous, split_config_dirs, user_folders, with_installed_files
from optimize.config.overrides import explanation, in_grammar, nearest
from optimize.config.parts import with_parts
from optimize.config.registry import register
from optimize.config.renames import REMOVED, SETTINGS
from optimize.config.repetition import refuse_repeated_choices
from optimize.config.secrets import register_node, register_words
from optimize.config.specialization import specialized
from optimize.config.structured import with_texts
from optimize.config.validate import validate
from optimize.config.variables import with_variables
from optimize.errors import ConfigError, closest

_SEARCH_PATH = "hydra.searchpath"
_REMEDIES = (
    (
        r"Could not (?:override|delete) '(\w+@((?:metrics|recipes|instances)[^']*))'",
        r"\1 is no choice: +\1=FILE adds an entry, \2.KEY=VALUE changes one, ~\2 removes it",
    ),
    (
        r"Ambiguous value for argument '([^=]+)=(.*)'\n",
        r"""\1=\2 gives several values: write '\1=[\2]' for a list, or '\1="\2"' for a text with commas""",
    ),
    (r"Multiple values for ([^.]+)\. To override", r"\1 is given twice: give it once"),
    (
        r"Error merging override \+{0,2}(\S+?)=(\S+) Cannot merge DictConfig with ListConfig",
        r"\1 has fields, and \2 is a list: put '~\1' before '+\1=\2'",
    ),
    (
        r"Error merging override \+{0,2}(\S+?)=(.*?)\s+Invalid value assigned: \w+ is not a ListConfig",
        r"\1 must be a list: write '\1=[\2]'",
    ),
    (
        r"In '([^']+)': ConfigTypeError raised while composing config:\s+Cannot merge DictConfig with ListConfig",
        r"\1.yaml has a list, not a mapping; its defaults choose objectives: - override /objectives: [qps, bleu]",
    ),
)
"""What Hydra says of words that it can read, and what to say in its place."""
_MISFIT = r"Value '(.*)' (?:of type '\w+' could not be converted to|is not a valid) (\w+)[^:]*full_key: (\S+)"
_KINDS = {"Integer": "a whole number", "Float": "a number", "bool": "true or false"}
_UNITS = {"_per_s": " per second", "_s": " of seconds", "minutes": " of minutes", "days": " of days", "_gib": " of GiB"}
"""Ends of keys and the unit of their values, for whoever writes 1h or 200ms."""
_OWN_ERRORS = (HydraException, OmegaConfBaseException)
_STUMBLES = (AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError)
"""What Hydra lets through beside errors of its own, e.g. ValueError where a word is the index of a list."""


def composed(words: Sequence[str]) -> DictConfig:
    """The configuration of a command line: its overrides and `--config-dir`.

    Hydra's own command line takes twice as long: it composes first to see whether it is to run once or many times.
    Its secrets are registered here (`optimize.redaction`), before anything else is done with it.

    Raises:
        ConfigError: a folder that does not exist, a choice of which two files exist, or words that make no sense.
    """
    register()
    register_words(words)
    path = _with_search_path(words)
    with _without_collection(), _understood(), hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        node = hydra.compose("config", path)
    register_node(node)
    return node


@contextmanager
def _without_collection() -> Iterator[None]:
    """Composing makes a million objects, hardly any of them garbage: to look for it takes a seventh of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _understood() -> Iterator[None]:
    """Turn what Hydra stumbles over into an error of ours; its own errors are left to `explain`."""
    try:
        yield
    except _OWN_ERRORS:
        raise
    except _STUMBLES as error:
        raise ConfigError(f"these overrides make no configuration: {error}; see docs/configuration.md") from error


def from_hydra(words: Sequence[str]) -> DictConfig | None:
    """The configuration by Hydra's own command line; None where that only answered a question (--help, --cfg).

    Raises:
        ConfigError: as `composed`; an option that Hydra does not have.
    """
    register()
    nodes: list[DictConfig] = []

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def compose(node: DictConfig) -> None:
        nodes.append(node)

    sys.argv[1:] = _with_search_path(words)
    usage = StringIO()
    try:
        with _understood(), redirect_stderr(usage):
            compose()
    except SystemExit as end:
        if end.code:
            raise ConfigError(_of_no_option(usage.getvalue().rpartition("error: ")[2].strip())) from end
        raise
    print(usage.getvalue(), end="", file=sys.stderr)
    return nodes[0] if nodes else None


def _of_no_option(message: str) -> str:
    """What Hydra's own command line says of an option that it does not have, which may be one of vLLM's."""
    option = re.search(r"unrecognized arguments: --([a-z][\w-]+)(=\S+)?", message)
    if option is None:
        return f"{message}; --help lists the options"
    name, value = option[1].replace("-", "_"), option[2]
    if keys := [f"{key}{value or '=...'}" for key in _keys_named(name)]:
        return f"{message}; a setting is written without dashes: {' or '.join(keys)}"
    return f"{message}; a flag of vLLM is written +engine.flags.{name}{value or '=true'}"


def _keys_named(name: str) -> list[str]:
    """Settings of this name, at the top of the configuration or else within its parts; the group study has a plus."""
    kinds = get_type_hints(schema.StudyConfig)
    if name == "study":
        return ["+study"]
    if name in kinds:
        return [name]
    return [f"{part}.{name}" for part, kind in kinds.items() if name in getattr(kind, "__dataclass_fields__", ())]


def _with_search_path(words: Sequence[str]) -> list[str]:
    """The words in Hydra's grammar, with the user's folders as an override, which both of Hydra's ways to compose
    understand; the study is the one that fits the model (`optimize.config.specialization`).
    """
    config_dirs, others = split_config_dirs(words)
    others = [in_grammar(word) for word in others]
    folders = user_folders(config_dirs)
    refuse_ambiguous(others, folders)
    others = specialized(others, [CONF, *folders])
    refuse_repeated_choices(others, [CONF, *folders])
    if not folders or any(word.startswith(_SEARCH_PATH) for word in others):
        return others
    sources = ",".join("'file://" + str(folder).replace("'", "\\'") + "'" for folder in folders)
    # Beside the other overrides: Hydra's parser takes only those that stand together.
    at = next((i for i, word in enumerate(others) if "=" in word and not word.startswith("-")), len(others))
    return [*others[:at], f"{_SEARCH_PATH}=[{sources}]", *others[at:]]


def to_typed(node: DictConfig) -> schema.StudyConfig:
    """The configuration as dataclasses: every interpolation resolved, the demo's files found wherever it is installed.

    Raises:
        ConfigError: a key that the schema does not have, or a value that must be given and is missing.
    """
    _refuse_unknown(node)
    if missing := OmegaConf.missing_keys(node):
        raise ConfigError(f"{sorted(missing)[0]} is not set: give it, e.g. {sorted(missing)[0]}=...")
    with _understood():
        typed = OmegaConf.to_object(node)
    assert isinstance(typed, schema.StudyConfig)
    return with_texts(with_parts(with_variables(with_installed_files(typed))))


def _refuse_unknown(node: DictConfig, prefix: str = "") -> None:
    """Refuse keys that a `+` has added where the schema has none: nobody would read them."""
    kind = OmegaConf.get_type(node)
    fields = [f.name for f in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else None
    for key in node:
        if fields is not None and key not in fields:
            name = f"{prefix}{key!s}"
            unknown = f"unknown key {name!r} in the configuration; {closest(str(key), fields)}"
            raise ConfigError(f"{name} no longer exists; {REMOVED[name]}" if name in REMOVED else unknown)
        if not OmegaConf.is_missing(node, key) and isinstance(item := node._get_node(key), DictConfig):
            _refuse_unknown(item, f"{prefix}{key!s}.")


def explain(error: Exception, words: Sequence[str] = (), group: str = "study") -> str:
    """One line for an error of Hydra, OmegaConf or YAML, naming the closest valid key or choice.

    Args:
        error: The error.
        words: The command line that led to it.
        group: The group that a word without a key is most likely a choice of.
    """
    folders = [CONF, *user_folders(split_config_dirs(words)[0])]
    if isinstance(error, YAMLError):
        return f"a configuration file is not valid YAML: {error}"
    if isinstance(error, OverrideParseException):
        return explanation(error, words, group, _choices(group, folders))
    text = " ".join(str(part) for part in (error, error.__cause__) if part)
    for pattern, remedy in _REMEDIES:
        if match := re.search(pattern, text):
            return match.expand(remedy)
    if misfit := re.search(_MISFIT, text):
        return _explain_misfit(*misfit.groups())
    unknown_key = re.search(r"Key '([^']+)' (?:is not in struct|not in '(\w+)')", text)
    if unknown_key:
        return _explain_key(error, text, unknown_key.group(1))
    unknown_group = re.search(r"Could not override '([^']+)'", text)
    if unknown_group:
        name = unknown_group.group(1)
        if word := next((w for w in words if w.startswith("study=")), "") if name == "study" else "":
            return f"{word} needs a plus, because no study is chosen without it: +{word}"
        return f"no such key or group {name!r}; {closest(name, [*_fields(), *_groups(folders)])}"
    unknown_choice = re.search(r"Could not (?:find|load) '([^'/]+)/([^']+)'", text)
    if unknown_choice:
        group, choice = unknown_choice.groups()
        return f"{group} has no choice {choice!r}; {nearest(choice, _choices(group, folders))}"
    return text


def _explain_misfit(value: str, kind: str, key: str) -> str:
    """A value that cannot be one of its key's type."""
    unit = next((unit for end, unit in _UNITS.items() if key.endswith(end)), "")
    return f"{key} must be {_KINDS.get(kind, kind)}{unit if kind == 'Float' else ''}, got {value!r}"


def _explain_key(error: Exception, text: str, key: str) -> str:
    full = re.search(r"full_key: (\S+)", text)
    path = full.group(1) if full else key
    if path == f"{key}.{key}":
        return f"unknown key {path!r} in the configuration; a YAML file that sets {key} begins with # @package _global_"
    if path in SETTINGS:
        return f"unknown key {path!r} in the configuration; it is {SETTINGS[path]}"
    if path in REMOVED:
        return f"{path} no longer exists; {REMOVED[path]}"
    if path == key and (keys := _keys_named(key)):
        return f"unknown key {path!r} in the configuration; did you mean {' or '.join(keys)}?"
    parent = getattr(error.__cause__ or error, "parent_node", None)
    valid = [str(k) for k in parent] if isinstance(parent, DictConfig) else _fields()
    hint = closest(key, valid)
    if isinstance(parent, DictConfig) and OmegaConf.get_type(parent) is dict and hint.startswith("valid"):
        hint = f"{_built(path, parent)}a key of your own begins with '+': +{path}=..."
    return f"unknown key {path!r} in the configuration; {hint}"


def _built(path: str, parent: DictConfig) -> str:
    """What a key stands in, where that is an object with settings of its own, such as arrivals of another kind."""
    target = str(parent.get("_target_", "")).rpartition(".")[2]
    where = path.rpartition(".")[0]
    return f"{where} is {target}, and another choice of its group has other settings; " if target else ""


def _fields() -> list[str]:
    return [f.name for f in dataclasses.fields(schema.StudyConfig)]


def _groups(folders: Sequence[Path]) -> set[str]:
    return {path.name for folder in folders for path in folder.iterdir() if path.is_dir()}


def _choices(group: str, folders: Sequence[Path]) -> set[str]:
    return {path.stem for folder in folders for path in (folder / group).glob("*.yaml")}


def default_study(config: schema.StudyConfig, words: Sequence[str]) -> str:
    """A line on the study that runs because these words choose none, and how to choose one; empty where they do."""
    if any(re.match(r"\+{1,2}study[@=]", word) for word in words):
        return ""
    names = ", ".join(sorted(_choices("study", [CONF, *user_folders(split_config_dirs(words)[0])])))
    return (
        f"no +study=NAME is given: this is study {config.study.name!r}, {config.study.trials} trials and the baseline; "
        f"+study=NAME chooses one of {names}, and --help says more"
    )


def configuration(overrides: Sequence[str]) -> schema.StudyConfig:
    """The valid configuration that `python -m optimize` would have with these overrides.

    Raises:
        ConfigError: a value that is missing or out of bounds, or values that contradict each other.
    """
    validate(config := to_typed(composed(overrides)))
    return config
