"""agent.sources.rpc: both transports keep one contract, against a real grpc-go server."""

import asyncio
import contextlib

import pytest
from certificates import Authority

from agent._pb import tetragon_pb2 as pb
from agent.sources.rpc import Code, ConnectionConfig, RpcError, TlsConfig, transport_for

SERVICE = "/tetragon.FineGuidanceSensors/"
BOTH = pytest.mark.parametrize("kind", ["http2", "grpcio"])


def config(address, kind, **more):
    return ConnectionConfig(address=address, transport=kind, **more)


@contextlib.asynccontextmanager
async def streaming(settings):
    transport = transport_for(settings)
    stream = await transport.stream(f"{SERVICE}GetEvents", b"")
    try:
        yield transport, stream
    finally:
        await stream.close()
        await transport.close()


async def read(stream, count, seconds=30.0):
    messages = []
    async with asyncio.timeout(seconds):
        while len(messages) < count:
            batch = await stream.batch()
            assert batch is not None
            messages += batch
    return messages


@BOTH
@pytest.mark.parametrize("place", ["unix", "tcp"])
async def test_unary_and_stream(kind, place, tetragon_peer, events_file, tmp_path):
    listen = f"unix://{tmp_path}/t.sock" if place == "unix" else "127.0.0.1:0"
    peer = tetragon_peer("-events", str(events_file), "-listen", listen)
    async with streaming(config(peer.address, kind)) as (transport, stream):
        version = pb.GetVersionResponse.FromString(await transport.unary(f"{SERVICE}GetVersion", b"", 5))
        assert version.version
        await peer.until(lambda stats: stats["streams"] == 1)
        await peer.tell("/emit?n=5000&block=1")
        messages = await read(stream, 5000)
        assert len(messages) == 5000
        assert all(pb.GetEventsResponse.FromString(one).WhichOneof("event") for one in messages[:50])
        with pytest.raises(RpcError) as caught:
            await transport.unary(f"{SERVICE}GetInfo", b"", 5)
        assert caught.value.code is Code.UNIMPLEMENTED
    await peer.until(lambda stats: stats["streams"] == 0)


@BOTH
@pytest.mark.parametrize(
    ("how", "code"),
    [("UNAVAILABLE", Code.UNAVAILABLE), ("INTERNAL", Code.INTERNAL), ("RESOURCE_EXHAUSTED", Code.RESOURCE_EXHAUSTED)],
)
async def test_a_status_ends_the_stream_after_what_was_sent(kind, how, code, tetragon_peer, events_file):
    peer = tetragon_peer("-events", str(events_file))
    async with streaming(config(peer.address, kind)) as (_, stream):
        await peer.until(lambda stats: stats["streams"] == 1)
        await peer.tell("/emit?n=100&block=1")
        await peer.until(lambda stats: stats["sent"] == 100)
        await peer.tell(f"/disconnect?code={how}&message=bye")
        assert len(await read(stream, 100)) == 100
        with pytest.raises(RpcError) as caught:
            await stream.batch()
        assert (caught.value.code, caught.value.detail) == (code, "bye")


@BOTH
async def test_a_clean_end_is_none(kind, tetragon_peer, events_file):
    peer = tetragon_peer("-events", str(events_file))
    async with streaming(config(peer.address, kind)) as (_, stream):
        await peer.until(lambda stats: stats["streams"] == 1)
        await peer.tell("/disconnect?code=OK")
        assert await stream.batch() is None
        assert await stream.batch() is None


@BOTH
@pytest.mark.parametrize("how", ["cut", "kill"])
async def test_a_broken_connection_is_unavailable(kind, how, tetragon_peer, events_file, tmp_path):
    peer = tetragon_peer("-events", str(events_file), "-listen", f"unix://{tmp_path}/t.sock")
    async with streaming(config(peer.address, kind)) as (_, stream):
        await peer.until(lambda stats: stats["streams"] == 1)
        if how == "cut":
            await peer.tell("/disconnect?code=transport")
        else:
            peer.kill()
        with pytest.raises(RpcError) as caught:
            async with asyncio.timeout(10):
                await stream.batch()
        assert caught.value.code is Code.UNAVAILABLE


@BOTH
async def test_compression(kind, tetragon_peer, events_file):
    peer = tetragon_peer("-events", str(events_file), "-compress", "gzip")
    async with streaming(config(peer.address, kind)) as (_, stream):
        await peer.until(lambda stats: stats["streams"] == 1)
        await peer.tell("/emit?n=500&block=1")
        for one in await read(stream, 500):
            assert pb.GetEventsResponse.FromString(one).WhichOneof("event")


@BOTH
async def test_a_goaway_ends_in_unavailable(kind, tetragon_peer, events_file):
    peer = tetragon_peer(
        "-events", str(events_file), "-max-connection-age", "500ms", "-max-connection-age-grace", "200ms"
    )
    async with streaming(config(peer.address, kind)) as (_, stream):
        await peer.until(lambda stats: stats["streams"] == 1)
        await peer.tell("/emit?n=10&block=1")
        assert len(await read(stream, 10)) == 10
        with pytest.raises(RpcError) as caught:
            async with asyncio.timeout(20):
                await stream.batch()
        assert caught.value.code is Code.UNAVAILABLE


