"""Archives made to do harm, and damaged ones: a sentence each, nothing unpickled, no memory taken on a promise."""

import io
import os
import resource
import struct
import zipfile

import numpy as np
import pytest

from diffusion_env.data.archives import MAX_EXPANSION, read_npz

POINTS = np.random.default_rng(0).normal(size=(40, 2))


def npy(shape: str, content: bytes, descr: str = "'<f8'", version: bytes = b"\x01\x00") -> bytes:
    """A .npy file with a header of one's own."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + content


def archive(folder, content: bytes, compression: int = zipfile.ZIP_STORED, name: str = "x.npy"):
    path = folder / "data.npz"
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr(name, content)
    return path


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(tmp_path, write, order):
    points = np.asarray(POINTS, order=order)
    write(tmp_path / "data.npz", x=points, labels=np.arange(40))
    assert np.array_equal(read_npz(tmp_path / "data.npz"), POINTS)


@pytest.mark.parametrize("shape", ["(1000000000, 2)", "(41, 2)", "(-1, 2)", "(39, 2)", "(2**40,)"])
def test_a_shape_that_the_bytes_do_not_bear_out_is_refused(tmp_path, shape):
    path = archive(tmp_path, npy(shape, POINTS.tobytes()))
    with pytest.raises(ValueError, match=r"promises shape|cannot be read"):
        read_npz(path)


def test_a_promise_takes_no_memory(tmp_path):
    path = archive(tmp_path, npy("(1000000000000,)", b"few"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="8000000000000 bytes, but 3 bytes follow"):
        read_npz(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_a_member_that_expands_a_thousandfold_is_refused(tmp_path):
    zeros = io.BytesIO()
    np.save(zeros, np.zeros((1_000_000, 2)))
    path = archive(tmp_path, zeros.getvalue(), zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=rf"expands from \d+ to 16000128 bytes; at most {MAX_EXPANSION} times"):
        read_npz(path)
    archive(tmp_path, zeros.getvalue())
    assert read_npz(path).shape == (1_000_000, 2)  # as large, but all of it is there


@pytest.mark.parametrize(("method", "number"), [(zipfile.ZIP_LZMA, 14), (zipfile.ZIP_BZIP2, 12)])
def test_other_compressions_are_refused(tmp_path, method, number):
    path = archive(tmp_path, npy("(40, 2)", POINTS.tobytes()), method)
    with pytest.raises(ValueError, match=f"compression method {number}; only stored and deflated"):
        read_npz(path)


def test_an_unknown_compression_is_refused(tmp_path):
    path = archive(tmp_path, npy("(40, 2)", POINTS.tobytes()))
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 10] = 99
    path.write_bytes(content)
    with pytest.raises(ValueError, match="compression method 99"):
        read_npz(path)


def test_encrypted_members_are_refused(tmp_path):
    path = archive(tmp_path, npy("(40, 2)", POINTS.tobytes()))
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is encrypted"):
        read_npz(path)


@pytest.mark.parametrize(
    "content",
    [
        npy("(40, 2)", POINTS.tobytes(), version=b"\x07\x00"),
        npy("(40, " * 500, b""),
        npy("('a', 2)", POINTS.tobytes()),
        npy("(40, 2)", POINTS.tobytes(), descr="'no such type'"),
        b"no array at all",
        b"",
    ],
)
def test_members_that_are_no_arrays_are_refused(tmp_path, content):
    with pytest.raises(ValueError, match=r"array 'x' of .*data\.npz .*numpy\.savez") as caught:
        read_npz(archive(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_python_objects_are_never_unpickled(tmp_path):
    path = archive(tmp_path, npy("(1,)", b"cos\nsystem\n(S'false'\ntR.", descr="'|O'"))
    with pytest.raises(ValueError, match="holds Python objects"):
        read_npz(path)


def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "data.npz")
    with pytest.raises(ValueError, match="not a regular file"):
        read_npz(tmp_path / "data.npz")


def test_every_damaged_byte_is_an_array_or_a_sentence(tmp_path):
    np.savez_compressed(tmp_path / "data.npz", x=POINTS)
    whole = (tmp_path / "data.npz").read_bytes()
    refused = 0
    for position in range(len(whole)):
        (tmp_path / "data.npz").write_bytes(whole[:position] + bytes([whole[position] ^ 0x5A]) + whole[position + 1 :])
        try:
            read_npz(tmp_path / "data.npz")
        except ValueError:
            refused += 1
    assert refused > 0.8 * len(whole)
