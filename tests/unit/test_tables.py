"""Tables: `arena.put(table)`, `block.table`, and what looks at the Block's bytes without a copy."""

import asyncio
import decimal
import io
import pickle
import subprocess
import sys

import numpy as np
import pytest

import flagstone

# Not every interpreter has them; .venv does.
pa = pytest.importorskip("pyarrow")
pl = pytest.importorskip("polars")
pd = pytest.importorskip("pandas")
import flagstone.arrow  # noqa: E402

ROWS = 1000


@pytest.fixture
def arena(arena_name):
    with flagstone.open(arena_name, capacity="64MiB") as arena:
        yield arena


def arrow_table(rows=ROWS):
    return pa.table(
        {
            "number": pa.array(range(rows), pa.int64()),
            "real": pa.array([None if n % 7 == 0 else n / 3 for n in range(rows)]),
            "flag": pa.array([n % 3 == 0 for n in range(rows)]),
            "when": pa.array(range(rows), pa.timestamp("us", "UTC")),
            "money": pa.array([decimal.Decimal(n) for n in range(rows)], pa.decimal128(20, 2)),
            "short": pa.array([str(n) for n in range(rows)]),
            "large": pa.array([f"{n} is a number" for n in range(rows)], pa.large_string()),
            "view": pa.array([f"{n} has more than twelve" for n in range(rows)], pa.string_view()),
            "kind": pa.array(["ab"[n % 2] for n in range(rows)]).dictionary_encode(),
            "list": pa.array([[n, n + 1] for n in range(rows)], pa.large_list(pa.int32())),
            "pair": pa.array([{"a": n, "b": str(n)} for n in range(rows)]),
            "none": pa.nulls(rows),
        },
        metadata={"made": "here"},
    )


def buffers_of(column):
    """Its buffers that hold anything, of all chunks."""
    if isinstance(column, pa.Array):
        chunks = [column]
    else:
        chunks = column.chunks
    for chunk in chunks:
        yield from (one for one in chunk.buffers() if one is not None and one.size)
        if isinstance(chunk, pa.DictionaryArray):
            yield from buffers_of(chunk.dictionary)


def lies_in(block, address):
    return block._address <= address < block._address + block.nbytes


def all_in_place(block, column):
    """Whether each of its buffers lies in the Block: not one byte was copied."""
    found = [lies_in(block, one.address) for one in buffers_of(column)]
    return bool(found) and all(found)


def looks_at(block, array):
    return lies_in(block, array.__array_interface__["data"][0])


# ---- in and out


def test_a_table_comes_back(arena):
    table = arrow_table()
    block = arena.put(table)
    assert block.table.equals(table, check_metadata=True)
    assert flagstone.arrow.table(block).equals(table)
    assert pa.table(block).equals(table)


def test_every_column_lies_in_the_block(arena):
    block = arena.put(arrow_table())
    table = block.table
    for name in table.column_names:
        if name != "none":
            assert all_in_place(block, table[name]), name
    for name in pa.table(block).column_names:
        if name != "none":
            assert all_in_place(block, pa.table(block)[name]), name


def test_nothing_of_it_can_be_written(arena):
    block = arena.put(arrow_table())
    table = block.table
    for name in table.column_names:
        assert not any(one.is_mutable for one in buffers_of(table[name]))
    assert not table["number"].chunk(0).to_numpy().flags.writeable


def test_polars(arena):
    frame = pl.DataFrame(
        {
            "number": range(ROWS),
            "text": [f"{n} has more than twelve" for n in range(ROWS)],
            "kind": pl.Series(["ab"[n % 2] for n in range(ROWS)], dtype=pl.Categorical),
            "list": [[n] for n in range(ROWS)],
        }
    )
    block = arena.put(frame)
    found = pl.DataFrame(block)
    assert found.equals(frame)
    assert found.schema == frame.schema
    back = found.to_arrow(compat_level=pl.CompatLevel.newest())
    for name in ("number", "text", "list"):
        assert all_in_place(block, back[name]), name
    # As the page says: it maps categories into its own.
    assert not lies_in(block, next(buffers_of(back["kind"])).address)


