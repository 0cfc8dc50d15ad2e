"""Which files a path names, and what packs and shapes them."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from optimize.config.measuring import WorkloadSource
from optimize.errors import ConfigError
from optimize.workload import json_rows
from optimize.workload.reading import read
from tests.optimize.workload.files import jsonl, load, pairs, written

ROWS = [{"prompt": "a b", "reference": "x"}, {"prompt": "c d", "reference": "y"}]
PAIRS = [("a b", "x"), ("c d", "y")]
LINES = "".join(f"{json.dumps(row)}\n" for row in ROWS)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress,
    ".zst": lambda content: bytes(pa.compress(content, codec="zstd", asbytes=True)),
}  # fmt: skip


@pytest.mark.parametrize(
    "name", ["prompts[1].jsonl", "my prompts (2).jsonl", "a*b?.jsonl", "{x}, y.jsonl", "größe.JSONL"]
)
def test_a_file_that_exists_is_taken_as_it_is_called(name: str, tmp_path: Path) -> None:
    assert pairs(load(jsonl(tmp_path, ROWS, name))) == PAIRS


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_a_packed_file_is_unpacked_on_the_way(suffix: str, kind: str, tmp_path: Path) -> None:
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), table)
    contents = {
        "jsonl": LINES.encode(), "json": json.dumps(ROWS).encode(), "csv": b"prompt,reference\na b,x\nc d,y\n",
        "parquet": table.getvalue(),
    }  # fmt: skip
    assert pairs(load(written(tmp_path, f"mine.{kind}{suffix}", PACKERS[suffix](contents[kind])))) == PAIRS


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_parts_that_were_packed_one_after_the_other_are_all_read(suffix: str, tmp_path: Path) -> None:
    first, second = (f"{json.dumps(row)}\n".encode() for row in ROWS)
    assert (
        pairs(load(written(tmp_path, f"mine.jsonl{suffix}", PACKERS[suffix](first) + PACKERS[suffix](second)))) == PAIRS
    )


def test_a_packed_file_that_is_cut_is_refused_in_one_line(tmp_path: Path) -> None:
    for suffix, pack in PACKERS.items():
        path = written(tmp_path, f"mine.jsonl{suffix}", pack(LINES.encode() * 50)[:-12])
        with pytest.raises(ConfigError, match=rf"workload\.path={re.escape(str(path))} cannot be read"):
            load(path)


def test_a_folder_a_pattern_and_a_list_name_several_files(tmp_path: Path) -> None:
    parts = [jsonl(tmp_path / "logs", [row], f"part-{number}.jsonl") for number, row in enumerate(ROWS)]
    written(tmp_path / "logs", "README.txt", "what this is")
    written(tmp_path / "logs", ".hidden.jsonl", "no rows")
    for path in (tmp_path / "logs", tmp_path / "logs/part-*.jsonl", list(map(str, parts))):
        assert pairs(load(path)) == PAIRS
    assert pairs(load([str(part) for part in reversed(parts)])) == PAIRS[::-1]


def test_a_folder_of_several_kinds_of_files_is_refused_with_the_remedy(tmp_path: Path) -> None:
    jsonl(tmp_path, ROWS)
    written(tmp_path, "other.csv", "prompt,reference\na,b\n")
    with pytest.raises(ConfigError, match=r"holds \.csv and \.jsonl files: name those you mean.*\*\.csv"):
        load(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no file of rows"):
        load(tmp_path / "empty")


def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(tmp_path: Path) -> None:
    jsonl(tmp_path, ROWS, "prompts.jsonl")
    with pytest.raises(ConfigError, match=r"promts\.jsonl does not exist: did you mean '.*/prompts\.jsonl'"):
        load(tmp_path / "promts.jsonl")
    for path in ("nowhere/*.jsonl", "./nowhere", "nowhere.csv.gz", ["also/missing", "nowhere/x"]):
        with pytest.raises(ConfigError, match="does not exist"):
            load(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mine.jsonl", json.dumps(ROWS)),
        ("mine.json", LINES),
        ("mine.json", json.dumps(ROWS, indent=2)),
        ("mine.json", json.dumps({"version": 1, "data": ROWS}, indent=1)),
        ("mine.json", json.dumps({"prompt": ["a b", "c d"], "reference": ["x", "y"]})),
        ("mine.json", json.dumps({"prompt": {"0": "a b", "1": "c d"}, "reference": {"0": "x", "1": "y"}})),
        ("mine.jsonl", "\n\n" + LINES.replace("\n", "\r\n\r\n")),
        ("mine.jsonl", "\ufeff" + LINES),
        ("mine.ndjson", LINES.strip()),
        ("download", LINES),
    ],
)
def test_json_is_read_in_every_shape_that_rows_have(name: str, text: str, tmp_path: Path) -> None:
    assert pairs(load(written(tmp_path, name, text))) == PAIRS


def test_one_object_is_one_row(tmp_path: Path) -> None:
    assert pairs(load(written(tmp_path, "mine.json", json.dumps(ROWS[0], indent=2)))) == PAIRS[:1]
    chat = {"id": 1, "conversations": [{"from": "human", "value": "a b"}, {"from": "gpt", "value": "x"}]}
    assert list(load(written(tmp_path, "mine.json", json.dumps(chat))).references) == ["x"]


def test_a_text_file_and_an_array_of_texts_hold_prompts(tmp_path: Path) -> None:
    for name, text in (("mine.txt", "the dog\n\nthe cat\r\n"), ("mine.json", '["the dog", "the cat"]')):
        assert list(load(written(tmp_path, name, text)).prompts) == ["the dog", "the cat"]


def test_an_array_is_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"prompt": f"“{number}” {'long ' * number}", "reference": f"\\{number}\u2028"} for number in range(60)]
    expected = [(row["prompt"], row["reference"]) for row in rows]
    for size in (1, 7, 64):
        monkeypatch.setattr(json_rows, "_CHUNK", size)
        assert pairs(load(written(tmp_path, "mine.json", json.dumps(rows, indent=1)))) == expected


def test_a_mistake_in_an_array_ends_the_reading_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "_CHUNK", 256)
    stream = io.StringIO('[{"prompt": "a b"}, {"prompt" "c d"}, ' + '{"prompt": "e f"}, ' * 5000)
    with pytest.raises(ConfigError, match=r"mine\.json: row 2 is not valid JSON \(Expecting ':' delimiter\)"):
        list(json_rows.json_rows(stream, "mine.json", by_line=False))
    assert stream.tell() < 1000


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.json", "mine.csv"])
def test_no_more_is_read_than_the_limit_needs(name: str, tmp_path: Path) -> None:
    """What comes after it is broken, and nobody notices."""
    good = {"mine.jsonl": LINES * 30, "mine.json": f"[{', '.join(map(json.dumps, ROWS * 30))}"}
    text = good.get(name, "prompt,reference\n" + "a b,x\nc d,y\n" * 30)
    path = written(tmp_path, name, text + "\n, broken" * 5)
    assert len(read(WorkloadSource("file", str(path), limit=10), tmp_path).examples) == 10
    with pytest.raises(ConfigError):
        load(path)