@BOTH
async def test_long_headers_come_in_continuations(kind, tetragon_peer, events_file):
    peer = tetragon_peer("-events", str(events_file), "-header-padding", "6000" if kind == "grpcio" else "60000")
    async with streaming(config(peer.address, kind)) as (_, stream):
        await peer.until(lambda stats: stats["streams"] == 1)
        await peer.tell("/emit?n=3&block=1")
        assert len(await read(stream, 3)) == 3


async def test_a_message_over_the_limit_is_skipped_and_the_stream_goes_on(tetragon_peer, tmp_path):
    small = pb.GetEventsResponse(node_name="n").SerializeToString()
    large = pb.GetEventsResponse(node_name="n" * 100_000).SerializeToString()
    file = tmp_path / "sizes.bin"
    file.write_bytes(b"".join(len(one).to_bytes(4, "big") + one for one in (small, large, small, small)))
    peer = tetragon_peer("-events", str(file))
    async with streaming(config(peer.address, "http2", max_message_bytes=50_000)) as (_, stream):
        await peer.until(lambda stats: stats["streams"] == 1)
        await peer.tell("/emit?n=4&block=1")
        assert await read(stream, 3) == [small] * 3
        assert stream.take_oversized() == 1
        assert stream.take_oversized() == 0


@BOTH
async def test_a_message_of_many_megabytes(kind, tetragon_peer, tmp_path):
    large = pb.GetEventsResponse(node_name="n" * 9_000_000).SerializeToString()
    file = tmp_path / "large.bin"
    file.write_bytes(len(large).to_bytes(4, "big") + large)
    peer = tetragon_peer("-events", str(file), "-premarshal")
    async with streaming(config(peer.address, kind)) as (_, stream):
        await peer.until(lambda stats: stats["streams"] == 1)
        await peer.tell("/emit?n=3&block=1")
        assert await read(stream, 3) == [large] * 3


@BOTH
async def test_a_reader_that_rests_stops_the_server_and_loses_nothing_of_what_was_sent(
    kind, tetragon_peer, events_file
):
    peer = tetragon_peer("-events", str(events_file), "-queue", "50")
    async with streaming(config(peer.address, kind)) as (_, stream):
        await peer.until(lambda stats: stats["streams"] == 1)
        await peer.tell("/emit?n=60000")
        await asyncio.sleep(1.0)
        before = peer.stats()
        assert before["overflowed"] > 0
        got = await read(stream, before["sent"])
        await peer.until(lambda stats: stats["queued"] == 0)
        left = peer.stats()["sent"] - len(got)
        got += await read(stream, left) if left else []
        assert len(got) == peer.stats()["sent"]


async def test_a_ping_tells_a_live_connection_from_a_stopped_one(tetragon_peer, events_file):
    import signal

    peer = tetragon_peer("-events", str(events_file))
    async with streaming(config(peer.address, "http2")) as (_, stream):
        assert await stream.ping(5)
        peer.process.send_signal(signal.SIGSTOP)
        assert not await stream.ping(0.3)
        peer.process.send_signal(signal.SIGCONT)


@BOTH
async def test_nobody_there(kind, tmp_path, free_port):
    for address in (f"unix://{tmp_path}/nothing.sock", f"127.0.0.1:{free_port}"):
        transport = transport_for(config(address, kind, connect_seconds=1.0))
        with pytest.raises(RpcError) as caught:
            await transport.stream(f"{SERVICE}GetEvents", b"")
        assert caught.value.code is Code.UNAVAILABLE
        with pytest.raises(RpcError):
            await transport.unary(f"{SERVICE}GetVersion", b"", 1)
        await transport.close()


@BOTH
async def test_a_server_that_is_none_of_grpc(kind):
    async def answer(reader, writer):
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(RpcError):
        async with streaming(config(f"127.0.0.1:{port}", kind, connect_seconds=2.0)) as (_, stream):
            await stream.batch()
    server.close()
    await server.wait_closed()


