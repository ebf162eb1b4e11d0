from __future__ import annotations

import pytest

from vgpumonitor.web.app import CHUNK, chunks


@pytest.mark.parametrize(
    "sizes",
    [(), (0,), (1,), (CHUNK,), (CHUNK - 1, 1), (CHUNK - 1, 2), (3 * CHUNK + 5,), (7000,) * 40],
)
def test_pieces_are_cut_into_chunks_of_one_size(sizes: tuple[int, ...]) -> None:
    pieces = [bytes([place % 251 for place in range(size)]) for size in sizes]
    cut = list(chunks(pieces))
    assert b"".join(cut) == b"".join(pieces)
    assert [len(each) for each in cut[:-1]] == [CHUNK] * (len(cut) - 1)
    assert all(0 < len(each) <= CHUNK for each in cut)