def test_polars_copies_the_views_of_other_strings_only(arena):
    """32-bit offsets of strings and lists become polars' own; with strings="view" nothing is."""
    table = arrow_table().select(["short", "large", "view", "number", "real", "flag", "when"])
    for strings, copied in ((None, {"short", "large"}), ("view", set()), ("large", {"view"})):
        block = arena.put(table, strings=strings)
        back = pl.DataFrame(block).to_arrow(compat_level=pl.CompatLevel.newest())
        found = {name for name in back.column_names if not all_in_place(block, back[name])}
        assert found - {"short", "large"} <= copied, strings
        assert copied <= found, strings


def test_pandas(arena):
    frame = pd.DataFrame(
        {
            "number": range(ROWS),
            "real": np.arange(ROWS) / 3,
            "text": [f"text {n}" for n in range(ROWS)],
            "kind": pd.Categorical(["ab"[n % 2] for n in range(ROWS)]),
        },
        index=pd.Index(range(5, ROWS + 5), name="key"),
    )
    block = arena.put(frame)
    pd.testing.assert_frame_equal(block.table.to_pandas(use_threads=False), frame)


def test_pandas_in_place(arena):
    block = arena.put(arrow_table())
    frame = block.table.to_pandas(types_mapper=pd.ArrowDtype, use_threads=False)
    for name in frame.columns:
        if name != "none":
            assert all_in_place(block, frame[name].array.__arrow_array__()), name
    # Without nulls, numbers are NumPy's, and in place where pandas makes no common array of them.
    apart = block.table.select(["number", "when"]).to_pandas(split_blocks=True, use_threads=False)
    assert looks_at(block, apart["number"].to_numpy())
    together = block.table.select(["number", "when"]).to_pandas(use_threads=False)
    assert not looks_at(block, together["number"].to_numpy())


def test_the_strings_of_pandas_are_in_place_with_large(arena):
    table = arrow_table().select(["short", "view"])
    block = arena.put(table, strings="large")
    frame = block.table.to_pandas(use_threads=False)
    if str(frame["short"].dtype) != "str":
        pytest.skip("this pandas makes objects of strings")
    for name in frame.columns:
        assert all_in_place(block, frame[name].array.__arrow_array__()), name


def test_numpy_looks_at_a_column(arena):
    block = arena.put(arrow_table())
    column = block.table["number"].chunk(0).to_numpy()
    assert looks_at(block, column)
    assert column.sum() == sum(range(ROWS))


def test_strings_in_other_types(arena):
    pair = pa.struct([("a", pa.string()), ("b", pa.list_(pa.large_string()))])
    table = pa.table(
        {
            "list": pa.array([["a"], None], pa.list_(pa.string())),
            "large list": pa.array([["a"], None], pa.large_list(pa.string_view())),
            "fixed": pa.array([["a", "b"], None], pa.list_(pa.string(), 2)),
            "pair": pa.array([{"a": "x", "b": ["y"]}, None], pair),
            "kind": pa.array(["a", "b"]).dictionary_encode(),
            "bytes": pa.array([b"a", None]),
            "number": pa.array([1, 2]),
        }
    )
    for strings, text, data in (
        ("view", pa.string_view(), pa.binary_view()),
        ("large", pa.large_string(), pa.large_binary()),
    ):
        found = arena.put(table, strings=strings).table
        assert found.to_pylist() == table.to_pylist()
        assert found.schema.field("list").type == pa.list_(text)
        assert found.schema.field("large list").type == pa.large_list(text)
        assert found.schema.field("fixed").type == pa.list_(text, 2)
        assert found.schema.field("pair").type.field("a").type == text
        assert found.schema.field("pair").type.field("b").type == pa.list_(text)
        assert found.schema.field("kind").type.value_type == text
        assert found.schema.field("bytes").type == data
        assert found.schema.field("number").type == pa.int64()


@pytest.mark.parametrize(
    "table",
    [
        pa.table({}),
        pa.table({"a": pa.array([], pa.int64())}),
        pa.table({"a": pa.chunked_array([[1], [], [2, 3]])}),
        arrow_table().slice(10, 20),
        pa.table({"a": pa.chunked_array([pa.array(["x"]).dictionary_encode()] * 2)}),
        pa.table(
            {
                "a": pa.chunked_array(
                    [pa.array(["x"]).dictionary_encode(), pa.array(["y"]).dictionary_encode()]
                )
            }
        ),
    ],
    ids=["no columns", "no rows", "chunks", "a slice", "one dictionary", "dictionaries"],
)
def test_any_shape(arena, table):
    assert arena.put(table).table.equals(table)


