"""Prompts and references from files, checked and bounded."""

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from optimize.cache.store import entries
from optimize.config.measuring import WorkloadSource
from optimize.errors import ConfigError
from optimize.traces.requests import Requests
from optimize.workload.workload import Workload, load_workload
from tests.conftest import ROOT

ROWS: list[dict[str, Any]] = [
    {"prompt": "the old man", "reference": "der alte Mann"},
    {"prompt": "the dog", "reference": "der Hund"},
    {"prompt": "the old red house sleeps", "reference": "das alte rote Haus schläft"},
]
CHAT = [{"role": "system", "content": "Translate."}, {"role": "user", "content": "the dog"}]


def _jsonl(folder: Path, rows: list[dict[str, Any]], name: str = "work.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


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


@pytest.mark.parametrize("write", [lambda f: _jsonl(f, ROWS), _csv, _parquet])
def test_formats_give_the_same_workload(write: Any, tmp_path: Path) -> None:
    workload = _load(write(tmp_path), tmp_path)
    assert list(workload.prompts) == [row["prompt"] for row in ROWS]
    assert list(workload.references) == [row["reference"] for row in ROWS]
    assert (workload.name, workload.max_tokens) == ("mine", 40)


def test_prompts_may_be_chat_messages(tmp_path: Path) -> None:
    workload = _load(_jsonl(tmp_path, [{"prompt": CHAT, "reference": "der Hund"}]), tmp_path)
    assert list(workload.prompts) == [CHAT]


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    path = _jsonl(tmp_path, [{"english": "the dog", "german": "der Hund", "id": 1}])
    workload = _load(path, tmp_path, prompt_column="english", reference_column="german")
    assert (list(workload.prompts), list(workload.references)) == (["the dog"], ["der Hund"])


@pytest.mark.parametrize(("limit", "rows"), [(1, 1), (2, 2), (99, 3), (None, 3)])
def test_limit_takes_the_first_rows(limit: int | None, rows: int, tmp_path: Path) -> None:
    workload = _load(_jsonl(tmp_path, ROWS), tmp_path, limit=limit)
    assert list(workload.prompts) == [row["prompt"] for row in ROWS[:rows]]


def _model(folder: Path) -> str:
    """A model whose tokens are the words of ROWS, ids in alphabetic order."""
    words = {word for row in ROWS for key in ("prompt", "reference") for word in row[key].split()}
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(sorted(words))}, unk_token="der"))
    tokenizer.pre_tokenizer = Whitespace()
    (folder / "model").mkdir()
    tokenizer.save(str(folder / "model" / "tokenizer.json"))
    return str(folder / "model")


def _lengths(kind: str, **more: int) -> dict[str, Any]:
    return {"_target_": f"optimize.workload.lengths.{kind}", **more}


def test_prompts_are_cut_or_continued_to_their_length(tmp_path: Path) -> None:
    fixed = {"prompt_tokens": _lengths("Fixed", tokens=4), "output_tokens": _lengths("Fixed", tokens=9)}
    workload = _load(_jsonl(tmp_path, ROWS), tmp_path, None, _model(tmp_path), **fixed)
    assert list(workload.prompts) == ["the old man the", "the dog the old", "the old red house"]
    assert workload.output_tokens == [9, 9, 9]
    assert (list(workload.references), workload.max_tokens, workload.in_order) == ([], 9, False)


def test_lengths_are_drawn_by_the_seed(tmp_path: Path) -> None:
    path, model = _jsonl(tmp_path, ROWS * 20), _model(tmp_path)
    source = WorkloadSource("mine", str(path), output_tokens=_lengths("Uniform", low=1, high=99))
    lengths = [load_workload(source, model, tmp_path / "cache", seed).output_tokens for seed in (0, 0, 1)]
    assert lengths[0] == lengths[1] != lengths[2]
    assert len({w.hash for w in (load_workload(source, model, tmp_path / "cache", s) for s in (0, 1))}) == 2


def _recorded(prompts: list[int] | None, outputs: list[int], **more: Any) -> Requests:
    times_s = np.arange(float(len(prompts or outputs or [])))
    return Requests(times_s, None if prompts is None else np.array(prompts), np.array(outputs), **more)


def _tokens(workload: Workload, model: str) -> list[list[int]]:
    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    return [tokenizer.encode(str(prompt), add_special_tokens=False).ids for prompt in workload.prompts]


def test_recorded_lengths_keep_their_order(tmp_path: Path) -> None:
    source, model = WorkloadSource("mine", str(_jsonl(tmp_path, ROWS))), _model(tmp_path)
    recorded = _recorded([2, 1, 4, 3], [30, 10, 20, 5])
    workload = load_workload(source, model, tmp_path / "cache", recorded=recorded)
    assert [len(ids) for ids in _tokens(workload, model)] == [2, 1, 4, 3]
    assert workload.output_tokens == [30, 10, 20, 5]
    assert (workload.max_tokens, workload.in_order) == (30, True)


