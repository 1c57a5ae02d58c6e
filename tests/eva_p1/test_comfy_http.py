"""Addresses, tokens, proxies and answers that are none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from eva_env_base import ComfyError, UsageError
from eva_p1.comfy_client import ComfyClient
from tests.eva_p1.comfy_fake import GRAPH, FakeComfy
from tests.eva_p1.comfy_waiting import Waiting, connect


@pytest.fixture
def server() -> Iterator[FakeComfy]:
    with FakeComfy() as fake:
        yield fake
        fake.hold.set()


@pytest.fixture
def client(server: FakeComfy) -> Iterator[ComfyClient]:
    with ComfyClient(server.url, timeout=5, patience=5) as made:
        yield made


def test_token_in_header_or_query_and_base_path(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeComfy(base="/pod/7", token="s3cret") as server:
        for url, token in ((server.url, "s3cret"), (f"{server.url}/?token=s3cret", None)):
            with ComfyClient(url, token=token) as client:
                connect(client)
                client.queue(GRAPH, prompt_id=f"p-{token}")
                assert Waiting(client, f"p-{token}").join().videos
                assert "s3cret" not in client.shown_url
        with ComfyClient(server.url) as stranger, pytest.raises(ComfyError, match="token"):
            stranger.queue_state()
        with ComfyClient(server.url) as stranger, pytest.raises(ComfyError, match="token"):
            stranger.queue(GRAPH)


def test_a_proxy_of_the_environment_does_not_capture_loopback(server: FakeComfy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with ComfyClient(server.url) as client:
        connect(client)
        client.queue(GRAPH, prompt_id="direct")
        assert Waiting(client, "direct").join().videos


@pytest.mark.parametrize("url", ["127.0.0.1:8188", "ftp://x", "http://", "http://host:port"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(UsageError, match="8188|port"):
        ComfyClient(url)


def test_wrong_addresses_say_what_is_wrong_with_them(server: FakeComfy) -> None:
    for url, words in (
        (server.url.replace("http://", "https://"), "does not speak https there; write the address with http://"),
        (server.url + "/nope", "answered 404 Not Found.*is that the address of a ComfyUI"),
        ("http://no-such-machine.invalid:8188", "no machine is known by the name no-such-machine.invalid"),
    ):
        with ComfyClient(url, retries=0) as client, pytest.raises(ComfyError, match=words):
            client.object_info()


def test_an_answer_that_is_not_json_is_named(server: FakeComfy) -> None:
    with ComfyClient(server.url + "/view?filename=x") as client, pytest.raises(ComfyError):
        client.system_stats()


def test_object_info_is_asked_for_once(server: FakeComfy, client: ComfyClient) -> None:
    server.object_info = {
        "KSampler": {"input": {"required": {"sampler_name": [["euler"], {}], "scheduler": ["COMBO", {"options": ["simple"]}]}}}
    }
    assert client.samplers_and_schedulers() == (["euler"], ["simple"])
    assert client.object_info()["KSampler"] and client.object_info("KSampler") and client.object_info("Nope") == {}
    asked = [path for _, path, _ in server.requests if "object_info" in path]
    assert asked == ["/object_info/KSampler", "/object_info"]
    client.object_info(refresh=True)
    assert len([path for _, path, _ in server.requests if path == "/object_info"]) == 2


def test_a_server_without_samplers_is_named(client: ComfyClient) -> None:
    with pytest.raises(ComfyError, match="lists no samplers"):
        client.samplers_and_schedulers()
