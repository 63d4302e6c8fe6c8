"""agent.sources.ebpf.pathfilter: the kernel's comparisons and our own choose the same paths."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sources.ebpf.config import EbpfConfig
from agent.sources.ebpf.pathfilter import LONGEST, PathFilter, beginning, ending


def words_of(path: bytes) -> dict[str, int]:
    """What programs/files.c compares: the first and the last sixteen bytes of the text, with zeros before it."""
    text = path + bytes(32)
    end = bytes(16) + path
    return {
        "first": int.from_bytes(text[:8], "little"),
        "second": int.from_bytes(text[8:16], "little"),
        "last": int.from_bytes(end[-8:], "little"),
        "before": int.from_bytes(end[-16:-8], "little"),
    }


def evaluated(c_text: str, path: str) -> bool:
    """A comparison in C, as a C compiler would have it."""
    python = c_text.replace("ULL", "").replace("&&", "and").replace("||", "or")
    return bool(eval(python, {}, words_of(path.encode())))


def kernel_tells(paths: PathFilter, path: str, *, is_write: bool) -> bool:
    found = dict(re.findall(r"#define (\w+) (.+)", paths.defines()))
    names = ["FILTER_FIRST", "FILTER_LAST", *(["FILTER_WRITTEN"] if is_write else [])]
    return any(evaluated(found[name], path) for name in names)


@pytest.mark.parametrize(
    ("text", "path", "fits"),
    [
        ("/tmp/", "/tmp/x", True),
        ("/tmp/", "/tmp", False),
        ("/tmp/", "/tmpx/", False),
        ("/dev/shm", "/dev/shm", True),  # eight bytes: one word
        ("/var/tmp/", "/var/tmp/x", True),  # nine: two words
        ("/var/tmp/", "/var/tmp", False),
        ("/sixteen-bytes/1", "/sixteen-bytes/1", True),
        ("/sixteen-bytes/1", "/sixteen-bytes/2", False),
        ("/é", "/é/x", True),
    ],
)
def test_beginnings(text, path, fits):
    assert evaluated(beginning(text), path) is fits


@pytest.mark.parametrize(
    ("text", "path", "fits"),
    [
        ("/shadow", "/etc/shadow", True),
        ("/shadow", "/etc/shadow-", False),
        ("/shadow", "shadow", False),
        (".pem", "/x.pem", True),
        (".pem", ".pem", True),
        (".pem", "pem", False),
        ("credentials.json", "/a/credentials.json", True),  # sixteen
        ("credentials.json", "redentials.json", False),
        ("/Login Data", "/home/a/Login Data", True),
        ("é.key", "/é.key", True),
    ],
)
def test_endings(text, path, fits):
    assert evaluated(ending(text), path) is fits


@pytest.mark.parametrize("text", ["", "x" * 17, "é" * 9, "a\0b"])
def test_a_text_that_the_kernel_cannot_compare_is_refused(text):
    with pytest.raises(ValueError):
        beginning(text)
    with pytest.raises(ValueError):
        ending(text)


def test_a_refusal_says_what_fits():
    with pytest.raises(ValueError, match="has 17 bytes; a beginning or ending of a path has 1 to 16"):
        ending("x" * 17)


def test_empty_lists_choose_nothing():
    paths = PathFilter((), (), ())
    assert not kernel_tells(paths, "/etc/shadow", is_write=True)
    assert not paths.is_told("/etc/shadow", is_write=True)


def test_what_is_written_is_told_in_more_places():
    paths = PathFilter(("/tmp/",), ("/etc/",), (".key",))
    assert paths.is_told("/etc/cron.d/x", is_write=True)
    assert not paths.is_told("/etc/cron.d/x", is_write=False)
    assert kernel_tells(paths, "/etc/cron.d/x", is_write=True)
    assert not kernel_tells(paths, "/etc/cron.d/x", is_write=False)


PIECES = st.sampled_from(
    [*"/.ab", "tmp", "etc", "/tmp/", "/etc/", "shadow", "/shadow", ".pem", ".key", "credentials.json", "é", " "]
)
TEXTS = st.lists(PIECES, min_size=1, max_size=6).map("".join).filter(lambda text: len(text.encode()) <= LONGEST)
PATHS = st.lists(PIECES, max_size=12).map(lambda parts: "/" + "".join(parts))


@given(st.lists(TEXTS, max_size=5), st.lists(TEXTS, max_size=5), st.lists(TEXTS, max_size=5), PATHS, st.booleans())
def test_both_sides_choose_the_same_absolute_paths(beginnings, written, endings, path, is_write):
    paths = PathFilter(beginnings, written, endings)
    assert kernel_tells(paths, path, is_write=is_write) == paths.is_told(path, is_write=is_write)


@given(PATHS, st.booleans())
def test_both_sides_choose_the_same_paths_by_default(path, is_write):
    paths = EbpfConfig().paths
    assert kernel_tells(paths, path, is_write=is_write) == paths.is_told(path, is_write=is_write)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/shadow",
        "/root/.ssh/id_ed25519",
        "/root/.aws/credentials",
        "/home/a/.kube/config",
        "/root/.docker/config.json",
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
        "/run/secrets/db-password",
        "/proc/1/environ",
        "/proc/1/mem",
        "/models/llama.safetensors",
        "/models/llama.gguf",
        "/root/.bash_history",
        "/app/.env",
        "/root/.config/gcloud/application_default_credentials.json",
        "/root/.cache/huggingface/token",
        "/var/run/docker.sock",
        "/etc/kubernetes/admin.conf",
    ],
)
def test_telling_paths_are_told_when_they_are_read(path):
    assert EbpfConfig().paths.is_told(path, is_write=False)


@pytest.mark.parametrize(
    "path",
    ["/usr/lib/x86_64-linux-gnu/libc.so.6", "/etc/ld.so.cache", "/app/main.py", "/proc/self/stat", "/dev/null"],
)
def test_ordinary_paths_are_not_told_when_they_are_read(path):
    assert not EbpfConfig().paths.is_told(path, is_write=False)
