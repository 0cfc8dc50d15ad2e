"""Prompts and references are what the user wrote, whatever they look like."""

from __future__ import annotations

import csv
import io
import json
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimize.errors import ConfigError
from tests.fuzz import tried
from tests.optimize.workload.files import jsonl, load, pairs, written

LOOKALIKES = ["5", "NA", "N/A", "None", "null", "nan", "True", "false", "2024-05-01", "1e3", "007", "-0", "", "1,5"]
"""Texts that readers which guess types take for something else."""


def _csv(rows: list[tuple[str, str]], separator: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows([("prompt", "reference"), *rows])
    return text.getvalue()


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_an_answer_that_looks_like_a_number_a_date_or_nothing_stays_the_text_it_is(kind: str, tmp_path: Path) -> None:
    rows = [(f"Question {number}?", text) for number, text in enumerate(LOOKALIKES)]
    objects = [{"prompt": prompt, "reference": reference} for prompt, reference in rows]
    path = tmp_path / f"mine.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(objects), path)
    elif kind in ("csv", "tsv"):
        path.write_text(_csv(rows, "\t" if kind == "tsv" else ","), newline="")
    else:
        path.write_text(json.dumps(objects) if kind == "json" else "\n".join(map(json.dumps, objects)))
    assert pairs(load(path)) == rows


def test_a_number_true_or_false_in_json_is_an_answer_as_the_file_has_it(tmp_path: Path) -> None:
    values = ["5", "5.0", "1.10", "1e3", "true", "false", "-0.5", "12345678901234567890"]
    lines = [f'{{"question": "Which?", "answer": {value}}}' for value in values]
    assert list(load(written(tmp_path, "mine.jsonl", "\n".join(lines))).references) == values
    assert list(load(written(tmp_path, "mine.json", f"[{','.join(lines)}]")).references) == values


@pytest.mark.parametrize("value", [None, {"a": 1}, ["a", "b"]])
def test_an_answer_that_is_no_text_is_named_with_its_line_and_shown(value: Any, tmp_path: Path) -> None:
    path = jsonl(tmp_path, [{"prompt": "a", "reference": "b"}, {"prompt": "c", "reference": value}])
    with pytest.raises(ConfigError, match=r"mine\.jsonl, line 2: reference must be text, got ") as refusal:
        load(path)
    assert repr(value) in str(refusal.value) and "workload.reference_column=null" in str(refusal.value)


def test_a_date_of_parquet_is_named_with_its_row(tmp_path: Path) -> None:
    rows = [{"prompt": "When?", "reference": date(2024, 5, 1)}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "mine.parquet")
    with pytest.raises(ConfigError, match=r"mine\.parquet, row 1: reference must be text, got datetime\.date"):
        load(tmp_path / "mine.parquet")


def test_answers_that_are_all_empty_are_none(tmp_path: Path) -> None:
    workload = load(written(tmp_path, "mine.csv", "prompt,reference\nHello,\nBye,\n"))
    assert list(workload.references) == [] and "answers are all empty" in workload.notes[0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_table_is_read_as_any_program_saves_it(encoding: str, separator: str, end: str, tmp_path: Path) -> None:
    rows = [("Zeile eins", 'größer; als, "zwei"'), ("x\ny", "Tab\there | 日本")]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("prompt", "reference"), *rows])
    assert pairs(load(written(tmp_path, "mine.csv", text.getvalue().encode(encoding)))) == rows


def test_excel_names_the_separator_in_a_line_of_its_own(tmp_path: Path) -> None:
    path = written(tmp_path, "mine.csv", "sep=;\r\nprompt;reference\r\na, b;c\r\n")
    assert pairs(load(path)) == [("a, b", "c")]


def test_empty_columns_and_lines_at_the_edge_of_a_sheet_do_not_matter(tmp_path: Path) -> None:
    assert pairs(load(written(tmp_path, "mine.csv", "prompt, reference,,\na,b,,\n\n"))) == [("a", "b")]


def test_a_table_in_another_encoding_is_refused_with_the_line_and_read_with_its_name(tmp_path: Path) -> None:
    path = written(tmp_path, "mine.csv", "prompt,reference\na,b\nHow?,schön\n".encode("cp1252"))
    with pytest.raises(ConfigError, match=r"line 3 is not UTF-8.*schön.*workload\.encoding=cp1252"):
        load(path)
    assert pairs(load(path, encoding="cp1252"))[1] == ("How?", "schön")
    with pytest.raises(ConfigError, match=r"workload\.encoding=klingon is none that Python has"):
        load(path, encoding="klingon")


def test_the_texts_of_a_single_column_may_hold_any_separator(tmp_path: Path) -> None:
    path = written(tmp_path, "mine.csv", 'prompt\nHow far, please?\n"One; ""two"""\na | b\n')
    assert list(load(path).prompts) == ["How far, please?", 'One; "two"', "a | b"]


def test_a_text_of_a_megabyte_fits_into_a_cell(tmp_path: Path) -> None:
    text = "word " * 200_000
    assert load(written(tmp_path, "mine.csv", f"prompt,reference\n{text},b\n")).prompts == [text]


def test_columns_that_are_not_used_may_hold_anything(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "prompt": "a", "reference": "x"},
        {"id": "2b", "meta": [{"k": 1}], "prompt": "b", "reference": "y"},
    ]
    assert pairs(load(jsonl(tmp_path, rows))) == [("a", "x"), ("b", "y")]


def test_half_a_character_is_sent_as_the_sign_for_it_and_said(tmp_path: Path) -> None:
    workload = load(written(tmp_path, "mine.jsonl", '{"prompt": "hi \\ud83d there \\ud83d\\ude00", "reference": "x"}'))
    assert list(workload.prompts) == ["hi \ufffd there 😀"] and "1 with U+FFFD" in workload.notes[0]
    assert workload.hash


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30)
ROWS = st.lists(st.tuples(TEXTS.filter(str.strip), TEXTS), min_size=1, max_size=6)


@tried(25)
@given(rows=ROWS, separator=st.sampled_from([",", ";", "\t", "|"]))
def test_any_text_comes_out_of_a_table_as_it_went_in(
    rows: list[tuple[str, str]], separator: str, tmp_path: Path
) -> None:
    assert pairs(load(written(tmp_path, "mine.csv", _csv(rows, separator)))) == rows


@tried(25)
@given(rows=ROWS, ascii_only=st.booleans(), by_line=st.booleans())
def test_any_text_comes_out_of_json_as_it_went_in(
    rows: list[tuple[str, str]], ascii_only: bool, by_line: bool, tmp_path: Path
) -> None:
    objects = [json.dumps({"prompt": p, "reference": r}, ensure_ascii=ascii_only) for p, r in rows]
    text = "\n".join(objects) if by_line else f"[{', '.join(objects)}]"
    assert pairs(load(written(tmp_path, "mine.jsonl" if by_line else "mine.json", text))) == rows
