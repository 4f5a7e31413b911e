"""Files as somebody might send them who means harm, or whose line broke: made from good ones."""

from collections.abc import Callable, Iterator

import numpy as np

Mutation = Callable[[np.random.Generator, bytes], bytes]
WORDS = (
    b"nan", b"-1", b"0", b"99999999999999999999", b"1e400", b"\0", b"\xff\xfe", b"../../x", b"%s%n",
    b"\r\n", b"\t\t\t", b"{}", b"[[[[", b"\"", b"none", b"data file: /etc/passwd\n", b"\x1f\x8b",
)  # fmt: skip


def flip(rng: np.random.Generator, content: bytes) -> bytes:
    """Some bits are others."""
    changed = bytearray(content)
    for at in rng.integers(0, len(changed), size=int(rng.integers(1, 9))):
        changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def cut(rng: np.random.Generator, content: bytes) -> bytes:
    """The end is missing."""
    return content[: int(rng.integers(0, len(content)))]


def grow(rng: np.random.Generator, content: bytes) -> bytes:
    """Noise behind the end."""
    return content + rng.bytes(int(rng.integers(1, 400)))


def splice(rng: np.random.Generator, content: bytes) -> bytes:
    """A word of mischief, in place of what was there or pushed in."""
    at = int(rng.integers(0, min(len(content), 600)))
    word = WORDS[int(rng.integers(len(WORDS)))]
    return content[:at] + word + content[at + len(word) * int(rng.integers(2)) :]


def header(rng: np.random.Generator, content: bytes) -> bytes:
    """Noise in the first bytes, where formats tell sizes and types."""
    at, length = int(rng.integers(0, 340)), int(rng.integers(1, 9))
    return content[:at] + rng.bytes(length) + content[at + length :]


MUTATIONS: tuple[Mutation, ...] = (flip, cut, grow, splice, header)


def mutated(content: bytes, *, count: int, seed: int) -> Iterator[bytes]:
    """`count` variants of a good file, the same for the same seed."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        changed = content
        for _ in range(int(rng.integers(1, 4))):
            if changed:
                changed = MUTATIONS[int(rng.integers(len(MUTATIONS)))](rng, changed)
        yield changed if number else b""
