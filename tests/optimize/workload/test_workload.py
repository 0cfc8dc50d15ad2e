"""Prompts and references from files, checked and bounded."""

import json
import socket
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from optimize.cache.store import entries
from optimize.config.measuring import WorkloadSource
from optimize.errors import ConfigError
from optimize.workload.workload import Workload, load_workload
from tests.optimize.workload.files import CHAT, ROWS, jsonl, word_model, written


def _jsonl_in_utf8(folder: Path) -> Path:
    return written(folder, "work.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS))


def _csv(folder: Path) -> Path:
    path = folder / "work.csv"
    lines = ["prompt,reference", *(f"{row['prompt']},{row['reference']}" for row in ROWS)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _parquet(folder: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "work.parquet")
    return folder / "work.parquet"


def _load(path: Path, folder: Path, max_tokens: int | None = 40, model: str = "no/model", **more: Any) -> Workload:
    return load_workload(WorkloadSource("mine", str(path), max_tokens=max_tokens, **more), model, folder / "cache")


@pytest.mark.parametrize("write", [_jsonl_in_utf8, _csv, _parquet])
def test_formats_give_the_same_workload(write: Any, tmp_path: Path) -> None:
    workload = _load(write(tmp_path), tmp_path)
    assert list(workload.prompts) == [row["prompt"] for row in ROWS]
    assert list(workload.references) == [row["reference"] for row in ROWS]
    assert (workload.name, workload.max_tokens) == ("mine", 40)


def test_prompts_may_be_chat_messages(tmp_path: Path) -> None:
    workload = _load(jsonl(tmp_path, [{"prompt": CHAT, "reference": "der Hund"}]), tmp_path)
    assert list(workload.prompts) == [CHAT]


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    path = jsonl(tmp_path, [{"english": "the dog", "german": "der Hund", "id": 1}])
    workload = _load(path, tmp_path, prompt_column="english", reference_column="german")
    assert (list(workload.prompts), list(workload.references)) == (["the dog"], ["der Hund"])


@pytest.mark.parametrize(("limit", "rows"), [(1, 1), (2, 2), (99, 3), (None, 3)])
def test_limit_takes_the_first_rows(limit: int | None, rows: int, tmp_path: Path) -> None:
    workload = _load(jsonl(tmp_path, ROWS), tmp_path, limit=limit)
    assert list(workload.prompts) == [row["prompt"] for row in ROWS[:rows]]


def _lengths(kind: str, **more: int) -> dict[str, Any]:
    return {"_target_": f"optimize.workload.lengths.{kind}", **more}


def test_prompts_are_cut_or_continued_to_their_length(tmp_path: Path) -> None:
    fixed = {"prompt_tokens": _lengths("Fixed", tokens=4), "output_tokens": _lengths("Fixed", tokens=9)}
    workload = _load(jsonl(tmp_path, ROWS), tmp_path, None, word_model(tmp_path), **fixed)
    assert list(workload.prompts) == ["the old man the", "the dog the old", "the old red house"]
    assert workload.output_tokens == [9, 9, 9]
    assert (list(workload.references), workload.max_tokens, workload.in_order) == ([], 9, False)


def test_lengths_are_drawn_by_the_seed(tmp_path: Path) -> None:
    path, model = jsonl(tmp_path, ROWS * 20), word_model(tmp_path)
    source = WorkloadSource("mine", str(path), output_tokens=_lengths("Uniform", low=1, high=99))
    lengths = [load_workload(source, model, tmp_path / "cache", seed).output_tokens for seed in (0, 0, 1)]
    assert lengths[0] == lengths[1] != lengths[2]
    assert len({w.hash for w in (load_workload(source, model, tmp_path / "cache", s) for s in (0, 1))}) == 2


def test_prompts_alone_are_bounded_by_a_round_number_unless_their_lengths_are_set(tmp_path: Path) -> None:
    path = jsonl(tmp_path, [{"prompt": "the dog"}])
    for workload in (_load(path, tmp_path, None), _load(path, tmp_path, None, reference_column=None)):
        assert (list(workload.references), workload.max_tokens) == ([], 128)
    (note,) = _load(path, tmp_path, 5).notes
    assert "has no column 'reference'" in note and "at most 5 tokens" in note
    assert not _load(path, tmp_path, 5, reference_column=None).notes
    with pytest.raises(ConfigError, match=r"set workload\.max_tokens"):
        _load(jsonl(tmp_path, ROWS), tmp_path, None, word_model(tmp_path), prompt_tokens=_lengths("Fixed"))


def test_chat_messages_cannot_be_cut(tmp_path: Path) -> None:
    path = jsonl(tmp_path, [{"prompt": CHAT, "reference": "der Hund"}])
    with pytest.raises(ConfigError, match="chat messages cannot be cut"):
        _load(path, tmp_path, model=word_model(tmp_path), prompt_tokens=_lengths("Fixed"))


def test_answers_are_bounded_by_the_longest_reference_and_a_quarter(tmp_path: Path) -> None:
    # "das alte rote Haus schläft" has 5 tokens; 5 x 1.25 = 6.25.
    assert _load(jsonl(tmp_path, ROWS), tmp_path, None, word_model(tmp_path)).max_tokens == 7


def test_a_model_without_tokenizer_needs_a_bound(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"set workload\.max_tokens"):
        _load(jsonl(tmp_path, ROWS), tmp_path, None, str(tmp_path))


def test_the_hash_depends_on_the_content_and_not_on_the_name() -> None:
    work = Workload("a", ["p", CHAT], ["r", "s"], 10)
    assert work.hash == Workload("b", ["p", CHAT], ["r", "s"], 10).hash
    others = [
        Workload("a", ["q", CHAT], ["r", "s"], 10),
        Workload("a", ["p", CHAT], ["r", "t"], 10),
        Workload("a", [CHAT, "p"], ["s", "r"], 10),
        Workload("a", ["p", CHAT], ["r", "s"], 11),
    ]
    assert len({work.hash, *(other.hash for other in others)}) == 5
    assert len(work.hash) == 12


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("work.jsonl", "", "is empty"),
        ("work.jsonl", "\n\n", "is empty"),
        ("work.doc", "the dog", r"must end in \.jsonl"),
        ("work.jsonl", '{"prompt": "a", "reference": "b"}\n{"prompt": \n', "line 2 is not a JSON object"),
        ("work.jsonl", "3\n", "line 1 is not a JSON object: '3'"),
        ("work.jsonl", '["a"]\n["b"]\n', r"goes on after its array: '\[\"b\"\]'"),
        ("work.json", '[{"prompt": "a b"}, {"prompt": ]', "row 2 is not valid JSON.*prompt"),
        ("work.json", '{"prompt": ', "is not valid JSON"),
        ("work.jsonl", '{"prompt": "a", "refrence": "b"}\n', "reference_column='reference'.*did you mean 'refrence'"),
        ("work.jsonl", '{"reference": "b"}\n', "prompt_column='prompt' is not a column"),
        (
            "work.jsonl",
            '{"prompt": 3, "reference": "b"}\n',
            "line 1: prompt must be text or a list of messages",
        ),
        ("work.jsonl", '{"prompt": "", "reference": "b"}\n', "line 1: prompt must be text"),
        ("work.jsonl", '{"prompt": [], "reference": "b"}\n', "line 1: prompt must be text"),
        ("work.jsonl", '{"prompt": [{"text": "a"}], "reference": "b"}\n', "messages with role and content"),
        ("work.jsonl", '{"prompt": "a", "reference": null}\n', "line 1: reference must be text, got None"),
        ("work.csv", "prompt,reference\n", "is empty or has no rows"),
        ("work.csv", "prompt,reference\na,b\nc\n", "line 3 has 1 cells and the header 2: 'c' is the last"),
        ("work.csv", 'prompt,reference\n"a" said he,b\n', "line 2: quotes do not match"),
        ("work.csv", "prompt,prompt\na,b\n", "has the column 'prompt' twice"),
        ("work.parquet", "no parquet", r"workload\.path=.*cannot be read"),
    ],
)
def test_bad_files_are_refused_with_the_place_of_the_error(
    name: str, text: str, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        _load(tmp_path / name, tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.jsonl does not exist"):
        _load(tmp_path / "nowhere.jsonl", tmp_path)


def test_no_rows_left_by_the_limit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no rows"):
        _load(jsonl(tmp_path, ROWS), tmp_path, limit=0)


def test_a_file_is_read_without_a_request_to_anybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    contacted: list[object] = []

    def refuse(*arguments: object, **_: object) -> None:
        contacted.append(arguments)
        raise OSError("no network")

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", True)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    for path in (jsonl(tmp_path, ROWS), _csv(tmp_path), _parquet(tmp_path)):
        assert len(_load(path, tmp_path).prompts) == 3
    assert contacted == []


def test_counts_are_entries_of_the_cache_and_held(tmp_path: Path) -> None:
    _load(jsonl(tmp_path, ROWS), tmp_path, max_tokens=None, model=word_model(tmp_path))
    listed = entries(tmp_path / "cache")
    assert [(entry.kind, entry.in_use) for entry in listed] == [("tokens", True)]


def test_a_data_set_of_the_hub_stays_where_an_earlier_version_has_kept_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    folders: list[str] = []

    def load(*_: object, cache_dir: str, **__: object) -> object:
        folders.append(cache_dir)
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load)
    for owner in ("new", "old"):
        (tmp_path / "cache/datasets/old___set").mkdir(parents=True, exist_ok=True)
        source = WorkloadSource(name="work", path=f"{owner}/set", max_tokens=40)
        assert len(load_workload(source, "no/model", tmp_path / "cache").prompts) == 3
    assert Path(folders[0]).parent == tmp_path / "cache/datasets" and folders[1] == str(tmp_path / "cache/datasets")


def test_a_reader_that_fails_without_a_word_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def fail(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(ConfigError, match=r"^workload\.path=.* cannot be read: TimeoutError$"):
        load_workload(WorkloadSource("mine", "some/set"), "no/model", tmp_path / "cache")
