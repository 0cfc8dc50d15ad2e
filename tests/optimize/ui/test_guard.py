"""What a foreign page and another user of the machine get from the servers of scripts/ui, over raw sockets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from optimize.ui.access import Access, access, owner
from optimize.ui.dashboard import FILES, dashboard
from optimize.ui.guard import GuardedAsgi, GuardedWsgi
from tests.optimize.ui.raw import request, request_as_nobody, serving, serving_asgi
from tests.storages import storage_at, study_at

FOREIGN = [
    {"host": "evil.example", "headers": ["Origin: http://evil.example"]},
    {"host": "evil.example:{port}", "headers": []},
    {"host": "evil.example:{port}", "headers": ["Origin: http://evil.example:{port}"]},
    {"host": "127.0.0.1.evil.example:{port}", "headers": []},
    {"host": "10.evil.example", "headers": []},
    {"host": "192.168.0.1", "headers": []},
    {"host": "[::2]:{port}", "headers": []},
    {"host": "localhost@evil.example", "headers": []},
    {"host": "evil.example#localhost", "headers": []},
    {"host": "localhost:1:2", "headers": []},
    {"host": "", "headers": []},
    {"host": None, "headers": []},
    {"host": "localhost:{port}", "headers": ["Host: evil.example"]},
    {"host": "localhost:{port}", "headers": ["Origin: http://evil.example"]},
    {"host": "localhost:{port}", "headers": ["Origin: http://localhost:9"]},
    {"host": "localhost:{port}", "headers": ["Origin: http://localhost"]},
    {"host": "localhost:{port}", "headers": ["Origin: http://127.0.0.1:{port}"]},
    {"host": "localhost:{port}", "headers": ["Origin: null"]},
    {"host": "localhost:{port}", "headers": ["Origin: "]},
    {"host": "localhost:{port}", "headers": ["Origin: http://localhost:{port}", "Origin: http://evil.example"]},
    {"host": "localhost:{port}", "headers": ["Origin: http://localhost:{port}.evil.example"]},
    {"host": "localhost:{port}", "headers": ["Origin: file://"]},
]
OWN = [
    {"host": "localhost:{port}", "headers": []},
    {"host": "127.0.0.1:{port}", "headers": ["Origin: http://127.0.0.1:{port}"]},
    {"host": "LocalHost:{port}", "headers": ["Origin: http://localhost:{port}"]},
    {"host": "[::1]:{port}", "headers": ["Origin: http://[::1]:{port}"]},
    {"host": "localhost:9999", "headers": ["Origin: http://localhost:9999"]},  # through a tunnel from another port
    {"host": "localhost", "headers": []},
    {"host": "tuning.example.org", "headers": ["Origin: https://tuning.example.org"]},  # through a proxy
    {"host": "tuning.example.org:8443", "headers": ["Origin: https://tuning.example.org:8443"]},
]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    for name in ("one", "two"):
        optuna.create_study(study_name=name, storage=storage_at(f"sqlite:///{folder}/optuna.db"))
    return folder


@pytest.fixture(scope="module")
def port(studies: Path) -> Iterator[int]:
    """Optuna's dashboard, as scripts/ui starts it."""
    with serving(GuardedWsgi(dashboard(studies), access("tuning.example.org"), sandboxed=FILES)) as listening:
        yield listening


@pytest.fixture(scope="module")
def seen() -> list[dict[str, Any]]:
    return []


