"""Chats as turns, and rows that belong to one conversation."""

from __future__ import annotations

from typing import Any

from optimize.workload.turns import joined, questions_of, turns_of


def message(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


SYSTEM, HI, HELLO = message("system", "Be brief."), message("user", "hi"), message("assistant", "hello")
WHY, BECAUSE, BYE = message("user", "why?"), message("assistant", "because"), message("user", "bye")


def test_every_answer_and_every_question_is_a_turn() -> None:
    first, second, third = turns_of([SYSTEM, HI, HELLO, WHY, BECAUSE, BYE])
    assert (first.history, first.asks, first.answer) == ([], [SYSTEM, HI], [HELLO])
    assert (second.history, second.asks, second.text) == ([SYSTEM, HI, HELLO], [WHY], "because")
    assert (third.asks, third.answer, third.text) == ([BYE], [], None)


def test_several_questions_or_answers_in_a_row_are_one_turn() -> None:
    only, later = turns_of([HI, WHY, HELLO, BECAUSE, BYE])
    assert only.asks == [HI, WHY] and only.text == "hello\n\nbecause"
    assert later.history == [HI, WHY, HELLO, BECAUSE]


def test_an_assistant_that_speaks_first_is_part_of_the_first_request() -> None:
    (only,) = turns_of([HELLO, HI, BECAUSE])
    assert only.asks == [HELLO, HI] and only.answer == [BECAUSE]


def test_what_asks_nothing_is_no_turn() -> None:
    assert turns_of([]) == [] and turns_of([SYSTEM]) == [] and turns_of([HELLO]) == []
    assert len(turns_of([HI, HELLO, SYSTEM])) == 1


def test_the_answer_of_a_tool_is_a_turn_of_its_own() -> None:
    call = message("assistant", "", tool_calls=[{"id": "1"}])
    result = message("tool", "21 °C", tool_call_id="1")
    first, second = turns_of([HI, call, result, BECAUSE])
    assert first.answer == [call] and second.asks == [result] and second.answer == [BECAUSE]


def test_questions_without_answers_are_asked_one_after_the_other() -> None:
    first, second, third = questions_of([SYSTEM, HI, WHY, BYE], 2)
    assert (first.history, first.asks) == ([], [SYSTEM, HI]) and (second.history, second.asks) == ([SYSTEM, HI], [WHY])
    assert (third.history, third.asks, third.answer) == ([SYSTEM, HI, WHY], [BYE], [])


def test_requests_of_a_log_that_go_on_with_each_other_are_one_conversation() -> None:
    log = [[HI], [WHY], [HI, HELLO, WHY], [WHY, BECAUSE, BYE], [HI, HELLO, WHY, BECAUSE, BYE]]
    one, other = joined([turns_of(chat, row) for row, chat in enumerate(log)])
    assert [turn.row for turn in one] == [0, 2, 4] and [turn.row for turn in other] == [1, 3]
    assert [turn.text for turn in one] == ["hello", "because", None]  # each known from the request that followed
    assert one[2].history == [HI, HELLO, WHY, BECAUSE]


def test_a_row_that_holds_its_whole_conversation_stands_by_itself() -> None:
    whole = [HI, HELLO, WHY, BECAUSE]
    assert [len(talk) for talk in joined([turns_of(whole, 0), turns_of(whole, 1), []])] == [2, 2]
