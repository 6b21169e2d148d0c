"""Pickles that are read and never unpickled: numpy's arrays of every protocol, and pickles made to do harm."""

from __future__ import annotations

import datetime
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffusion_env.data.batches import read_batch

DATA = np.random.default_rng(0).integers(0, 256, (20, 12), dtype=np.uint8)


class Harm:
    """A pickle of it runs a command."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("array", [DATA, np.asfortranarray(DATA)])
def test_what_pickle_writes_is_read(protocol: int, array: np.ndarray) -> None:
    batch = {
        b"data": array,
        b"labels": list(range(20)),
        b"batch_label": b"testing batch 1 of 1",
        "more": (1, None, True),
    }
    found = read_batch(pickle.dumps(batch, protocol), "a batch")
    assert set(found) == {"data", "labels", "batch_label", "more"}
    assert (
        np.array_equal(found["data"], DATA) and found["labels"] == list(range(20)) and found["more"] == (1, None, True)
    )


def test_what_python_2_wrote_is_read() -> None:
    head = b"\x80\x02}q\x01(U\x06labelsq\x02]q\x03(K\x06K\teU\x04dataq\x04cnumpy.core.multiarray\n_reconstruct\nq\x05"
    array = (
        b"cnumpy\nndarray\nq\x06K\x00\x85U\x01b\x87Rq\x07(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x08U\x02u1K\x00K\x01\x87R"
    )
    state = b"q\x09(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x06\x00\x01\x7f\x80\xfe\xfftbu."
    found = read_batch(head + array + state, "a batch")
    assert found["labels"] == [6, 9] and found["data"].tolist() == [[0, 1, 127], [128, 254, 255]]


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_nothing_is_imported_and_nothing_runs(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "ran"
    content = pickle.dumps({"data": Harm(mark)}, protocol)
    with pytest.raises(ValueError, match=r"the batch wants to import '(posix|nt) system', and nothing is imported"):
        read_batch(content, "the batch")
    assert not mark.exists()
    pickle.loads(content)  # negative control: it does harm where it is unpickled
    assert mark.exists()


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([1, 2], "holds a list and no dict"),
        ({"data": datetime.date(2020, 1, 1)}, "wants to import 'datetime date'"),
        ({"data": DATA.astype(np.float32)}, "holds an array of 'f4'"),
        ({"data": np.array([None])}, "holds an array of 'O8'"),
        ({3: DATA}, "has a key that is a int"),
        ({"data": 1.5}, "has the instruction BINFLOAT"),
        ({"data": {1, 2}}, "wants to import|has the instruction"),
    ],
)
def test_other_content_is_refused(batch: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"the batch ({message}).*Only plain values and uint8 arrays"):
        read_batch(pickle.dumps(batch, 2), "the batch")


def test_every_damaged_byte_is_a_batch_or_a_sentence() -> None:
    whole = pickle.dumps({"data": DATA[:2], "labels": [1, 2]}, 2)
    refused = 0
    for position in range(len(whole)):
        for content in (whole[:position], whole[:position] + bytes([whole[position] ^ 0x5A]) + whole[position + 1 :]):
            try:
                read_batch(content, "the batch")
            except ValueError as error:
                assert "the batch" in str(error)
                refused += 1
    assert refused > len(whole)  # every cut, and some of the changes