def test_a_slice_takes_its_own_bytes_only(arena):
    whole = arrow_table(10_000).drop_columns(["view"])
    assert arena.put(whole.slice(100, 10)).nbytes < arena.put(whole).nbytes / 50


def test_whatever_gives_a_stream(arena):
    batch = pa.record_batch({"a": [1, 2]})
    assert arena.put(batch).table.to_pydict() == {"a": [1, 2]}
    reader = pa.RecordBatchReader.from_batches(batch.schema, [batch, batch])
    assert arena.put(reader).table.num_rows == 4

    class Other:
        def __arrow_c_stream__(self, requested_schema=None):
            return batch.__arrow_c_stream__(requested_schema)

    assert arena.put(Other()).table.to_pydict() == {"a": [1, 2]}
    assert flagstone.arrow.put(arena, Other(), strings="view").table.num_rows == 2


def test_a_block_with_a_table_is_put_as_its_bytes(arena):
    block = arena.put(arrow_table())
    again = arena.put(block)
    assert again.handle != block.handle
    assert again.table.equals(block.table)
    assert pickle.loads(pickle.dumps(block)).table.equals(block.table)


def test_other_libraries_read_the_bytes(arena):
    """They are Arrow's streaming format, nothing else."""
    block = arena.put(arrow_table())
    assert pa.ipc.open_stream(memoryview(block)).read_all().equals(block.table)
    assert pl.read_ipc_stream(bytes(block)).height == ROWS


def test_in_a_coroutine(arena):
    async def use():
        return await arena.aput(arrow_table(), strings="large")

    assert asyncio.run(use()).table.schema.field("short").type == pa.large_string()


def test_in_a_store_and_a_channel(arena):
    table = arrow_table()
    store = arena.store("tables")
    store["t"] = arena.put(table)
    assert store.block("t").table.equals(table)
    channel = arena.channel("tables")
    channel.put(arena.put(table))
    assert channel.get().table.equals(table)


# ---- how long the bytes stay


def test_a_table_keeps_the_bytes(arena):
    table = arrow_table()
    block = arena.put(table)
    found = block.table
    column = pl.DataFrame(block)["number"]
    handle = block.handle
    block.free()
    with pytest.raises(flagstone.Closed):
        _ = block.table
    with pytest.raises(flagstone.StaleHandle):
        arena.get(handle)
    for _ in range(100):  # whatever is allocated now gets other bytes
        arena.put(np.zeros(20_000)).free()
    assert found.equals(table)
    assert column.sum() == sum(range(ROWS))


def test_the_last_column_gives_the_bytes_back(arena):
    before = arena.used
    block = arena.put(arrow_table(100_000))
    assert arena.used > before
    column = block.table["number"]
    del block
    arena.barrier()
    assert arena.used > before
    del column
    arena.barrier()
    arena.shrink()
    assert arena.used == before


# ---- what is refused


def test_no_table(arena):
    for block in (
        arena.put(np.ones((3, 2))),
        arena.alloc(0),
        arena.alloc(100),
        arena.put(np.full(1000, 255, "u1")),
        arena.put(np.frombuffer(b"\xff\xff\xff\xff\x10\0\0\0" + bytes(1000), "u1")),
    ):
        for read in (lambda b: b.table, pa.table, pl.DataFrame, flagstone.arrow.table):
            with pytest.raises(TypeError, match="holds no table"):
                read(block)


def test_pandas_takes_a_block_for_an_array(arena):
    rows, matrix = arena.put(np.arange(3.0)), arena.put(np.arange(6).reshape(2, 3))
    series = pd.Series(rows)
    assert series.tolist() == [0, 1, 2]
    assert series.dtype == np.float64
    assert pd.DataFrame(matrix).to_numpy().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert pd.DataFrame({"x": rows})["x"].tolist() == [0, 1, 2]
    assert list(matrix)[1].tolist() == [3, 4, 5]
    assert 2 in rows
    with pytest.raises(TypeError, match="0-d"):
        iter(arena.put(np.array(7)))


