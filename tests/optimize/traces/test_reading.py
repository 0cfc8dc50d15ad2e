"""Traces in the forms that they are published in, and what is read from them."""

from __future__ import annotations

import codecs
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from optimize.errors import ConfigError
from optimize.load.trace import Trace

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,374,44
2023-11-16 18:17:04.5,396,109
2023-11-16 18:17:05.9799600,12,8
"""
AZURE_2024 = """TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,2162,5
2024-05-10 00:00:00.017335+00:00,2399,6
"""
BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,230,1317,Conversation log
118,GPT-4,417,0,417,API log
"""
BURSTGPT_3 = """Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
5,a,1.5,ChatGPT,472,18,490,Conversation log
45,b,2.5,GPT-4,87,30,117,Conversation log
"""
MOONCAKE = """{"timestamp": 0, "input_length": 1100, "output_length": 52, "hash_ids": [46, 47, 2353]}
{"timestamp": 2500, "input_length": 600, "output_length": 26, "hash_ids": [46, 48]}
"""
BAILIAN = (
    '{"chat_id": 0, "parent_chat_id": -1, "timestamp": 61.1, "input_length": 30, "output_length": 4, "type": "text", '
    '"turn": 1, "hash_ids": [1, 2]}\n'
    '{"chat_id": 1, "parent_chat_id": 0, "timestamp": 63.6, "input_length": 16, "output_length": 5, "type": "text", '
    '"turn": 2, "hash_ids": [1]}\n'
)
AIPERF = """{"session_id": "a", "timestamp": 1000, "text_input": "the dog", "output_length": 8}
{"session_id": "a", "delay": 500, "text_input": "the cat", "output_length": 9}
{"session_id": "b", "timestamp": 1250, "text_input": "the bird", "output_length": 7}
"""
VLLM = json.dumps(
    {
        "request_throughput": 2.0,
        "start_times": [9.0, 8.5],
        "input_lens": [7, 3],
        "output_lens": [5, 4],
        "errors": ["", ""],
    }
)
OWN = (
    '{"offset_s": 1.5, "prompt_tokens": 3, "output_tokens": 4}\n{"offset_s": 1, "prompt_tokens": 7, "output_tokens": 5}'
)

