"""The Kubernetes source against a server that does what real ones do."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from testing import pods
from testing.apiserver import (
    ApiServer,
    event,
    kubeconfig,
    make_certificate,
    refuse,
    server_tls,
    silence,
    status,
    streamed,
)
from tests.sources.pods.waiting import names, running, until
from vgpumonitor.sources.pods import cluster
from vgpumonitor.sources.pods.kubernetes import KubernetesPodSource, Timing

QUICK = Timing(first_delay=0.01, longest_delay=0.05, answer=20.0, watch=60.0)
IMPATIENT = Timing(first_delay=0.01, longest_delay=0.05, answer=0.3, watch=60.0)


@dataclass(frozen=True)
class Tries(Timing):
    """Tries again at once; ``failures`` has how many failures each delay was asked for."""

    failures: list[int] = field(default_factory=list)

    def delay(self, failures: int) -> float:
        self.failures.append(failures)
        return 0.01


def source_of(server: ApiServer, tmp_path: Path, timing: Timing = QUICK) -> KubernetesPodSource:
    return KubernetesPodSource("node-1", kubeconfig(tmp_path / "config", server.url), timing)


def test_lists_and_watches_the_pods_of_its_node(tmp_path: Path) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            server.put(pods.pod("one"))
            server.put(pods.pod("elsewhere", node="node-b"))
            source = source_of(server, tmp_path)
            assert source.view.synced is None
            assert not source.view.up
            async with running(source):
                await until(lambda: source.view.up)
                assert names(source.view) == {"one"}
                assert source.view.synced is not None
                server.put(pods.pod("two"))
                await until(lambda: names(source.view) == {"one", "two"})
                before = source.view
                server.put(pods.pod("two", phase="Succeeded"))
                await until(lambda: source.view.pods["uid-of-two"].finished)
                # A view is a value: the old one says what was, and what stayed is the same.
                assert not before.pods["uid-of-two"].finished
                assert source.view.pods["uid-of-one"] is before.pods["uid-of-one"]
                server.delete("uid-of-two")
                await until(lambda: names(source.view) == {"one"})
                assert source.view.deleted["uid-of-two"].phase == "Succeeded"
                assert source.view.up
            # What RBAC has to allow is list and watch on pods, and nothing else.
            assert {(seen.method, seen.path) for seen in server.seen} == {("GET", "/api/v1/pods")}
            assert [seen.verb for seen in server.seen] == ["list", "watch"]
            assert {seen.query["fieldSelector"] for seen in server.seen} == {"spec.nodeName=node-1"}
            assert server.of("list")[0].query["resourceVersion"] == "0"
            watch = server.of("watch")[0].query
            assert watch["resourceVersion"] == "102"
            assert watch["allowWatchBookmarks"] == "true"
            assert 48 <= int(watch["timeoutSeconds"]) <= 72

    asyncio.run(main())


def test_two_pods_of_one_name_are_two(tmp_path: Path) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            server.put(pods.pod("web-0", "first"))
            async with running(source := source_of(server, tmp_path)):
                await until(lambda: set(source.view.pods) == {"first"})
                server.delete("first")
                server.put(pods.pod("web-0", "second"))
                await until(lambda: set(source.view.pods) == {"second"})
                assert set(source.view.deleted) == {"first"}

    asyncio.run(main())


def test_pages_of_a_list(tmp_path: Path) -> None:
    async def main() -> None:
        async with ApiServer(pages_from_cache=True) as server:
            for number in range(1203):
                server.put(pods.pod(f"pod-{number}"))
            async with running(source := source_of(server, tmp_path)):
                await until(lambda: source.view.up)
                assert len(source.view.pods) == 1203
            assert len(server.of("list")) == 3
            assert all(seen.query["limit"] == "500" for seen in server.of("list"))

    asyncio.run(main())


def test_a_node_without_pods_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    problem = "no pod of node 'node-1' is listed: --node-name has to be the pods' spec.nodeName"

    async def main() -> None:
        async with ApiServer() as server:
            server.put(pods.pod("elsewhere", node="node-1.example"))
            timing = Timing(first_delay=0.0)
            async with running(source := source_of(server, tmp_path, timing)):
                await until(lambda: source.view.up)
                assert source.view.pods == {}
                assert source.view.problem == problem
                server.send(event("ERROR", GONE))
                await until(lambda: len(server.of("list")) == 2 and server.of("watch"))
                server.put(pods.pod("one"))
                await until(lambda: names(source.view) == {"one"})
                assert source.view.problem is None
                server.delete("uid-of-one")
                # It had one, so that its name is right.
                await until(lambda: source.view.pods == {})
                assert source.view.problem is None

    asyncio.run(main())
    assert [record.getMessage() for record in caplog.records] == [problem]


def test_410_of_a_continue_token_lists_from_the_beginning(tmp_path: Path) -> None:
    async def main() -> None:
        async with ApiServer(pages_from_cache=True) as server:
            for number in range(600):
                server.put(pods.pod(f"pod-{number}"))
            gone = refuse(410, "Expired", "The provided continue parameter is too old")

            async def compacted(request: Any) -> Any:
                server.faults["list"].append(gone)
                return await server._list(request, dict(request.query))

            server.faults["list"] = [compacted]
            async with running(source := source_of(server, tmp_path)):
                await until(lambda: source.view.up)
                assert len(source.view.pods) == 600
            first, second, third, _ = server.of("list")
            assert first.query["resourceVersion"] == "0"
            assert "continue" in second.query
            # The cache led nowhere, so this one is read from etcd.
            assert "continue" not in third.query
            assert "resourceVersion" not in third.query

    asyncio.run(main())


GONE = status(410, "Expired", "too old resource version: 101 (200)")


@pytest.mark.parametrize(
    "fault",
    [refuse(410, "Expired", "too old resource version"), streamed(event("ERROR", GONE))],
    ids=["as a status", "as an event"],
)
def test_410_of_a_watch_lists_again(
    tmp_path: Path, fault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            server.put(pods.pod("stays"))
            server.put(pods.pod("goes"))

            async def while_it_was_blind(request: Any) -> Any:
                server.delete("uid-of-goes")
                server.put(pods.pod("came"))
                return await fault(request)

            server.faults["watch"] = [while_it_was_blind]
            async with running(source := source_of(server, tmp_path)):
                await until(lambda: names(source.view) == {"stays", "came"})
                assert source.view.up
                assert set(source.view.deleted) == {"uid-of-goes"}
            # Not older than what was known: a lagging server can't take the source back.
            relist = server.of("list")[1].query
            assert relist["resourceVersion"] == "102"
            assert relist["resourceVersionMatch"] == "NotOlderThan"

    asyncio.run(main())
    # It is part of every day, and no failure.
    assert caplog.records == []


def test_410_again_and_again_backs_off(tmp_path: Path) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            server.faults["watch"] = [streamed(event("ERROR", GONE)) for _ in range(5)]
            server.put(pods.pod("one"))
            timing = Timing(first_delay=0.02, longest_delay=10.0)
            async with running(source := source_of(server, tmp_path, timing)):
                await until(lambda: len(server.of("watch")) == 6)
                assert names(source.view) == {"one"}
            gaps = [
                after.at - before.at
                for before, after in zip(server.of("watch"), server.of("list")[1:], strict=False)
            ]
            # Half of the doubled delay at least.
            assert all(gap >= 0.01 * 2**number for number, gap in enumerate(gaps))

    asyncio.run(main())


def test_a_bookmark_confirms_and_is_where_the_next_watch_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            server.put(pods.pod("one"))
            timing = Timing(first_delay=0.01, longest_delay=0.05, watch=1.0)
            async with running(source := source_of(server, tmp_path, timing)):
                await until(lambda: server.of("watch"))
                synced = source.view.synced
                assert synced is not None
                mark = server.bookmark()
                await until(lambda: source.view.synced != synced)
                await until(lambda: len(server.of("watch")) >= 2)
                assert server.of("watch")[1].query["resourceVersion"] == mark
                assert names(source.view) == {"one"}
            assert len(server.of("list")) == 1

    asyncio.run(main())


def test_a_watch_that_ends_in_time_goes_on_without_a_list(tmp_path: Path) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            server.put(pods.pod("one"))
            timing = Timing(first_delay=0.01, longest_delay=0.05, watch=1.0)
            async with running(source := source_of(server, tmp_path, timing)):
                await until(lambda: source.view.up)
                synced = source.view.synced
                ups = set()

                def third_watch() -> bool:
                    ups.add(source.view.up)
                    return len(server.of("watch")) >= 3

                await until(third_watch)
                # Nothing happened, and its end says so.
                assert source.view.synced != synced
                server.put(pods.pod("two"))
                await until(lambda: names(source.view) == {"one", "two"})
            assert ups == {True}
            assert len(server.of("list")) == 1

    asyncio.run(main())


def test_a_watch_that_is_cut_goes_on_from_its_version(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            server.put(pods.pod("one"))
            # No watch is too short.
            source = source_of(server, tmp_path, Timing(first_delay=0.0))

            async def cut(watches: int) -> None:
                await until(lambda: len(server.of("watch")) == watches)
                synced = source.view.synced
                mark = server.bookmark()
                await until(lambda: source.view.synced != synced)
                server.cut()
                server.put(pods.pod(f"unseen-{watches}"))
                await until(lambda: f"unseen-{watches}" in names(source.view))
                assert server.of("watch")[watches].query["resourceVersion"] == mark

            async with running(source):
                for watches in range(1, 6):
                    await cut(watches)
                assert source.view.up
                assert source.view.problem is None
            assert len(server.of("list")) == 1

    asyncio.run(main())
    # It was never down.
    assert caplog.records == []


@pytest.mark.parametrize("then", ["abort", "end"])
def test_a_watch_that_is_cut_within_a_line_goes_on_from_the_last_whole_one(
    tmp_path: Path, then: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            server.put(pods.pod("one"))
            whole = pods.pod("whole")
            whole["metadata"]["resourceVersion"] = "101"
            half = event("ADDED", pods.pod("half"))[:100]
            server.faults["watch"] = [streamed(event("ADDED", whole), half, then=then)]
            timing = Timing(first_delay=0.0)
            async with running(source := source_of(server, tmp_path, timing)):
                await until(lambda: len(server.of("watch")) == 2)
                server.put(pods.pod("two"))
                await until(lambda: names(source.view) == {"one", "whole", "two"})
            assert server.of("watch")[1].query["resourceVersion"] == "101"
            assert len(server.of("list")) == 1

    asyncio.run(main())
    assert caplog.records == []


def test_a_watch_that_lasted_ends_a_row_of_failures(tmp_path: Path) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            unavailable = refuse(503, "ServiceUnavailable", "apiserver is shutting down")
            server.faults["list"] = [unavailable] * 3
            server.faults["watch"] = [streamed(then="abort"), unavailable]
            timing = Tries(first_delay=0.0)
            async with running(source := source_of(server, tmp_path, timing)):
                await until(lambda: len(server.of("watch")) == 3)
                assert source.view.up
            assert timing.failures == [0, 1, 2, 0]

    asyncio.run(main())


def test_a_watch_that_is_over_at_once_lengthens_a_row_of_failures(tmp_path: Path) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            server.faults["watch"] = [streamed(), streamed(then="abort"), streamed()]
            timing = Tries(first_delay=60.0)
            async with running(source := source_of(server, tmp_path, timing)):
                await until(lambda: len(server.of("watch")) == 4)
                await until(lambda: source.view.up)
            assert timing.failures == [0, 1, 2]

    asyncio.run(main())


def test_a_line_in_pieces_is_one_event(tmp_path: Path) -> None:
    async def main() -> None:
        pod = pods.pod("pieces")
        pod["metadata"]["resourceVersion"] = "500"
        line = event("ADDED", pod) + event("ADDED", pod)[:7]
        rest = event("ADDED", pod)[7:]
        pieces = [line[:9], line[9:200], line[200:], rest]
        async with ApiServer() as server:
            server.faults["watch"] = [streamed(*pieces, then="silence")]
            async with running(source := source_of(server, tmp_path)):
                await until(lambda: names(source.view) == {"pieces"})
            assert len(server.of("list")) == 1

    asyncio.run(main())


def test_429_waits_as_long_as_retry_after_says(tmp_path: Path) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            server.put(pods.pod("one"))
            server.faults["list"] = [
                refuse(429, "TooManyRequests", "too many requests", Retry_After="1")
            ]
            async with running(source := source_of(server, tmp_path)):
                await until(lambda: source.view.up)
                assert names(source.view) == {"one"}
            first, second = server.of("list")
            assert second.at - first.at >= 1.0

    asyncio.run(main())


def test_a_retry_after_of_years_is_bounded(tmp_path: Path) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            server.faults["list"] = [
                refuse(429, "TooManyRequests", "too many requests", Retry_After="99999999")
            ]
            timing = Timing(first_delay=0.01, longest_delay=0.05, longest_retry_after=0.1)
            async with running(source := source_of(server, tmp_path, timing)):
                await until(lambda: source.view.up)

    asyncio.run(main())


@pytest.mark.parametrize("verb", ["list", "watch"])
def test_5xx(tmp_path: Path, verb: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            server.put(pods.pod("one"))
            server.faults[verb] = [
                refuse(500, "InternalError", "etcdserver: leader changed"),
                refuse(503, "ServiceUnavailable", "apiserver is shutting down"),
            ]
            downs = []

            def whole() -> bool:
                downs.append(source.view.up)
                return source.view.up and len(server.of("watch")) >= (1 if verb == "list" else 3)

            async with running(source := source_of(server, tmp_path)):
                await until(whole)
                server.put(pods.pod("two"))
                await until(lambda: names(source.view) == {"one", "two"})
                assert source.view.up
            assert False in downs

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    errors = [getattr(record, "error", "") for record in caplog.records]
    assert "the API server answered 500: etcdserver: leader changed" in errors
    assert "the API server answered 503: apiserver is shutting down" in errors
    assert any(record.getMessage() == "pods are known again" for record in caplog.records)


def test_403_says_what_is_needed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            server.faults["list"] = [refuse(403, "Forbidden", "pods is forbidden")] * 3
            async with running(source := source_of(server, tmp_path)):
                await until(lambda: source.view.refused)
                assert not source.view.up
                await until(lambda: source.view.up)
                assert not source.view.refused

    asyncio.run(main())
    errors = [record.error for record in caplog.records if hasattr(record, "error")]
    assert errors == [
        # Once, although it was refused three times.
        "the API server answered 403: pods is forbidden (list and watch on pods are needed)"
    ]


def test_a_token_file_is_read_for_each_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with ApiServer(tokens={"old", "new"}) as server:
            server.put(pods.pod("one"))
            (tmp_path / "token").write_text("old\n")
            # Beside the kubeconfig.
            config = kubeconfig(tmp_path / "config", server.url, tokenFile="token")
            timing = Timing(first_delay=0.01, longest_delay=0.05, watch=1.0)
            source = KubernetesPodSource("node-1", config, timing)
            async with running(source):
                await until(lambda: server.of("watch"))
                (tmp_path / "token").write_text("new\n")
                await until(lambda: len(server.of("watch")) == 2)
                server.put(pods.pod("two"))
                await until(lambda: names(source.view) == {"one", "two"})
            assert [seen.token for seen in server.seen] == ["old", "old", "new"]

    asyncio.run(main())
    assert caplog.records == []


def test_an_expired_token_until_the_kubeconfig_has_a_new_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with ApiServer(tokens={"old"}) as server:
            server.put(pods.pod("one"))
            config = kubeconfig(tmp_path / "config", server.url, token="old")
            timing = Timing(first_delay=0.01, longest_delay=0.05, watch=1.0)
            source = KubernetesPodSource("node-1", config, timing)
            async with running(source):
                await until(lambda: source.view.up)
                synced = source.view.synced
                server.tokens = {"new"}
                await until(lambda: not source.view.up)
                assert names(source.view) == {"one"}
                assert source.view.synced is not None
                assert synced is not None
                assert source.view.synced >= synced
                kubeconfig(tmp_path / "config", server.url, token="new")
                await until(lambda: source.view.up)

    asyncio.run(main())


def test_an_api_server_that_is_away_and_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            server.put(pods.pod("stays"))
            server.put(pods.pod("goes"))
            timing = Tries()
            async with running(source := source_of(server, tmp_path, timing)):
                await until(lambda: source.view.up and server.of("watch"))
                await server.stop()
                await until(lambda: not source.view.up)
                synced = source.view.synced
                await until(lambda: len(timing.failures) == 5)
                # What is known stays known, and as old as it is.
                assert names(source.view) == {"stays", "goes"}
                assert not source.view.up
                assert source.view.synced == synced
                server.delete("uid-of-goes")
                server.put(pods.pod("came"))
                server.compact()
                async with server:
                    await until(lambda: source.view.up)
                    assert names(source.view) == {"stays", "came"}
                    assert source.view.synced != synced
                    server.put(pods.pod("later"))
                    await until(lambda: "later" in names(source.view))

    asyncio.run(main())


def test_no_api_server_at_the_start(tmp_path: Path) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            port = server.port
        config = kubeconfig(tmp_path / "config", f"http://127.0.0.1:{port}")
        timing = Tries()
        async with running(source := KubernetesPodSource("node-1", config, timing)):
            await until(lambda: len(timing.failures) == 3)
            assert not source.view.up
            assert source.view.problem == (
                f"the API server at 127.0.0.1:{port} can't be reached: Connection refused"
            )
            assert source.view.synced is None
            async with ApiServer(port=port) as server:
                server.put(pods.pod("one"))
                await until(lambda: names(source.view) == {"one"})

    asyncio.run(main())


@pytest.mark.parametrize("verb", ["list", "watch"])
def test_a_server_that_accepts_and_never_answers(tmp_path: Path, verb: str) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            server.put(pods.pod("one"))
            server.faults[verb] = [silence]
            async with running(source := source_of(server, tmp_path, IMPATIENT)):
                await until(lambda: len(server.of("watch")) == (1 if verb == "list" else 2))
                await until(lambda: source.view.up)
                server.put(pods.pod("two"))
                await until(lambda: names(source.view) == {"one", "two"})

    asyncio.run(main())


def test_bookmarks_keep_a_watch_and_a_dead_one_is_noticed_soon() -> None:
    # A minute lies between two bookmarks of the API server.
    assert 60 < Timing().silence <= 90
    assert Timing().silence + Timing().answer < 100


def test_a_quiet_watch_is_no_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing that happens on the API server, and no bookmark."""

    async def main() -> None:
        async with ApiServer() as server:
            server.put(pods.pod("one"))
            server.faults["watch"] = [streamed(then="silence") for _ in range(3)]
            timing = Tries(silence=0.3)
            async with running(source := source_of(server, tmp_path, timing)):
                await until(lambda: source.view.up)
                synced = source.view.synced

                def watched_again() -> bool:
                    assert source.view.up
                    return len(server.of("watch")) == 4

                await until(watched_again)
                assert len(server.of("list")) == 4
                assert source.view.synced != synced
                server.put(pods.pod("two"))
                await until(lambda: names(source.view) == {"one", "two"})
            assert timing.failures == []

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