@pytest.fixture(scope="module")
def asgi_port(seen: list[dict[str, Any]]) -> Iterator[int]:
    """An ASGI application that notes what reaches it, behind the guard that MLflow has."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"in"})

    with serving_asgi(GuardedAsgi(application, access("tuning.example.org"))) as listening:
        yield listening


def _names(studies: Path) -> list[str]:
    return optuna.get_all_study_names(storage_at(f"sqlite:///{studies}/optuna.db"))


@pytest.mark.parametrize("foreign", FOREIGN, ids=str)
def test_foreign_requests_neither_read_nor_change_a_study(port: int, studies: Path, foreign: dict[str, Any]) -> None:
    for line, body in (
        ("DELETE /api/studies/1", ""), ("GET /api/studies", ""), ("OPTIONS /api/studies/1", ""),
        ("POST /api/studies/1/rename", '{"study_name": "renamed"}'), ("POST /api/artifacts/1", '{"file": "data:,x"}'),
    ):  # fmt: skip
        answer = request(port, line, *foreign["headers"], "Content-Type: text/plain", host=foreign["host"], body=body)
        assert answer.status == 403 and "one" not in answer.body
    assert _names(studies) == ["one", "two"]


@pytest.mark.parametrize("own", OWN, ids=str)
def test_its_own_names_and_pages_are_let_in(port: int, own: dict[str, Any]) -> None:
    answer = request(port, "GET /api/studies", *own["headers"], host=own["host"])
    assert answer.status == 200 and '"one"' in answer.body


def test_its_own_pages_may_delete_a_study(port: int, studies: Path) -> None:
    optuna.create_study(study_name="three", storage=storage_at(f"sqlite:///{studies}/optuna.db"))
    assert request(port, "DELETE /api/studies/3", "Origin: http://localhost").status == 204
    assert _names(studies) == ["one", "two"]


@pytest.mark.parametrize("foreign", FOREIGN, ids=str)
def test_foreign_requests_do_not_reach_an_asgi_application(
    asgi_port: int, seen: list[dict[str, Any]], foreign: dict[str, Any]
) -> None:
    before = len(seen)
    for line in ("GET /", "POST /graphql", "GET /health", "DELETE /%00"):
        assert request(asgi_port, line, *foreign["headers"], host=foreign["host"]).status in (400, 403)
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: aaaaaaaaaaaaaaaaaaaaaa==")
    answer = request(
        asgi_port, "GET /", *foreign["headers"], *upgrade, "Sec-WebSocket-Version: 13", host=foreign["host"]
    )
    assert answer.status in (400, 403) and len(seen) == before


@pytest.mark.parametrize("own", OWN, ids=str)
def test_an_asgi_application_gets_its_own_requests_without_their_origin(
    asgi_port: int, seen: list[dict[str, Any]], own: dict[str, Any]
) -> None:
    assert request(asgi_port, "POST /", *own["headers"], host=own["host"], body="x").status == 200
    assert b"origin" not in dict(seen[-1]["headers"])


def test_files_of_trials_run_without_the_dashboards_origin(port: int, studies: Path) -> None:
    report = studies / "report.html"
    report.write_text("<script>fetch('/api/studies/1', {method: 'DELETE'})</script>")
    store = optuna.artifacts.FileSystemArtifactStore(str(studies / "dashboard"))
    study = study_at(f"sqlite:///{studies}/optuna.db", "one")
    name = optuna.artifacts.upload_artifact(artifact_store=store, file_path=str(report), study_or_trial=study)
    answer = request(port, f"GET {FILES}1/{name}")
    assert answer.body.startswith("<script>") and answer.headers["content-type"] == "text/html"
    assert answer.headers["content-security-policy"] == "sandbox allow-scripts"
    assert "sandbox" not in request(port, "GET /dashboard").headers["content-security-policy"]


def test_only_the_users_who_are_named_are_let_in(studies: Path) -> None:
    others = Access(access().hosts, frozenset({os.getuid() + 1}))
    with serving(GuardedWsgi(dashboard(studies), others)) as listening:
        answer = request(listening, "DELETE /api/studies/1")
    assert answer.status == 403 and "ALLOWED_USERS" in answer.body
    assert _names(studies) == ["one", "two"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")
def test_other_users_of_the_machine_are_refused(port: int, asgi_port: int, studies: Path) -> None:
    for listening in (port, asgi_port):
        answer = request_as_nobody(listening, "DELETE /api/studies/1")
        assert answer.status == 403 and "ALLOWED_USERS" in answer.body
    assert _names(studies) == ["one", "two"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")
def test_another_user_who_is_named_is_let_in(studies: Path) -> None:
    with serving(GuardedWsgi(dashboard(studies), access(users="nobody, 12345"))) as listening:
        assert request_as_nobody(listening, "GET /api/studies").status == 200


def test_a_connection_that_is_not_there_has_no_owner() -> None:
    assert owner((("127.0.0.1", 1), ("127.0.0.1", 2))) == -1 and owner(None) == -1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hosts": "https://tuning.example.org"}, "is not a host name"),
        ({"hosts": "tuning.example.org:443"}, "is not a host name"),
        ({"hosts": "*"}, "is not a host name"),
        ({"users": "no-such-user-here"}, "has no user 'no-such-user-here'"),
    ],
)
def test_a_bad_name_is_one_line(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        access(**arguments)


def test_a_bad_name_ends_the_command_with_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from optimize.ui.__main__ import main

    monkeypatch.setattr("sys.argv", ["ui", "--hosts", "*.example.org"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and "is not a host name" in capsys.readouterr().err
