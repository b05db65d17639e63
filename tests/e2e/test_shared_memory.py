"""System shared memory through tritonclient, with two proxies: what works, and what clients must not be able to do."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException, serialize_byte_tensor, shared_memory

from tests import models
from tests.e2e.waiting import eventually
from tests.serving import Gateway, serving

DIRECTORY = Path("/dev/shm")
KEY = f"cutover_test_{os.getpid()}"
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)
OUT = 64
"""Where in the object outputs go, in bytes; inputs lie before."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Two proxies, shared memory allowed."""
    folder = tmp_path_factory.mktemp("shared-memory")
    for datatype in ("FP32", "BYTES"):
        models.save(folder / "models", f"identity_{datatype.lower()}", 1, models.identity(datatype))
    (folder / "cutover.toml").write_text("[server]\nproxies = 2\n[triton]\nshared_memory = true\n")
    with serving(folder / "models", folder / "state", "--config", str(folder / "cutover.toml")) as running:
        yield running


@pytest.fixture
def memory(gateway: Gateway) -> Iterator[Any]:
    """An object of 4 KiB, registered as `r`; ROWS lie at its beginning."""
    handle = shared_memory.create_shared_memory_region("r", KEY, 4096)
    shared_memory.set_shared_memory_region(handle, [ROWS])
    with connected(gateway) as client:
        client.register_system_shared_memory("r", KEY, 4096)
        yield handle
        client.unregister_system_shared_memory()
    shared_memory.destroy_shared_memory_region(handle)