async def test_a_peer_that_asks_and_never_reads_is_left():
    """Pings want answers; answers that nobody reads would fill our memory."""
    import resource

    from agent.sources.rpc.http2 import frames

    async def ask(reader, writer):
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(frames.frame(frames.PING, 0, 0, b"12345678") * 1000)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(ask, "127.0.0.1", 0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RpcError):
        async with streaming(config(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", "http2")) as (_, stream):
            async with asyncio.timeout(30):
                await stream.batch()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # KB
    server.close()
    await asyncio.sleep(0.3)  # for its side of the connection to end


async def test_a_unary_call_outlives_a_stream_that_cannot_connect():
    """With grpcio both go to one server that accepts and says nothing; neither ends the other."""

    writers = []

    async def silent(reader, writer):
        writers.append(writer)
        await reader.read(-1)

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    transport = transport_for(config(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", "grpcio", connect_seconds=0.5))
    unary = asyncio.create_task(transport.unary(f"{SERVICE}GetVersion", b"", 2.0))
    with pytest.raises(RpcError):
        await transport.stream(f"{SERVICE}GetEvents", b"")
    assert not unary.done()
    with pytest.raises(RpcError):
        await unary
    await transport.close()
    server.close()
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(0.3)


# ----------------------------------------------------------------------- TLS


class Tls:
    def __init__(self, folder):
        self.ca = Authority(folder)
        self.other = Authority(folder / "other", "other")
        self.server = self.ca.issue("node-1.default.hubble-grpc.cilium.io", file="server")
        self.client = self.ca.issue("client", file="client")

    def config(self, **changes):
        values = {
            "ca_file": self.ca.file,
            "certificate_file": self.client[0],
            "key_file": self.client[1],
            "server_name": "node-1.default.hubble-grpc.cilium.io",
            **changes,
        }
        return TlsConfig(**values)

    @property
    def arguments(self):
        return (
            "-tls-cert",
            str(self.server[0]),
            "-tls-key",
            str(self.server[1]),
            "-client-ca",
            str(self.ca.file),
        )


@pytest.fixture
def tls(tmp_path):
    return Tls(tmp_path / "tls")


@BOTH
async def test_mutual_tls(kind, tls, tetragon_peer, events_file):
    peer = tetragon_peer("-events", str(events_file), *tls.arguments)
    async with streaming(config(peer.address, kind, tls=tls.config())) as (transport, stream):
        assert await transport.unary(f"{SERVICE}GetVersion", b"", 5)
        await peer.until(lambda stats: stats["streams"] == 1)
        await peer.tell("/emit?n=2000&block=1")
        assert len(await read(stream, 2000)) == 2000


@BOTH
@pytest.mark.parametrize(
    "fault", ["wrong ca", "wrong name", "no client certificate", "foreign client", "expired client"]
)
async def test_tls_that_must_not_stand(kind, fault, tls, tetragon_peer, events_file):
    peer = tetragon_peer("-events", str(events_file), *tls.arguments)
    changes = {}
    match fault:
        case "wrong ca":
            changes = {"ca_file": tls.other.file}
        case "wrong name":
            changes = {"server_name": "node-2.default.hubble-grpc.cilium.io"}
        case "no client certificate":
            changes = {"certificate_file": None, "key_file": None}
        case "foreign client":
            paths = tls.other.issue("client")
            changes = {"certificate_file": paths[0], "key_file": paths[1]}
        case "expired client":
            paths = tls.ca.issue("client", file="old", days=-1)
            changes = {"certificate_file": paths[0], "key_file": paths[1]}
    with pytest.raises(RpcError) as caught:
        async with streaming(config(peer.address, kind, tls=tls.config(**changes), connect_seconds=2.0)) as (_, stream):
            async with asyncio.timeout(10):
                await stream.batch()
    assert caught.value.code in (Code.UNAVAILABLE, Code.UNAUTHENTICATED)
    assert peer.stats()["opened"] == 0


@BOTH
async def test_a_rotated_certificate_is_used_by_the_next_call(kind, tls, tetragon_peer, events_file):
    """The old ones go on serving the stream that stands; what is connected anew uses the new files."""
    peer = tetragon_peer("-events", str(events_file), *tls.arguments)
    settings = config(peer.address, kind, tls=tls.config(), connect_seconds=2.0)
    transport = transport_for(settings)
    stream = await transport.stream(f"{SERVICE}GetEvents", b"")
    await peer.until(lambda stats: stats["streams"] == 1)

    tls.ca.__init__(tls.ca.folder)  # a new CA under the old path
    tls.server = tls.ca.issue("node-1.default.hubble-grpc.cilium.io", file="server")
    with pytest.raises(RpcError):  # our certificate is not the new CA's yet
        await (await transport.stream(f"{SERVICE}GetEvents", b"")).batch()
    tls.client = tls.ca.issue("client", file="client")
    again = await transport.stream(f"{SERVICE}GetEvents", b"")
    if kind == "http2":
        await peer.until(lambda stats: stats["streams"] == 2)
        await peer.tell("/emit?n=10&block=1")
        assert len(await read(stream, 10)) == 10
    else:
        await peer.until(lambda stats: stats["streams"] >= 1)
        await peer.tell("/emit?n=10&block=1")
    assert len(await read(again, 10)) == 10
    for one in (stream, again):
        await one.close()
    await transport.close()


async def test_a_tls_file_that_is_missing_is_told(tmp_path, free_port, tls):
    settings = config(f"127.0.0.1:{free_port}", "http2", tls=tls.config(ca_file=tmp_path / "no.crt"))
    with pytest.raises(RpcError, match="a TLS file cannot be used"):
        await transport_for(settings).stream(f"{SERVICE}GetEvents", b"")
