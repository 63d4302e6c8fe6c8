"""agent.sources.exchanges.encodings: undone within a limit, as far as they can be read."""

import gzip
import random
import zlib

import brotli
import pytest
import zstandard

from agent.sources.exchanges.encodings import decoded

TEXT = b"My name is Margaret Holloway. " * 200
NOISE = random.Random(5).randbytes(100_000)
MAKE = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}


@pytest.mark.parametrize("name", MAKE)
def test_each_encoding_is_undone(name):
    assert decoded(MAKE[name](TEXT), name, 100_000) == (TEXT, 0, "")
    assert decoded(MAKE[name](NOISE), f" {name.upper()} ", 100_000) == (NOISE, 0, "")


@pytest.mark.parametrize("name", MAKE)
def test_an_empty_body_is_empty(name):
    assert decoded(b"", name, 1000) == (b"", 0, "")
    assert decoded(MAKE[name](b""), name, 1000) == (b"", 0, "")


@pytest.mark.parametrize("name", MAKE)
def test_ten_megabytes_of_zeros_stop_at_the_limit(name):
    body, missing, problem = decoded(MAKE[name](bytes(10_000_000)), name, 50_000)
    assert body == bytes(50_000)
    assert missing > 0
    assert problem == ""


@pytest.mark.parametrize("name", MAKE)
def test_a_body_as_large_as_the_limit_is_whole(name):
    assert decoded(MAKE[name](TEXT), name, len(TEXT)) == (TEXT, 0, "")
    body, missing, _ = decoded(MAKE[name](TEXT), name, len(TEXT) - 1)
    assert (body, missing > 0) == (TEXT[:-1], True)


@pytest.mark.parametrize("name", MAKE)
def test_a_body_that_breaks_off_gives_its_beginning(name):
    whole = MAKE[name](NOISE)
    body, missing, problem = decoded(whole[: len(whole) * 3 // 4], name, 1_000_000)
    assert NOISE.startswith(body)
    assert missing == 0
    assert problem == ""
    assert len(body) >= (0 if name == "zstd" else 50_000)


@pytest.mark.parametrize("name", MAKE)
def test_a_body_that_is_broken_in_its_middle_gives_its_beginning(name):
    text = b"".join(b"line %d of a text that goes on: %d\n" % (one, one * 7919 % 9973) for one in range(50_000))
    whole = bytearray(MAKE[name](text))
    middle = len(whole) // 2
    whole[middle : middle + 200] = b"\xff" * 200
    body, _, _ = decoded(bytes(whole), name, 10_000_000)
    assert body[:1000] == text[:1000]


def test_a_wrong_checksum_costs_nothing():
    whole = gzip.compress(TEXT)
    assert decoded(whole[:-8] + b"\0\0\0\0" + whole[-4:], "gzip", 100_000).body == TEXT


@pytest.mark.parametrize("name", MAKE)
def test_what_was_never_encoded_is_broken(name):
    body, _, problem = decoded(b"\xfe\xfeno such thing" * 10, name, 1000)
    assert (body, problem) == (b"", "broken_encoding")


@pytest.mark.parametrize(
    ("encodings", "problem"),
    [
        ("snappy", "unknown_encoding"),
        ("aws-chunked", "unknown_encoding"),
        ("gzip,gzip,gzip,gzip", "too_many_encodings"),
        ("", ""),
        ("identity", ""),
        (" , ,identity,", ""),
    ],
)
def test_what_is_not_undone_stays_as_it_is(encodings, problem):
    assert decoded(b"abc", encodings, 1000) == (b"abc", 0, problem)


def test_the_last_encoding_is_undone_first():
    stacked = zstandard.compress(brotli.compress(gzip.compress(TEXT)))
    assert decoded(stacked, "gzip, br, zstd", 100_000) == (TEXT, 0, "")


def test_a_stack_of_bombs_stops_at_the_limit_of_each_layer():
    bomb = gzip.compress(gzip.compress(bytes(10_000_000)))
    body, missing, _ = decoded(bomb, "gzip, gzip", 20_000)
    assert len(body) == 20_000
    assert missing > 0


def test_a_layer_that_was_cut_is_read_as_far_as_it_goes():
    body, missing, _ = decoded(gzip.compress(gzip.compress(NOISE)), "gzip, gzip", 60_000)
    assert NOISE.startswith(body)
    assert 50_000 < len(body) <= 60_000
    assert missing > 0


def test_all_members_are_undone():
    assert decoded(gzip.compress(b"one ") + gzip.compress(b"two"), "gzip", 100) == (b"one two", 0, "")
    assert decoded(zstandard.compress(b"one ") + zstandard.compress(b"two"), "zstd", 100) == (b"one two", 0, "")


def test_what_stands_behind_the_members_is_left_out():
    assert decoded(gzip.compress(TEXT) + bytes(100), "gzip", 100_000).body == TEXT


def test_what_stands_behind_brotli_is_left_out():
    assert decoded(brotli.compress(TEXT) + b"more", "br", 100_000).body == TEXT


def test_a_window_nobody_needs_is_refused():
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=30)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = compressor.compress(TEXT) + compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    assert decoded(body, "zstd", 1000).problem == "broken_encoding"