@contextmanager
def connected(gateway: Gateway) -> Iterator[triton.InferenceServerClient]:
    """A client with a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with triton.InferenceServerClient(gateway.target, channel_args=options) as client:
        yield client


def ask(
    client: triton.InferenceServerClient,
    source: str = "r",
    target: str = "r",
    size: int = ROWS.nbytes,
    offset: int = OUT,
) -> triton.InferResult:
    """Y = X, both in shared memory."""
    tensor = triton.InferInput("X", ROWS.shape, "FP32")
    tensor.set_shared_memory(source, ROWS.nbytes)
    output = triton.InferRequestedOutput("Y")
    output.set_shared_memory(target, size, offset)
    return client.infer("identity_fp32", [tensor], outputs=[output])


def read(handle: Any, offset: int = OUT) -> Any:
    return shared_memory.get_contents_as_numpy(handle, np.float32, ROWS.shape, offset).tolist()


def refused(client: triton.InferenceServerClient, **asked: Any) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as caught:
        ask(client, **asked)
    return caught.value.status(), caught.value.message()


def test_whichever_proxy_is_asked_knows_the_region(gateway: Gateway, memory: Any) -> None:
    for number in range(12):  # each over a connection of its own: both proxies get some
        with connected(gateway) as client:
            result = ask(client, offset=OUT + 32 * number)
        assert read(memory, OUT + 32 * number) == ROWS.tolist()
        (output,) = result.get_response().outputs
        assert (output.datatype, list(output.shape)) == ("FP32", [2, 3])
        assert output.parameters["shared_memory_region"].string_param == "r"
        assert output.parameters["shared_memory_byte_size"].int64_param == ROWS.nbytes
        assert output.parameters["shared_memory_offset"].int64_param == OUT + 32 * number
        assert list(result.get_response().raw_output_contents) == [b""]


def test_regions_can_be_asked_and_forgotten(gateway: Gateway, memory: Any) -> None:
    with connected(gateway) as client:
        client.register_system_shared_memory("part", f"/{KEY}", 64, offset=32)
        regions = client.get_system_shared_memory_status(as_json=True)["regions"]
        assert regions["part"] == {"name": "part", "key": f"/{KEY}", "offset": "32", "byte_size": "64"}
        with pytest.raises(InferenceServerException, match="ALREADY_EXISTS"):
            client.register_system_shared_memory("part", KEY, 64)
        client.unregister_system_shared_memory("part")
        assert set(client.get_system_shared_memory_status(as_json=True)["regions"]) == {"r"}
        with pytest.raises(InferenceServerException, match="NOT_FOUND"):
            client.get_system_shared_memory_status("part")
        assert refused(client, source="part") == (
            "StatusCode.INVALID_ARGUMENT",
            "input 'X': shared memory region 'part' is not registered, or its object is gone",
        )
        assert ask(client), "the others are as they were"


def test_texts_lie_in_shared_memory_too(gateway: Gateway, memory: Any) -> None:
    words = np.array([["a", "größer 😊", ""]], dtype=object)
    encoded = serialize_byte_tensor(words)
    size = len(encoded.item())
    shared_memory.set_shared_memory_region(memory, [encoded], offset=1024)
    tensor = triton.InferInput("X", words.shape, "BYTES")
    tensor.set_shared_memory("r", size, 1024)
    output = triton.InferRequestedOutput("Y")
    output.set_shared_memory("r", 1024, 2048)
    with connected(gateway) as client:
        client.infer("identity_bytes", [tensor], outputs=[output])
    found = shared_memory.get_contents_as_numpy(memory, np.object_, words.shape, 2048)
    assert [text.decode() for text in found.ravel()] == words.ravel().tolist()


def test_streams_use_it_like_calls(gateway: Gateway, memory: Any) -> None:
    answers: Queue[Any] = Queue()
    tensor = triton.InferInput("X", ROWS.shape, "FP32")
    tensor.set_shared_memory("r", ROWS.nbytes)
    with connected(gateway) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for size in (ROWS.nbytes, ROWS.nbytes - 1):
            output = triton.InferRequestedOutput("Y")
            output.set_shared_memory("r", size, OUT)
            client.async_stream_infer("identity_fp32", [tensor], outputs=[output])
        (good, none), (_, bad) = answers.get(timeout=20), answers.get(timeout=20)
        client.stop_stream()
    assert none is None
    assert list(good.get_response().raw_output_contents) == [b""]
    assert read(memory) == ROWS.tolist()
    assert f"output 'Y': it takes {ROWS.nbytes} bytes, but 'shared_memory_byte_size' is 23" in bad.message()


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"size": 23}, "output 'Y': it takes 24 bytes, but 'shared_memory_byte_size' is 23; offer as many"),
        ({"offset": 4096 - 23}, "output 'Y': offset 4073 and 24 bytes are more than region 'r' has, 4096 bytes"),
        ({"offset": 2**63 - 1}, f"offset {2**63 - 1} and 24 bytes are more than region 'r' has"),
        ({"size": 2**63 - 1, "offset": 2**63 - 1}, "are more than region 'r' has, 4096 bytes"),
        ({"offset": -8}, "'shared_memory_offset' must be an int64_param or uint64_param of at least 0"),
        ({"target": "other"}, "output 'Y': shared memory region 'other' is not registered"),
    ],
    ids=str,
)
def test_nothing_outside_a_region_is_touched(gateway: Gateway, memory: Any, asked: dict[str, Any], text: str) -> None:
    before = (DIRECTORY / KEY).read_bytes()
    with connected(gateway) as client:
        status, message = refused(client, **asked)
    assert status == "StatusCode.INVALID_ARGUMENT"
    assert text in message
    assert (DIRECTORY / KEY).read_bytes() == before


@pytest.mark.parametrize(
    ("key", "size", "offset"),
    [
        (KEY, 4097, 0),
        (KEY, 1, 4096),
        (KEY, 2**64 - 1, 1),
        (KEY, 32, 2**64 - 16),
        (KEY, 0, 0),
        ("../etc/passwd", 1, 0),
        (f"/{KEY}/../{KEY}", 1, 0),
        (f"sem.{KEY}", 1, 0),
        ("triton_python_backend_shm_region_1", 1, 0),
        (f"{KEY}_missing", 1, 0),
        (f"{KEY}_link", 1, 0),
        (f"{KEY}_pipe", 1, 0),
    ],
    ids=lambda value: str(value).replace(KEY, "key"),  # the same whichever process runs it
)
def test_only_what_is_there_for_clients_can_be_registered(
    gateway: Gateway, memory: Any, key: str, size: int, offset: int
) -> None:
    link, pipe = DIRECTORY / f"{KEY}_link", DIRECTORY / f"{KEY}_pipe"
    link.symlink_to("/etc/hostname")
    os.mkfifo(pipe)
    try:
        with connected(gateway) as client:
            with pytest.raises(InferenceServerException) as caught:
                client.register_system_shared_memory("s", key, size, offset=offset)
            assert set(client.get_system_shared_memory_status(as_json=True)["regions"]) == {"r"}
    finally:
        link.unlink()
        pipe.unlink()
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert "/dev/shm" not in caught.value.message()
    assert "hostname" not in caught.value.message()


@contextmanager
def asked_all_the_time(gateway: Gateway) -> Iterator[set[str]]:
    """Four clients ask until the end; yields the texts they got, "OK" where all was well."""
    stop = threading.Event()
    seen: set[str] = set()

    def keep_asking() -> None:
        with connected(gateway) as client:
            while not stop.is_set():
                try:
                    ask(client)
                    seen.add("OK")
                except InferenceServerException as error:
                    seen.add(error.message())

    threads = [threading.Thread(target=keep_asking) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_client_that_shrinks_its_object_harms_only_itself(gateway: Gateway, memory: Any) -> None:
    """Mapped, it would end the proxy by SIGBUS."""
    proxies = gateway.proxies()
    problem = "the object of shared memory region 'r' has become too small"
    texts = {f"input 'X': {problem}", f"output 'Y': {problem}"}
    try:
        with asked_all_the_time(gateway) as seen:
            for _ in range(50):
                os.truncate(DIRECTORY / KEY, 0)
                os.truncate(DIRECTORY / KEY, OUT + 8)
                os.truncate(DIRECTORY / KEY, 4096)
            eventually(lambda: "OK" in seen)
            os.truncate(DIRECTORY / KEY, 0)
            eventually(lambda: bool(seen & texts))
    finally:
        os.truncate(DIRECTORY / KEY, 4096)
    assert seen <= {"OK"} | texts
    assert gateway.proxies() == proxies
    with connected(gateway) as client:
        assert ask(client)


def test_a_region_may_go_while_it_is_used(gateway: Gateway, memory: Any) -> None:
    with asked_all_the_time(gateway) as seen, connected(gateway) as client:
        for _ in range(10):
            client.unregister_system_shared_memory("r")
            client.register_system_shared_memory("r", KEY, 4096)
    gone = "shared memory region 'r' is not registered, or its object is gone"
    assert seen <= {"OK", f"input 'X': {gone}", f"output 'Y': {gone}"}


def test_a_new_proxy_knows_what_was_registered(gateway: Gateway, memory: Any) -> None:
    before = gateway.proxies()
    os.kill(before[0], 9)
    eventually(lambda: len(gateway.proxies()) == 2 and before[0] not in gateway.proxies())
    eventually(lambda: gateway.metric("cutover_proxies") == 2)
    for _ in range(8):
        with connected(gateway) as client:
            ask(client)


def test_it_is_off_unless_the_operator_says_otherwise(shared: Gateway) -> None:
    with triton.InferenceServerClient(shared.target) as client:
        calls = (
            lambda: client.register_system_shared_memory("r", KEY, 1),
            client.unregister_system_shared_memory,
            client.get_system_shared_memory_status,
        )
        for call in calls:
            with pytest.raises(InferenceServerException) as caught:
                call()
            assert caught.value.status() == "StatusCode.PERMISSION_DENIED"
            assert "shared_memory = true in [triton]" in caught.value.message()
        assert refused(client)[0] == "StatusCode.INVALID_ARGUMENT"