def test_requests_that_share_leading_blocks_share_their_text_and_no_others(tmp_path: Path) -> None:
    model = str(ROOT / "demo/model")
    source = WorkloadSource("mine", str(_jsonl(tmp_path, ROWS * 5)))
    recorded = _recorded(
        [40, 40, 37, 40], [5] * 4, blocks=[(1, 2, 3), (1, 2, 4), (1, 5, 6), (7, 2, 3)], block_tokens=16
    )
    workload = load_workload(source, model, tmp_path / "cache", recorded=recorded)
    ids = _tokens(workload, model)
    assert [len(tokens) for tokens in ids] == [40, 40, 37, 40]
    shared = [_common(ids[0], other) for other in ids[1:]]
    assert 30 <= shared[0] < 40 and 14 <= shared[1] < 30 and shared[2] < 8  # seams may fall one token beside


def _common(one: list[int], other: list[int]) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def test_many_requests_made_of_few_prompts_share_nothing(tmp_path: Path) -> None:
    model = str(ROOT / "demo/model")
    source = WorkloadSource("mine", str(ROOT / "demo/workloads/chat.jsonl"))
    workload = load_workload(source, model, tmp_path / "cache", recorded=_recorded([60] * 200, [5] * 200))
    ids = _tokens(workload, model)
    assert {len(tokens) for tokens in ids} == {60}
    assert len({tuple(tokens[:16]) for tokens in ids}) >= 195  # a block of an engine's prefix cache


def test_chats_give_the_text_of_recorded_requests(tmp_path: Path) -> None:
    source, model = WorkloadSource("mine", str(_jsonl(tmp_path, [{"prompt": CHAT}] * 2))), _model(tmp_path)
    workload = load_workload(source, model, tmp_path / "cache", recorded=_recorded([3, 2], [5, 5]))
    assert all(isinstance(prompt, str) for prompt in workload.prompts)


def test_recorded_prompts_are_sent_as_they_are(tmp_path: Path) -> None:
    source = WorkloadSource("mine", str(_jsonl(tmp_path, ROWS)))
    texts: list[Any] = ["the cat", CHAT]
    workload = load_workload(source, "no/model", tmp_path / "cache", recorded=_recorded(None, [3, 4], texts=texts))
    assert (list(workload.prompts), workload.output_tokens, workload.in_order) == (texts, [3, 4], True)


def test_recorded_answers_go_with_prompts_of_any_length(tmp_path: Path) -> None:
    source = WorkloadSource("mine", str(_jsonl(tmp_path, ROWS)))
    workload = load_workload(source, "no/model", tmp_path / "cache", recorded=_recorded(None, [1, 2, 3, 4]))
    assert list(workload.prompts) == [ROWS[i]["prompt"] for i in (0, 1, 2, 0)]


def test_prompts_alone_are_bounded_by_a_round_number_unless_their_lengths_are_set(tmp_path: Path) -> None:
    path = _jsonl(tmp_path, [{"prompt": "the dog"}])
    for workload in (_load(path, tmp_path, None), _load(path, tmp_path, None, reference_column=None)):
        assert (list(workload.references), workload.max_tokens) == ([], 128)
    (note,) = _load(path, tmp_path, 5).notes
    assert "has no column 'reference'" in note and "at most 5 tokens" in note
    assert not _load(path, tmp_path, 5, reference_column=None).notes
    with pytest.raises(ConfigError, match=r"set workload\.max_tokens"):
        _load(_jsonl(tmp_path, ROWS), tmp_path, None, _model(tmp_path), prompt_tokens=_lengths("Fixed"))


def test_chat_messages_cannot_be_cut(tmp_path: Path) -> None:
    path = _jsonl(tmp_path, [{"prompt": CHAT, "reference": "der Hund"}])
    with pytest.raises(ConfigError, match="chat messages cannot be cut"):
        _load(path, tmp_path, model=_model(tmp_path), prompt_tokens=_lengths("Fixed"))


def test_answers_are_bounded_by_the_longest_reference_and_a_quarter(tmp_path: Path) -> None:
    # "das alte rote Haus schläft" has 5 tokens; 5 x 1.25 = 6.25.
    assert _load(_jsonl(tmp_path, ROWS), tmp_path, None, _model(tmp_path)).max_tokens == 7


def test_a_model_without_tokenizer_needs_a_bound(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"set workload\.max_tokens"):
        _load(_jsonl(tmp_path, ROWS), tmp_path, None, str(tmp_path))


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
        _load(_jsonl(tmp_path, ROWS), tmp_path, limit=0)


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
    for path in (_jsonl(tmp_path, ROWS), _csv(tmp_path), _parquet(tmp_path)):
        assert len(_load(path, tmp_path).prompts) == 3
    assert contacted == []


def test_counts_are_entries_of_the_cache_and_held(tmp_path: Path) -> None:
    _load(_jsonl(tmp_path, ROWS), tmp_path, max_tokens=None, model=_model(tmp_path))
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
