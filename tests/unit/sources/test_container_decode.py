"""agent.sources.containerlogs.decode, .grouping, .assembly, .paths: lines to records to groups."""

import pytest

from agent.model import DecodeError
from agent.sources.containerlogs.assembly import Assembly
from agent.sources.containerlogs.decode import Joiner, parse_cri, parse_docker
from agent.sources.containerlogs.grouping import Grouper
from agent.sources.containerlogs.paths import matches, parse_path

T = b"2026-11-23T10:00:00.123456789Z"


def lines_of(assembly, *lines):
    groups = []
    for number, line in enumerate(lines, 1):
        got = assembly.feed(line, number)
        groups += got if isinstance(got, list) else []
    return [group.text for group in groups + assembly.flush()]


def test_a_partial_line_waits_for_its_end():
    joiner = Joiner(limit_bytes=1024)
    assert joiner.feed(parse_cri(T + b" stdout P hel"), 1) is None
    assert joiner.feed(parse_cri(T + b" stdout F lo"), 2).content == b"hello"


def test_streams_of_one_container_are_joined_apart():
    assembly = Assembly("cri")
    lines = (T + b" stdout P card 4111 11", T + b" stderr F noise", T + b" stdout F 11 1111 1111")
    assert sorted(lines_of(assembly, *lines)) == ["card 4111 1111 1111 1111", "noise"]


def test_a_cut_inside_a_character_is_healed():
    whole = "Jürgen".encode()
    assembly = Assembly("cri")
    assert lines_of(assembly, T + b" stdout P " + whole[:2], T + b" stdout F " + whole[2:]) == ["Jürgen"]


def test_a_group_that_never_ends_is_cut_and_said_so():
    joiner = Joiner(limit_bytes=100)
    records = [joiner.feed(parse_cri(T + b" stdout P " + b"x" * 30), number) for number in range(4)]
    assert [record is None for record in records] == [True, True, True, False]
    assert records[3].is_truncated
    assert joiner.oldest_mark is None


def test_flushing_gives_unfinished_parts_as_cut():
    joiner = Joiner()
    joiner.feed(parse_cri(T + b" stdout P half"), 7)
    assert joiner.oldest_mark == 7
    (record,) = joiner.flush()
    assert (record.content, record.is_truncated) == (b"half", True)


@pytest.mark.parametrize(
    ("line", "stream", "content", "partial"),
    [
        (T + b" stdout F hello", "stdout", b"hello", False),
        (T + b" stderr P:x hello", "stderr", b"hello", True),
        (b"2026-11-23T10:00:00.1+01:00 stdout F x", "stdout", b"x", False),
        (T + b" stdout F ", "stdout", b"", False),
        (T + b" stdout F", "stdout", b"", False),
        (T + b" stdout F  two blanks", "stdout", b" two blanks", False),
    ],
)
def test_cri_lines(line, stream, content, partial):
    part = parse_cri(line)
    assert (part.stream, part.content, part.is_partial) == (stream, content, partial)
    assert part.time_unix_nano > 0


@pytest.mark.parametrize("line", [b"", b"hello", b"2026-11-23 stdout F x", T + b" stdmid F x", b"\xff\xfe", T])
def test_what_is_no_cri_line_is_a_named_error(line):
    assert isinstance(parse_cri(line), DecodeError)


def test_docker_lines_join_until_the_line_break():
    assembly = Assembly("docker")
    first = b'{"log":"a \\u003cb","stream":"stdout","time":"2026-01-15T10:00:00.000000001Z"}'
    second = b'{"log":"c\\n","stream":"stdout","time":"2026-01-15T10:00:00.000000002Z"}'
    assert lines_of(assembly, first, second) == ["a <bc"]


@pytest.mark.parametrize("line", [b"", b"{}", b"[1]", b'{"log": 1}', b"nonsense"])
def test_what_is_no_docker_line_is_a_named_error(line):
    assert isinstance(parse_docker(line), DecodeError)


