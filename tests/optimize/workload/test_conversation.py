"""One conversation under way: what each turn sends, and when there is none to send."""

from __future__ import annotations

from typing import Any

import pytest

from objectives import RequestRecord
from optimize.workload.conversation import Conversations, Dialogue


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def conversations(**more: Any) -> Conversations:
    fields: dict[str, Any] = {
        "rows": [[0, 1, 2]], "asks": [[user("one")], [user("two")], [user("three")]],
        "answers": [[assistant("eins")], [assistant("zwei")], []], "think_s": [None, 2.0, None], **more,
    }  # fmt: skip
    return Conversations(**fields)


def dialogue(talks: Conversations) -> Dialogue:
    return Dialogue(talks, 0, [user("one")], lambda row: 10)


def answer(text: str, error: str | None = None, prompt_tokens: int = 5, output_tokens: int = 3) -> RequestRecord:
    return RequestRecord(0, 0.0, 0.0, 0.1, 0.2, prompt_tokens, output_tokens, text, error)


def test_the_history_holds_the_models_own_answers() -> None:
    talk = dialogue(conversations())
    assert (talk.turn, talk.row, talk.prompt) == (1, 0, [user("one")])
    first = talk.take(answer("uno"))
    assert (first.turn, first.last, first.dropped) == (1, False, 0)
    assert (talk.turn, talk.row, talk.prompt) == (2, 1, [user("one"), assistant("uno"), user("two")])
    talk.take(answer("dos"))
    assert talk.prompt == [user("one"), assistant("uno"), user("two"), assistant("dos"), user("three")]
    last = talk.take(answer("tres"))
    assert talk.ended and (last.turn, last.last, last.dropped) == (3, True, 0)


def test_a_recorded_history_is_the_same_whatever_is_answered() -> None:
    talk = dialogue(conversations(live=False))
    talk.take(answer("uno"))
    assert talk.prompt == [user("one"), assistant("eins"), user("two")]


def test_a_call_of_a_tool_stays_as_recorded() -> None:
    call = assistant("", tool_calls=[{"id": "1"}])
    talk = dialogue(conversations(answers=[[call], [], []]))
    talk.take(answer("no call at all"))
    assert talk.prompt == [user("one"), call, user("two")]


def test_a_model_without_a_chat_template_gets_text() -> None:
    talk = Dialogue(conversations(plain=True), 0, "User: one\n\nAssistant:", lambda row: 10)
    talk.take(answer("uno"))
    assert talk.prompt == "User: one\n\nAssistant: uno\n\nUser: two\n\nAssistant:"


def test_a_turn_that_fails_ends_the_conversation_and_says_how_much_is_missing() -> None:
    talk = dialogue(conversations())
    record = talk.take(answer("", "timeout"))
    assert talk.ended and (record.error, record.last, record.dropped) == ("timeout", True, 2)


@pytest.mark.parametrize(("prompt_tokens", "ended"), [(83, False), (84, True)])
def test_a_conversation_ends_before_it_exceeds_the_context(prompt_tokens: int, ended: bool) -> None:
    talk = dialogue(conversations(tokens=[9, 4, 4], context=100))  # 3 of the answer, 4 of the next question, 10 to say
    record = talk.take(answer("uno", prompt_tokens=prompt_tokens))
    assert talk.ended is ended and record.error is None and record.dropped == (2 if ended else 0)


@pytest.mark.parametrize(("prompt_tokens", "ended"), [(90, False), (91, True)])
def test_of_a_recorded_history_the_length_is_known_beforehand(prompt_tokens: int, ended: bool) -> None:
    talk = dialogue(conversations(live=False, tokens=[9, prompt_tokens, 400], context=100))
    assert (talk.take(answer("uno", prompt_tokens=1)).dropped > 0) is ended


def test_the_users_pause_counts_where_a_turn_has_none_of_its_own() -> None:
    talk = dialogue(conversations())
    talk.take(answer("uno"))
    assert talk.pause_s(7.0) == 2.0
    talk.take(answer("dos"))
    assert talk.pause_s(7.0) == 7.0
    assert conversations().mean_pause_s(7.0) == 4.5


def test_a_selection_of_conversations_is_numbered_anew() -> None:
    kept = conversations(rows=[[0, 1], [2]]).only([2])
    assert (kept.rows, kept.asks, kept.think_s) == ([[0]], [[user("three")]], [None])


def test_only_prompts_that_are_the_same_in_every_load_are_fixed() -> None:
    assert conversations().fixed_rows == [0]
    assert conversations(live=False).fixed_rows == [0, 1, 2]
