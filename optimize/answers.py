"""`python -m optimize.answers +study=chat`: what vLLM's defaults and a row answered to the same prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optimize.cli import run_verb
from optimize.config.schema import StudyConfig
from optimize.errors import ConfigError
from optimize.formatting import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optimize.workload.workload import Prompt

_PROMPTS, _LETTERS = 5, 200


def side_by_side(prompts: Sequence[Prompt], defaults: Mapping[int, str], row: Mapping[int, str], title: str) -> str:
    """Some prompts that both answered, with both answers, as Markdown: first those with other words.

    Args:
        prompts: The workload's prompts.
        defaults: Workload row -> answer of vLLM's defaults.
        row: Workload row -> answer of the configuration that they are compared with.
        title: Its name.
    """
    common = sorted(set(defaults) & set(row))
    same = [number for number in common if defaults[number] == row[number]]
    other = [number for number in common if defaults[number] != row[number]]
    lines = [
        f"{title} and vLLM's defaults answered {len(common)} prompts, {len(same)} of them in the same words. "
        f"{'The first with other words' if other else 'The first'}:"
    ]
    for number in [*other, *same][:_PROMPTS]:
        answer, default = _line(row[number]), _line(defaults[number])
        lines += ["", f"**{_line(_question(prompts[number]))}**", ""]
        lines += [f"- both: {answer}"] if answer == default else [f"- defaults: {default}", f"- {title}: {answer}"]
    return "\n".join(lines)


def _question(prompt: Prompt) -> str:
    text = prompt if isinstance(prompt, str) else str(prompt[-1]["content"])
    return text if len(text) <= _LETTERS else f"{text[:_LETTERS].rstrip()} …"


def _line(text: str) -> str:
    return printable(" ".join(text.split())) or "(nothing)"


def _answers(config: StudyConfig, config_yaml: str) -> int:
    from optimize.evaluation.answers import Answers
    from optimize.files import write_files
    from optimize.ledger import Ledger
    from optimize.plan import make_plan
    from optimize.study.rows import requested_row

    plan = make_plan(config)
    row = requested_row(plan.config)
    measured, here = row.row.signature["workload"], plan.signature["workload"]
    if measured != here:
        raise ConfigError(
            f"study {config.study.name!r} was measured with workload {measured}, and this is {here}: give the "
            "overrides of the study's own command"
        )
    ledger = Ledger(plan.folder)
    keys = {record.number: record.answers_key for record in ledger.records()}
    answers, number = Answers(ledger), row.candidate.number
    defaults = answers.of(answers.baseline or "")
    if not defaults:
        raise ConfigError(
            f"study {config.study.name!r} holds no answers of vLLM's defaults: an archive has them only where it was "
            "written with export.prompts=true"
        )
    text = side_by_side(plan.workload.prompts, defaults, answers.of(keys.get(number, "")), f"trial {number}")
    paths = write_files({"answers.md": text}, plan.folder / "report")
    print(f"{text}\n\nwritten: {paths[0]}")
    return 0


def main() -> None:
    run_verb(_answers)


if __name__ == "__main__":
    main()