def test_a_pod_that_a_silent_watch_held_back_is_found(tmp_path: Path) -> None:
    """Behind a proxy that answers a watch and passes nothing on."""

    async def main() -> None:
        async with ApiServer() as server:
            server.faults["watch"] = [streamed(then="silence") for _ in range(1000)]
            async with running(source := source_of(server, tmp_path, Tries(silence=0.3))):
                await until(lambda: len(server.of("watch")) == 1)
                server.put(pods.pod("one"))
                await until(lambda: names(source.view) == {"one"})

    asyncio.run(main())


def test_a_dead_connection_is_told_once_the_server_does_not_answer_either(tmp_path: Path) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            server.put(pods.pod("one"))
            server.faults["watch"] = [streamed(then="silence")]
            timing = Timing(first_delay=0.01, longest_delay=0.05, answer=0.3, silence=0.3)
            async with running(source := source_of(server, tmp_path, timing)):
                await until(lambda: len(server.of("watch")) == 1)
                server.faults["list"] = [silence]
                await until(lambda: not source.view.up)
                assert source.view.problem == "the API server did not answer in time"
                assert names(source.view) == {"one"}
                await until(lambda: source.view.up)
                server.put(pods.pod("two"))
                await until(lambda: names(source.view) == {"one", "two"})

    asyncio.run(main())


