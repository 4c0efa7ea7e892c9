"""Other people's pickles are read only as far as they are arrays."""

import builtins
import collections
import fractions
import os
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lightcnn.datasets.pickles import read_pickled_arrays
from lightcnn.errors import DataError

PROTOCOLS = range(6)

# What Python 2 and NumPy 1 write (protocol 2) for {"data": [[1, 2], [3, 200]], "labels": [6, 9], "name": "caf\\xe9"}.
PYTHON_2 = (
    b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05"
    b"(K\x01K\x02K\x02\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
    b"K\x00tb\x89U\x04\x01\x02\x03\xc8tbU\x06labels]q\x08(K\x06K\x09eU\x04nameU\x04caf\xe9u."
)


class Call:
    """Pickles to a call of `function`."""

    def __init__(self, function, *arguments):
        self.called = (function, arguments)

    def __reduce__(self):
        return self.called


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.uint8).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(10, dtype=np.int64)[::3],
        np.array([1.5, -2.0], ">f4"),
        np.array([True, False]),
    ],
    ids=["uint8", "fortran", "strided", "big endian", "bool"],
)
def test_numeric_arrays_of_every_protocol_are_read(protocol, array):
    read = read_pickled_arrays(pickle.dumps({"data": array}, protocol))["data"]
    assert (read.dtype.kind, read.dtype.itemsize) == (array.dtype.kind, array.dtype.itemsize)
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("arguments", [((1,), "O", b"A" * 8), ((4096,), "u1", b"x", -65536), ((1,), "u1")])
def test_an_array_is_not_made_by_a_call(protocol, arguments):
    """NumPy would follow the bytes as addresses, or read before them."""
    with pytest.raises(DataError, match="pickle"):
        read_pickled_arrays(pickle.dumps(Call(np.ndarray, *arguments), protocol))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_containers_of_every_protocol_are_read(protocol):
    content = {
        "labels": [1, 2, 300],
        "names": ("a", "é猫"),
        "share": 0.25,
        "none": None,
        "yes": True,
        "raw": b"\x00\xff",
    }
    assert read_pickled_arrays(pickle.dumps(content, protocol)) == content


@given(hnp.arrays(hnp.integer_dtypes() | hnp.floating_dtypes(), hnp.array_shapes()), st.integers(0, 5))
def test_any_numeric_array_comes_back(array, protocol):
    np.testing.assert_array_equal(read_pickled_arrays(pickle.dumps(array, protocol)), array)


def test_what_python_2_wrote_is_read():
    read = read_pickled_arrays(PYTHON_2)
    assert read["labels"] == [6, 9]
    assert read["name"] == "café"
    assert read["data"].dtype == np.uint8
    assert read["data"].tolist() == [[1, 2], [3, 200]]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_os_system_is_refused_and_does_not_run(tmp_path, protocol):
    marker = tmp_path / "marker"
    content = pickle.dumps([Call(os.system, f"touch {marker}"), np.arange(3)], protocol)
    with pytest.raises(DataError, match=r"refused: it asks for \w+\.system"):
        read_pickled_arrays(content)
    assert not marker.exists()
    pickle.loads(content)  # noqa: S301
    assert marker.exists()  # so it would have


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ["eval", "exec", "getattr", "__import__", "open"])
def test_builtins_are_refused(protocol, name):
    content = pickle.dumps(Call(getattr(builtins, name), "1"), protocol)
    with pytest.raises(DataError, match=rf"refused: it asks for \w+\.{name}"):
        read_pickled_arrays(content)


@pytest.mark.parametrize(
    "foreign",
    [fractions.Fraction(1, 3), collections.OrderedDict(a=1), np.random.default_rng(0), np.save],
    ids=["class", "standard library", "numpy object", "numpy function"],
)
def test_objects_are_refused_alone_and_inside_object_arrays(foreign):
    array = np.empty(1, object)
    array[0] = foreign
    with pytest.raises(DataError, match="refused: it asks for"):
        read_pickled_arrays(pickle.dumps(foreign))
    with pytest.raises(DataError, match="refused"):
        read_pickled_arrays(pickle.dumps(array))


@pytest.mark.parametrize(
    "array",
    [np.array(["text", 1], object), np.zeros(2, "u1,f4"), np.array(["text"]), np.zeros(2, "M8[s]")],
    ids=["object", "structured", "text", "time"],
)
def test_arrays_that_are_not_numeric_are_refused(array):
    with pytest.raises(DataError, match="refused"):
        read_pickled_arrays(pickle.dumps(array))


def test_a_dtype_that_lies_about_itself_makes_no_array_of_pointers():
    # A pickle can state a dtype's flags. Objects without the flag "these are pointers" take their addresses from the
    # file (here 0x4141414141414141), and looking at one ends the process, or worse.
    lying = PYTHON_2.replace(b"U\x02u1K\x00K\x01", b"U\x02O8K\x00K\x01").replace(
        b"U\x04\x01\x02\x03\xc8", b"U\x20" + b"A" * 32
    )
    with pytest.raises(DataError, match="refused"):
        read_pickled_arrays(lying)


def test_a_name_with_dots_does_not_lead_around_the_list():
    reaching = b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93."
    with pytest.raises(DataError, match="refused"):
        read_pickled_arrays(reaching)


def test_the_encoder_of_old_bytes_encodes_nothing_else():
    with pytest.raises(DataError, match="rot13"):
        read_pickled_arrays(b"\x80\x02c_codecs\nencode\nX\x03\x00\x00\x00abcX\x05\x00\x00\x00rot13\x86R.")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80",
        b"no pickle at all",
        b"\x89PNG\r\n\x1a\n",
        b"\x80\x02.",
        PYTHON_2[:-1],
        PYTHON_2[:80],
        PYTHON_2.replace(b"U\x02u1", b"U\x02zz"),
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.",
    ],
)
def test_a_damaged_pickle_is_a_data_error(content):
    with pytest.raises(DataError, match="the pickle is"):
        read_pickled_arrays(content)


@given(st.binary(max_size=40), st.integers(0, len(PYTHON_2)))
def test_no_damage_gives_another_error(noise, start):
    damaged = PYTHON_2[:start] + noise + PYTHON_2[start + len(noise) :]
    try:
        read_pickled_arrays(damaged)
    except DataError as error:
        assert "the pickle is" in str(error)