def cri(*contents):
    return [T + b" stderr F " + content for content in contents]


@pytest.mark.parametrize(
    ("contents", "groups"),
    [
        ([b"one", b"two"], ["one", "two"]),
        (
            [b"-----BEGIN RSA PRIVATE KEY-----", b"MIIB", b"-----END RSA PRIVATE KEY-----", b"next"],
            ["-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----", "next"],
        ),
        (
            [b"Traceback (most recent call last):", b'  File "a.py"', b"    x()", b"ValueError: bad", b"next"],
            ['Traceback (most recent call last):\n  File "a.py"\n    x()\nValueError: bad', "next"],
        ),
        (
            [b"java.lang.X: y", b"\tat a.b(C.java:1)", b"Caused by: z", b"\t... 3 more", b"next"],
            ["java.lang.X: y\n\tat a.b(C.java:1)\nCaused by: z\n\t... 3 more", "next"],
        ),
        (
            [b"result={", b' "a": "}",', b' "b": [1', b" ]", b"}", b"next"],
            ['result={\n "a": "}",\n "b": [1\n ]\n}', "next"],
        ),
    ],
)
def test_lines_that_belong_together_are_one_text(contents, groups):
    assert lines_of(Assembly("cri"), *cri(*contents)) == groups


def test_a_group_is_bounded_in_lines():
    grouper = Grouper(limit_lines=10)
    joiner = Joiner()
    groups = []
    for number, line in enumerate(cri(b"-----BEGIN PRIVATE KEY-----", *[b"AAAA"] * 30)):
        groups += grouper.feed(joiner.feed(parse_cri(line), number))
    assert max(len(group.marks) for group in groups) == 10


def test_the_oldest_mark_is_where_to_read_again():
    assembly = Assembly("cri")
    assembly.feed(T + b" stdout F waits for its successor", 100)
    assembly.feed(T + b" stderr P waits for its end", 200)
    assert assembly.oldest_mark == 100
    assembly.flush_groups()
    assert assembly.oldest_mark == 200
    assert assembly.has_unfinished_parts


UID = "2f6d8f0e-1c55-4d1e-9a53-0a1b2c3d4e5f"


def test_a_pod_files_path_names_its_container():
    place = parse_path(f"/var/log/pods/llm-prod_bot-0_{UID}/app/3.log", "node-1")
    assert (place.resource.namespace, place.resource.pod, place.resource.container) == ("llm-prod", "bot-0", "app")
    assert (place.resource.pod_uid, place.resource.node, place.restart) == (UID, "node-1", 3)


def test_files_sort_from_oldest_to_newest():
    base = f"/var/log/pods/n_p_{UID}/app/"
    names = ["1.log", "0.log", "0.log.20260115-100000", "0.log.20260115-095000.gz", "1.log.20260116-000000"]
    ordered = sorted(names, key=lambda name: parse_path(base + name).order)
    assert ordered == ["0.log.20260115-095000.gz", "0.log.20260115-100000", "0.log", "1.log.20260116-000000", "1.log"]


@pytest.mark.parametrize(
    "name", ["0.log.20260115-095000.tmp", "x.log", "0.log.gz.tmp", "notes.txt", "0.log.20260115", "-json.log"]
)
def test_other_files_are_no_container_logs(name):
    assert parse_path(f"/var/log/pods/n_p_{UID}/app/{name}") is None


def test_links_and_docker_files_are_known():
    link = parse_path(f"/var/log/containers/bot-0_llm-prod_app-{'ab' * 32}.log")
    assert (link.resource.pod, link.resource.container_id) == ("bot-0", "ab" * 32)
    docker = parse_path(f"/var/lib/docker/containers/{'cd' * 32}/{'cd' * 32}-json.log.2.gz")
    assert (docker.log_format, docker.resource.container_id, docker.is_compressed) == ("docker", "cd" * 32, True)


def test_patterns_know_wildcards():
    assert matches(("llm-*", "x"), "llm-prod")
    assert not matches(("llm-?",), "llm-prod")