@pytest.mark.parametrize(
    "line",
    [
        b"{not json}\n",
        b'{"type": "ADDED"}\n',
        b'{"type": "ADDED", "object": 3}\n',
        b'{"type": "ADDED", "object": {"metadata": {}}}\n',
        b'{"type": "ADDED", "object": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
        b"\xff\xfe\n",
        event("ERROR", status(500, "InternalError", "unable to decode an event")),
    ],
    ids=["no JSON", "no object", "a number", "no version", "nested", "no UTF-8", "an error"],
)
def test_a_wrong_line_costs_a_list(tmp_path: Path, line: bytes) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            server.put(pods.pod("one"))
            server.faults["watch"] = [streamed(line, then="silence")]
            async with running(source := source_of(server, tmp_path)):
                await until(lambda: len(server.of("watch")) == 2)
                await until(lambda: source.view.up)
                server.put(pods.pod("two"))
                await until(lambda: names(source.view) == {"one", "two"})
            assert len(server.of("list")) == 2

    asyncio.run(main())


@pytest.mark.parametrize(
    "body",
    [b"<html>proxy</html>", b"{}", b'{"kind": "PodList", "metadata": {}, "items": []}', b"[]"],
)
def test_a_wrong_list_is_no_list(tmp_path: Path, body: bytes) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            server.put(pods.pod("one"))
            server.faults["list"] = [streamed(body)]
            async with running(source := source_of(server, tmp_path)):
                await until(lambda: source.view.up)
                assert names(source.view) == {"one"}
            assert len(server.of("list")) == 2

    asyncio.run(main())