Write = Callable[[str | bytes], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file whose name says nothing of its form; returns its path."""

    def written(content: str | bytes) -> str:
        path = tmp_path / "requests.txt"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return written


@pytest.mark.parametrize(
    ("content", "name", "offsets_s", "lengths"),
    [
        (AZURE, "azure", [0.0, 0.52004, 2.0], [(374, 44), (396, 109), (12, 8)]),
        (AZURE_2024, "azure", [0.0, 0.007405], [(2162, 5), (2399, 6)]),
        (BURSTGPT, "burstgpt", [0.0, 40.0], [(472, 18), (1087, 230)]),
        (BURSTGPT_3, "burstgpt", [0.0, 40.0], [(472, 18), (87, 30)]),
        (MOONCAKE, "mooncake", [0.0, 2.5], [(1100, 52), (600, 26)]),
        (BAILIAN, "bailian", [0.0, 2.5], [(30, 4), (16, 5)]),
        (AIPERF, "aiperf", [0.0, 0.25, 0.5], [(None, 8), (None, 7), (None, 9)]),
        (VLLM, "vllm", [0.0, 0.5], [(3, 4), (7, 5)]),
        (OWN, "own", [0.0, 0.5], [(7, 5), (3, 4)]),
    ],
)
def test_a_published_form_is_recognised_by_its_columns(
    content: str, name: str, offsets_s: list[float], lengths: list[tuple[int | None, int]], write: Write
) -> None:
    trace = Trace(write(content))
    assert trace.recording.form.name == name
    due_s = trace.due_times_s(seed=0)
    assert [next(due_s) for _ in offsets_s] == pytest.approx(offsets_s, abs=1e-6)
    assert trace.lengths == lengths
    assert Trace(write(content), format=name).lengths == lengths


@pytest.mark.parametrize(
    "content",
    [
        AZURE.replace("\n", "\r\n"), codecs.BOM_UTF8 + AZURE.encode(), AZURE.encode("utf-16"),
        AZURE.replace(",", ";"), AZURE.replace(",", "\t"), gzip.compress(AZURE.encode()), f"\n{AZURE}\n\n",
        AZURE.replace("TIMESTAMP", "Timestamp").replace("374", '"374"'),
    ],
)  # fmt: skip
def test_a_table_is_read_however_it_was_saved(content: str | bytes, write: Write) -> None:
    assert Trace(write(content)).lengths == [(374, 44), (396, 109), (12, 8)]


def test_a_table_compressed_with_zstandard_is_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    with pyarrow.output_stream(str(tmp_path / "azure.csv.zst"), compression="zstd") as stream:
        stream.write(AZURE.encode())
    assert len(Trace(str(tmp_path / "azure.csv.zst")).lengths) == 3


def test_json_is_read_as_lines_as_one_list_and_as_indented_results(write: Write) -> None:
    rows = [json.loads(line) for line in MOONCAKE.splitlines()]
    assert Trace(write(json.dumps(rows, indent=1))).lengths == [(1100, 52), (600, 26)]
    assert Trace(write(json.dumps(json.loads(VLLM), indent=1))).lengths == [(3, 4), (7, 5)]
    assert Trace(write(f"{VLLM}\n{VLLM}")).lengths == [(3, 4), (3, 4), (7, 5), (7, 5)]  # --append-result


def test_one_line_says_what_was_recognised_and_what_was_left_out(write: Write) -> None:
    path = write(BURSTGPT)
    assert Trace(path).note == (
        f"{path}: 2 requests over 80 s in BurstGPT's form; 1 without tokens are left out; "
        "a measurement replays them 10 times"
    )
    path = write(AZURE)
    assert Trace(path, part="first:1s").note.endswith(
        "inference traces; 2 of them are replayed; a measurement replays them 10 times"
    )


@pytest.mark.parametrize(
    ("content", "tokens"), [(MOONCAKE, 512), (BAILIAN, 16), (MOONCAKE.replace("1100", "130").replace("600", "70"), 64)]
)
def test_the_size_of_shared_blocks_is_that_of_the_form_unless_the_lengths_say_otherwise(
    content: str, tokens: int, write: Write
) -> None:
    assert Trace(write(content)).requests.block_tokens == tokens


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("question,answer\na,b\nc,d\n", "has the columns question, answer, which are those of no known trace: rename"),
        (AZURE.replace("2023-11-16 18:17:04.5", "yesterday"), "line 3: Invalid isoformat string: 'yesterday'"),
        (AZURE.replace("396", "many"), "line 3: could not convert string to float: 'many'"),
        (AZURE.replace("396", "39.5"), "line 3: '39.5' is no number of tokens"),
        (AZURE.replace("396", ""), "has prompt_tokens in some lines only"),
        (MOONCAKE + "[3]\n", r"line 3: must be an object with the columns of a request, got '\[3\]'"),
        (MOONCAKE + "soon\n", "line 3: must be an object with the columns of a request, got 'soon'"),
        (MOONCAKE.replace("[46, 48]", '"46"'), "line 2: '46' is no list of block numbers"),
        (AIPERF.replace('"delay"', '"pause"'), "line 2: .* a row of AIPerf's form with prompts needs a time"),
        (AIPERF.replace('"text_input": "the cat", ', ""), "has a prompt in some rows only"),
        ('{"request_throughput": 2.0, "completed": 3}', "without its requests: save it with --save-detailed"),
        ("", "holds no requests"),
        ("\n", "holds no requests"),
        (gzip.compress(AZURE.encode())[:-9], "cannot be read"),
        (b"\xff\xff\xff\xff", "cannot be read"),
    ],
)  # fmt: skip
def test_what_is_no_trace_is_refused_with_its_line_and_the_remedy(
    content: str | bytes, message: str, write: Write
) -> None:
    with pytest.raises(ConfigError, match=message):
        Trace(write(content))


def test_a_form_by_name_needs_its_columns(write: Write) -> None:
    with pytest.raises(
        ConfigError, match="format=azure needs the columns .* has timestamp, input_length, output_length"
    ):
        Trace(write(MOONCAKE), format="azure")
    with pytest.raises(ConfigError, match="format='asure' is none; did you mean 'azure'"):
        Trace(write(AZURE), format="asure")