@pytest.mark.parametrize("value", [pd.Series([1]), pl.Series([1])], ids=["pandas", "polars"])
def test_a_series_is_no_table(arena, value):
    with pytest.raises(TypeError, match=r"to_frame\(\)"):
        arena.put(value)
    assert arena.put(value.to_frame("a") if isinstance(value, pd.Series) else value.to_frame())


def test_bad_tables(arena):
    before = arena.used
    with pytest.raises(TypeError, match=r"Arrow table of this pandas.*DataFrame.*object"):
        arena.put(pd.DataFrame({"a": [object()]}))
    with pytest.raises(TypeError, match="Arrow table of this pyarrow"):
        arena.put(pa.chunked_array([[1]]))
    with pytest.raises(TypeError, match=r"Arrow table of this numpy\.ndarray"):
        arena.put(np.ones(3), strings="view")
    with pytest.raises(ValueError, match="strings must be"):
        arena.put(arrow_table(), strings="short")
    with pytest.raises(TypeError, match="so it is no table"):
        flagstone.arrow.put(arena, np.ones(3))

    class Failing:
        def __arrow_c_stream__(self, requested_schema=None):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        arena.put(Failing())
    assert arena.used == before


def test_no_room(arena):
    group = arena.group(limit="64KiB")
    with pytest.raises(flagstone.GroupLimitExceeded):
        arena.put(arrow_table(100_000), group=group)
    assert group.usage == 0
    arena.put(arrow_table(10), group=group)
    with pytest.raises(flagstone.ArenaFull):
        arena.put(pa.table({"a": np.zeros(10_000_000)}))


WITHOUT = """
import sys
sys.modules["pyarrow"] = None
import numpy as np
import flagstone, flagstone.arrow
class Table:
    def __arrow_c_stream__(self, requested_schema=None):
        raise AssertionError("nobody may ask")
with flagstone.open() as arena:
    assert arena.put(np.ones(3)).array.sum() == 3
    block = arena.put(np.frombuffer(b"\\xff\\xff\\xff\\xff" + bytes(100), "u1"))
    for use in (lambda: arena.put(Table()), lambda: block.table, block.__arrow_c_stream__):
        try:
            use()
        except ModuleNotFoundError as error:
            assert "flagstone[arrow]" in str(error)
        else:
            raise AssertionError
"""

NOT_IMPORTED = """
import sys
import numpy as np
import flagstone
with flagstone.open() as arena:
    block = arena.put(np.ones(3))
    try:
        block.table
    except TypeError:
        pass
assert not {"pyarrow", "pandas", "polars", "flagstone.arrow"} & set(sys.modules)
"""


@pytest.mark.parametrize("program", [WITHOUT, NOT_IMPORTED], ids=["without", "not imported"])
def test_numpy_alone_is_enough(program):
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_nobody_writes(arena):
    block = arena.put(arrow_table())
    assert block.readonly
    assert not block.array.flags.writeable
    assert memoryview(block).readonly
    with pytest.raises(ValueError, match="read-only"):
        block[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        block.part(slice(4)).array[:] = 0
    with pytest.raises(ValueError, match="WRITEABLE"):
        block.array.flags.writeable = True
    with pytest.raises((TypeError, BufferError)):
        io.BytesIO(b"text").readinto(block)
    # As everybody else sees it: by its handle, as a message, and of another size.
    other = arena.put(arrow_table(3))
    for found in (arena.get(block.handle), pickle.loads(pickle.dumps(block)), block.weak().get()):
        assert found.readonly
        assert found.table.equals(block.table)
    assert arena.get(other.handle).table.num_rows == 3
    # Bytes that look the same are just bytes.
    copied = arena.put(block.array)
    assert not copied.readonly
    assert copied.table.equals(block.table)


def test_nobody_writes_elsewhere(arena, arena_name):
    block = arena.put(arrow_table())
    source = f"""
import pickle, sys
import flagstone
with flagstone.open({arena_name!r}) as arena:
    block = pickle.loads(bytes.fromhex(sys.argv[1]))
    assert block.readonly and not block.array.flags.writeable
    assert block.table.num_rows == {ROWS}
    del block
"""
    message = pickle.dumps(block).hex()
    ran = subprocess.run([sys.executable, "-c", source, message], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