def test_a_watch_that_ends_at_once_is_not_asked_for_in_a_loop(tmp_path: Path) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            server.faults["watch"] = [streamed() for _ in range(1000)]
            timing = Timing(first_delay=0.2, longest_delay=0.2)
            began = time.monotonic()
            async with running(source_of(server, tmp_path, timing)):
                await until(lambda: len(server.of("watch")) == 5)
                assert time.monotonic() - began >= 4 * 0.1

    asyncio.run(main())


def test_an_unusable_pod_is_lost_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            broken = pods.pod("broken")
            broken["metadata"]["name"] = 7
            server.put(broken)
            server.put(pods.pod("one"))
            async with running(source := source_of(server, tmp_path)):
                await until(lambda: source.view.up)
                assert names(source.view) == {"one"}
                also_broken = pods.pod("also")
                del also_broken["metadata"]["namespace"]
                server.put(also_broken)
                server.put(pods.pod("two"))
                await until(lambda: names(source.view) == {"one", "two"})
            assert len(server.of("list")) == 1

    asyncio.run(main())
    errors = [record.error for record in caplog.records if hasattr(record, "error")]
    assert errors == [
        "metadata.name is a number, not a string",
        "metadata.namespace is missing, not a string",
    ]


def test_wrong_annotations_are_counted_and_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    annotation = "scheduling.koordinator.sh/device-allocated"

    async def main() -> None:
        async with ApiServer() as server:
            wrong = {annotation: "{"}
            server.put(pods.pod("bad", namespace="team", annotations=wrong))
            async with running(source := source_of(server, tmp_path)):
                await until(lambda: source.view.up)
                assert source.view.annotation_errors == {annotation: 1}
                server.put(pods.pod("bad", namespace="team", annotations=wrong, phase="Succeeded"))
                await until(lambda: source.view.pods["uid-of-bad"].finished)
                assert source.view.annotation_errors == {annotation: 1}
                server.put(pods.pod("bad", namespace="team", annotations={annotation: "[]"}))
                await until(lambda: source.view.annotation_errors == {annotation: 2})
                wrong_now = (annotation, "is [], not a JSON object")
                assert source.view.invalid == {"uid-of-bad": (wrong_now,)}
                server.put(pods.pod("bad", namespace="team"))
                await until(lambda: source.view.invalid == {})
                assert source.view.annotation_errors == {annotation: 2}

    asyncio.run(main())
    named = [
        (record.namespace, record.pod, record.where)
        for record in caplog.records
        if record.getMessage() == "invalid field of a pod ignored"
        if hasattr(record, "namespace") and hasattr(record, "pod") and hasattr(record, "where")
    ]
    assert named == [("team", "bad", annotation)] * 2


