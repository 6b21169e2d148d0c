"""Read one array out of a user's ``.npz`` file, which may be damaged or made to do harm.

Nothing is unpickled. The size that a member promises is compared with its bytes before any memory is taken for it, so
the memory needed is at most `MAX_EXPANSION` times the size of the file.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

NPZ_KEYS = ("x", "data", "images", "arr_0")
SUFFIX = ".npy"
COMPRESSIONS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
"""What numpy.savez and numpy.savez_compressed write."""
MAX_EXPANSION = 200
"""A compressed member may be this many times smaller than its content; real points and images stay below 20."""
HOW_TO_WRITE = "Write it with numpy.savez(path, x=array)."


def read_npz(path: Path) -> NDArray[Any]:
    """The only array of a ``.npz`` file, or the first named as in `NPZ_KEYS`.

    Raises ValueError that says what is wrong with the file and how to write a good one.
    """
    with _opened(path) as archive:
        member = _chosen(archive, path)
        _check_member(member, path)
        try:
            with archive.open(member) as file:
                return _read_array(file, member, path)
        except _Refused:
            raise
        # Damaged content makes zipfile, zlib and numpy raise many kinds of errors; none of them is a fault of ours.
        except Exception as error:
            raise ValueError(
                f"The array {_key(member)!r} of {path} cannot be read ({error}): the file is damaged. {HOW_TO_WRITE}"
            ) from error


class _Refused(ValueError):
    """A complaint that is worded already."""


def _opened(path: Path) -> zipfile.ZipFile:
    if not path.is_file():
        raise ValueError(f"{path} is not a regular file, so it is not read. {HOW_TO_WRITE}")
    try:
        with path.open("rb") as file:
            if file.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
                raise _Refused(f"{path} is a single .npy array, not a .npz archive. {HOW_TO_WRITE}")
        return zipfile.ZipFile(path)
    except (OSError, EOFError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        if isinstance(error, _Refused):
            raise
        raise ValueError(f"{path} cannot be opened as a .npz archive ({error}). {HOW_TO_WRITE}") from error


def _chosen(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    members = archive.infolist()
    if len(members) == 1:
        return members[0]
    keys = [_key(member) for member in members]
    named = [key for key in NPZ_KEYS if key in keys]
    if not named:
        raise ValueError(
            f"{path} holds {len(keys)} arrays ({', '.join(keys) or 'none'}) and it is unclear which is the "
            f"data. Keep one array in the file, or name the data one of {', '.join(NPZ_KEYS)}."
        )
    return members[keys.index(named[0])]


def _key(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(SUFFIX)


def _check_member(member: zipfile.ZipInfo, path: Path) -> None:
    """Refuse, before anything is expanded, what numpy does not write."""
    if member.flag_bits & 1:
        raise ValueError(
            f"The array {_key(member)!r} of {path} is encrypted; encrypted data are not read. {HOW_TO_WRITE}"
        )
    if member.compress_type not in COMPRESSIONS:
        raise ValueError(
            f"The array {_key(member)!r} of {path} has compression method {member.compress_type}; only "
            f"{' and '.join(COMPRESSIONS.values())} members are read. {HOW_TO_WRITE}"
        )
    if member.file_size > MAX_EXPANSION * max(member.compress_size, 1):
        raise ValueError(
            f"The array {_key(member)!r} of {path} expands from {member.compress_size} to {member.file_size} bytes; at "
            f"most {MAX_EXPANSION} times as many are read, for such files are made to fill the memory. "
            "If the data are really that uniform, write them with numpy.savez, which does not compress."
        )


def _read_array(file: IO[bytes], member: zipfile.ZipInfo, path: Path) -> NDArray[Any]:
    """The array of an open member; its header must promise as many bytes as follow it."""
    version = npy.read_magic(file)
    read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read_header is None:
        raise _Refused(f"The array {_key(member)!r} of {path} has .npy version {version}. {HOW_TO_WRITE}")
    shape, fortran_order, dtype = read_header(file)
    if dtype.hasobject:
        raise _Refused(
            f"The array {_key(member)!r} of {path} holds Python objects. Only plain numbers are read, never pickled "
            "objects: write the file with numpy.savez(path, x=array) from a float32 or uint8 array."
        )
    promised, there = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
    if min(shape, default=0) < 0 or promised != there:
        raise _Refused(
            f"The array {_key(member)!r} of {path} promises shape {shape} of {dtype}, {promised} bytes, but {there} "
            f"bytes follow: the file is damaged. {HOW_TO_WRITE}"
        )
    flat = np.frombuffer(file.read(promised), dtype)
    return flat.reshape(shape, order="F" if fortran_order else "C")