def test_line_separators_of_unicode_are_no_ends_of_lines(tmp_path: Path) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            async with running(source := source_of(server, tmp_path)):
                await until(lambda: server.of("watch"))
                pod = pods.pod("one", annotations={"note": "a\u0085b"})
                pod["metadata"]["resourceVersion"] = "500"
                line = json.dumps({"type": "ADDED", "object": pod}, ensure_ascii=False)
                server.send(line.encode() + b"\n")
                await until(lambda: names(source.view) == {"one"})
            assert len(server.of("list")) == 1

    asyncio.run(main())


def test_a_static_pod_joins_by_its_hash(tmp_path: Path) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            digest = "0123456789abcdef0123456789abcdef"
            annotations = {"kubernetes.io/config.hash": digest}
            server.put(pods.pod("etcd-node-1", "of-the-mirror", annotations=annotations))
            async with running(source := source_of(server, tmp_path)):
                await until(lambda: source.view.up)
                assert set(source.view.pods) == {digest}
                server.delete("of-the-mirror")
                await until(lambda: source.view.pods == {})

    asyncio.run(main())


@pytest.fixture
def service_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A service account's directory, and the key of its certificate beside it."""
    directory = tmp_path / "serviceaccount"
    directory.mkdir()
    certificate, _ = make_certificate(tmp_path)
    (directory / "ca.crt").write_bytes(certificate.read_bytes())
    (directory / "token").write_text("first")
    monkeypatch.setattr(cluster, "SERVICE_ACCOUNT", directory)
    return directory


def test_in_cluster(service_account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        tls = server_tls(service_account / "ca.crt", service_account.parent / "key.pem")
        async with ApiServer(tls=tls, tokens={"first"}) as server:
            monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
            monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
            server.put(pods.pod("one"))
            timing = Timing(first_delay=0.01, longest_delay=0.05, watch=1.0)
            async with running(source := KubernetesPodSource("node-1", timing=timing)):
                await until(lambda: names(source.view) == {"one"})
                # kubelet replaces the token by a rename.
                (service_account / "next").write_text("second")
                os.replace(service_account / "next", service_account / "token")
                server.tokens = {"second"}
                await until(lambda: "second" in {seen.token for seen in server.of("watch")})
                await until(lambda: source.view.up)

    asyncio.run(main())


def test_a_redirect_takes_the_token_nowhere(tmp_path: Path) -> None:
    async def main() -> None:
        async with ApiServer() as elsewhere, ApiServer() as server:
            server.put(pods.pod("one"))
            server.faults["list"] = [refuse(302, "Found", "over there", Location=elsewhere.url)]
            config = kubeconfig(tmp_path / "config", server.url, token="secret")
            async with running(source := KubernetesPodSource("node-1", config, QUICK)):
                await until(lambda: names(source.view) == {"one"})
            assert elsewhere.seen == []

    asyncio.run(main())


def test_a_server_that_the_cluster_s_ca_does_not_vouch_for(
    service_account: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "other").mkdir()
    other, _ = make_certificate(tmp_path / "other")

    async def main() -> None:
        tls = server_tls(service_account / "ca.crt", tmp_path / "key.pem")
        async with ApiServer(tls=tls, tokens={"first"}) as server:
            monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
            monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
            right = (service_account / "ca.crt").read_bytes()
            (service_account / "ca.crt").write_bytes(other.read_bytes())
            async with running(source := KubernetesPodSource("node-1", timing=QUICK)):
                await until(
                    lambda: any(
                        "its certificate is not trusted" in record_error(r) for r in caplog.records
                    )
                )
                assert not source.view.up
                assert server.seen == []
                (service_account / "ca.crt").write_bytes(right)
                await until(lambda: source.view.up)

    asyncio.run(main())


def record_error(record: logging.LogRecord) -> str:
    return str(getattr(record, "error", ""))


def test_no_cluster_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        async with (
            running(KubernetesPodSource("node-1", timing=QUICK)),
            running(KubernetesPodSource("node-1", str(tmp_path / "absent"), QUICK)),
        ):
            await until(lambda: len(caplog.records) >= 2)

    asyncio.run(main())
    errors = " ".join(record_error(record) for record in caplog.records)
    assert "no kubeconfig is given" in errors
    assert f"{tmp_path / 'absent'}: No such file or directory" in errors


def test_delays_double_with_jitter_up_to_a_bound() -> None:
    timing = Timing(first_delay=1.0, longest_delay=60.0)
    for failures in (0, 1, 2, 5, 6, 7, 10_000):
        longest = min(2.0 ** min(failures, 20), 60.0)
        delays = [timing.delay(failures) for _ in range(200)]
        assert longest / 2 <= min(delays) <= max(delays) <= longest
        assert len(set(delays)) > 100
