"""Files that would harm whoever runs, unpacks or believes them."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import marshal
import os
import pickle
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import safetensors.numpy

import nnxp

ESCAPES = "\x1b]0;owned\x07\x1b[2J\n"
"""What a terminal would obey."""


class Payload:
    """Unpickling this makes a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def zipped(members, kind=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tar(name, content=b"x", **attributes):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        for key, value in attributes.items():
            setattr(member, key, value)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def declared(shape, descr="<f8", body=b""):
    """An array file that declares a shape."""
    header = str({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def framed(header, body=b""):
    """A safetensors file of a header, JSON or bytes, and a body."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + body


def idx(shape, body=b""):
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + body


def codes(mark):
    """What runs code where it is believed, by name.

    Args:
        mark: the path of a file that this code would make.
    """
    payload, code = Payload(mark), f"open({str(mark)!r}, 'w')"
    pickles = {protocol: pickle.dumps(payload, protocol) for protocol in range(6)}
    objects = np.array([payload, payload], dtype=object)
    compiled = marshal.dumps(compile(code, "x", "exec"))
    shell = f"touch '{mark}'"
    tensors = {"0.weight": np.ones((2, 3), np.float32), "0.bias": np.ones(2, np.float32)}
    return {
        **{f"pickle {protocol}": content for protocol, content in pickles.items()},
        "pickle in gzip": gzip.compress(pickles[4]),
        "pickle in bzip2": bz2.compress(pickles[4]),
        "pickle in xz": lzma.compress(pickles[4]),
        "pickle in zlib, as joblib's": zlib.compress(pickles[4]),
        "pickle in lz4's frame": b"\x04\x22\x4d\x18" + pickles[4],
        "torch.save": zipped({"archive/data.pkl": pickles[2], "archive/version": b"3\n"}),
        "torch.save, before 1.6": b"".join(
            [pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2), pickles[2]]
        ),
        "TorchScript": zipped({"m/code/m.py": code, "m/constants.pkl": pickles[2]}),
        "marshal": compiled,
        "Python's bytecode": b"\xa7\r\r\n" + bytes(12) + compiled,
        "Python": code.encode(),
        "Python in a zip": zipped({"__main__.py": code}),
        "shell": f"#!/bin/sh\n{shell}\n".encode(),
        "YAML": f"!!python/object/apply:os.system ['{shell}']\n".encode(),
        "XML with an entity": b'<!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]><x>&y;</x>',
        "JSON of jsonpickle": json.dumps(
            {"py/reduce": [{"py/type": "os.system"}, [shell]]}).encode(),
        "a formula of spreadsheets": f'a,y\n"=cmd|\'/c {shell}\'!A1",1\n'.encode(),
        "tar out of its folder": tar(f"../{mark.name}"),
        "tar to an absolute path": tar(str(mark)),
        "tar with a link": tar("x", b"", type=tarfile.SYMTYPE, linkname=str(mark)),
        "zip out of its folder": zipped({f"../{mark.name}": b"x", f"../../{mark.name}.npy": b"x"}),
        "zip to an absolute path": zipped({str(mark): b"x"}),
        "npz out of its folder": zipped({f"../{mark.name}.npy": npy(np.ones(3))}),
        "npy of objects": npy(objects),
        "npz of objects": zipped({"x.npy": npy(objects), "y.npy": npy(np.ones(2))}),
        "npz of objects as weights": zipped({"W1.npy": npy(objects), "b1.npy": npy(objects)}),
        "npz with a pickle": zipped({"x.npy": pickles[4], "W1.npy": pickles[4]}),
        "npz with code as its header": zipped({"x.npy": b"\x93NUMPY\x01\x00" + struct.pack(
            "<H", len(code)) + code.encode()}),
        "npz with escapes in names": zipped({f"{ESCAPES}.npy": npy(np.ones(3))}),
        "npz with escapes in types": zipped({"x.npy": declared((1,), ESCAPES)}),
        "safetensors, then a pickle": framed({}) + pickles[4],
        "safetensors with a module": safetensors.numpy.save(tensors, {"auto_map": code}),
        "safetensors with escapes": safetensors.numpy.save({ESCAPES: np.ones(2)}, {ESCAPES: "x"}),
        "safetensors that names a file": framed(
            {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "location": str(mark)}},
            bytes(4)),
        "a model that needs a module": safetensors.numpy.save(tensors, {"nnxp": json.dumps(
            {"format": 1, "sha256": "0" * 64, "needs": [
                {"kind": "loss", "name": "system", "source": "os"}]})}),
        "IDX, then a pickle": idx((2,), b"ab" + pickles[4]),
        "IDX in gzip with a file's name": b"\x1f\x8b\x08\x08\0\0\0\0\0\0../../x\0" + bytes(20),
        "csv with escapes": f"a,{ESCAPES.strip()},y\n1,2,3\n".encode(),
        "csv with escapes as numbers": f"a,b,y\n1,2,3\n1,{ESCAPES.strip()},x\n".encode(),
        "an executable": b"\x7fELF\x02\x01\x01" + bytes(100),
        "SQLite": b"SQLite format 3\0" + bytes(100),
        "TFRecord": struct.pack("<Q", 10) + bytes(14),
        "nothing": b"",
        "zeros": bytes(4096),
        "ones": b"\xff" * 4096,
    }  # fmt: skip


def hdf5_codes(mark):
    """Files of Keras that name code or other files."""
    import h5py

    np.ones((2, 2)).tofile(mark.with_name("secret.raw"))
    with h5py.File(mark.with_name("secret.h5"), "w") as file:
        file["x"] = np.ones((2, 2))
    lambda_layer = {
        "class_name": "Lambda",
        "config": {
            "name": "l",
            "function": {
                "class_name": "__lambda__",
                "config": {
                    "code": marshal.dumps(compile(f"open({str(mark)!r}, 'w')", "x", "exec")).hex()
                },
            },
        },
    }
    sequential = json.dumps(
        {"config": {"layers": [lambda_layer]}, "module": "os", "registered_name": "system"}
    )

    def written(change):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            file["layers/dense/vars/1"] = np.ones(2)
            change(file)
        return buffer.getvalue()

    def virtual(file):
        layout = h5py.VirtualLayout((2, 2), "f8")
        layout[...] = h5py.VirtualSource(str(mark.with_name("secret.h5")), "x", (2, 2))
        file["layers/dense/vars"].create_virtual_dataset("0", layout)

    def link(path):
        return lambda file: file.__setitem__("layers/dense/vars/0", path)

    changes = {
        "a link to another file": link(h5py.ExternalLink(str(mark.with_name("secret.h5")), "x")),
        "a link in a circle": link(h5py.SoftLink("/layers/dense/vars/0")),
        "raw data elsewhere": lambda file: file["layers/dense/vars"].create_dataset(
            "0", (2, 2), "f8", external=[(str(mark.with_name("secret.raw")), 0, 32)]),
        "a virtual data set": virtual,
        "a pickle as opaque bytes": link(np.void(pickle.dumps(Payload(mark)))),
        "escapes in names": lambda file: file.__setitem__(
            f"layers/{ESCAPES.strip()}/vars/0", np.ones((2, 2, 2))),
        "a layer that is code": lambda file: file.attrs.__setitem__("model_config", sequential),
    }  # fmt: skip
    found = {f"HDF5 with {name}": written(change) for name, change in changes.items()}
    found[".keras with a layer that is code"] = zipped(
        {"config.json": sequential, "model.weights.h5": written(lambda file: None)}
    )
    return found


def onnx_model(nodes, constants=(), domain=""):
    """An ONNX model from x to y; nodes are (operator, inputs, output)."""
    import onnx

    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(op, ins.split(), [out], domain=domain, **more)
         for op, ins, out, *rest in nodes for more in (rest or [{}])],
        "g",
        [helper.make_tensor_value_info("x", kind, ["n", 5])],
        [helper.make_tensor_value_info("y", kind, ["n", 3])],
        list(constants),
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def onnx_tensor(name, shape, raw=b"", **fields):
    """A tensor that declares a shape."""
    import onnx

    return onnx.TensorProto(name=name, data_type=1, dims=shape, raw_data=raw, **fields)


def onnx_codes(mark):
    """Models of ONNX that name code or other files."""
    import onnx

    gemm = [("Gemm", "x w", "y")]

    def elsewhere(path):
        tensor = onnx_tensor("w", (5, 3), data_location=onnx.TensorProto.EXTERNAL)
        tensor.ClearField("raw_data")
        tensor.external_data.add(key="location", value=path)
        return onnx_model(gemm, [tensor]).SerializeToString()

    good = onnx_tensor("w", (5, 3), bytes(60))
    mark.with_name("secret.bin").write_bytes(bytes(60))
    return {
        "ONNX with data elsewhere": elsewhere("secret.bin"),
        "ONNX with data out of its folder": elsewhere("../../../etc/passwd"),
        "ONNX with data at an absolute path": elsewhere(str(mark.with_name("secret.bin"))),
        "ONNX with an operator of Python": onnx_model(
            [("PyOp", "x", "y", {"module": "os"})], domain="ai.onnx.contrib").SerializeToString(),
        "ONNX with an operator that runs graphs": onnx_model(
            [("Loop", "x w", "z"), ("Gemm", "z w", "y")], [good]).SerializeToString(),
        "ONNX with escapes": onnx_model(
            [("Conv", f"x {ESCAPES.strip()}", "y")]).SerializeToString(),
    }  # fmt: skip


def parquet_codes(mark):
    """Tables of Arrow with pickles in what describes them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    payload = pickle.dumps(Payload(mark))
    field = pa.field(
        "x",
        pa.int64(),
        metadata={
            "ARROW:extension:name": "arrow.py_extension_type",
            "ARROW:extension:metadata": payload,
        },
    )
    table = pa.table(
        [pa.array([1, 2])], pa.schema([field], {"pandas": payload, "huggingface": "x"})
    )
    parquet, feather = pa.BufferOutputStream(), pa.BufferOutputStream()
    pq.write_table(table, parquet)
    with pa.ipc.new_file(feather, table.schema) as writer:
        writer.write_table(table)
    names = pa.table({ESCAPES: [1, 2], "y": [{"a": ESCAPES}] * 2})
    escapes = pa.BufferOutputStream()
    pq.write_table(names, escapes)
    return {
        "parquet with pickles": parquet.getvalue().to_pybytes(),
        "feather with pickles": feather.getvalue().to_pybytes(),
        "parquet with escapes": escapes.getvalue().to_pybytes(),
    }  # fmt: skip


# --- files that claim much memory


def padded(path, start, size):
    """Write a file of `size` bytes that takes few on the disk."""
    path.write_bytes(start)
    os.truncate(path, size)


def signed_model(**changes):
    """A model file with these entries of JSON in its description, and the right checksum."""
    tensors = nnxp.MLP((2, 3, 2), backend="numpy", device="cpu").as_model().tensors
    entries = {
        "format": "1", "sha256": f'"{"0" * 64}"', "sizes": "[2, 3, 2]", "hidden": '["tanh"]',
        "output": '"softmax"', "dtype": '"float32"', "loss": '"categorical_cross_entropy"',
        "target_scaling": "null", "metadata": "{}",
    } | changes  # fmt: skip
    text = ", ".join(f'"{name}": {value}' for name, value in entries.items())
    content = safetensors.numpy.save(tensors, {"nnxp": f"{{{text}}}"})
    return content.replace(b"0" * 64, hashlib.sha256(content).hexdigest().encode(), 1)


def tensor(shape, start, end):
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


SAFETENSORS_BOMBS = {
    "a header of 2^63 bytes": struct.pack("<Q", 2**63) + b"{}",
    "a header of 2^64 - 1 bytes": b"\xff" * 8 + b"{}",
    "a header of 99 MB in 10 bytes": struct.pack("<Q", 99 * 10**6) + b"{}",
    "terabytes declared": framed({"0.weight": tensor([10**12], 0, 4 * 10**12)}),
    "terabytes in no bytes": framed({"0.weight": tensor([2**20, 2**20], 0, 0)}),
    "more than an address declared": framed({"0.weight": tensor([2**62, 2**62], 0, 0)}),
    "offsets beyond an address": framed({"0.weight": tensor([2**62], 0, 10**30)}),
    "a thousand tensors in one place": framed(
        {f"{i}.weight": tensor([10**6], 0, 4 * 10**6) for i in range(1000)}, bytes(4 * 10**6)
    ),
    "JSON of 5 million levels": framed(b"[" * 5_000_000),
    "JSON of 8 million lists": framed(b'{"a":[' + b"[]," * 8_000_000 + b"[]]}"),
    "JSON of 290 000 keys": framed(b"{" + b",".join(b'"%d":{}' % i for i in range(290_000)) + b"}"),
    "JSON of a number of a million digits": framed(b'{"a":' + b"9" * 10**6 + b"}"),
    "JSON of 30 MB of text that takes four times as much": framed(
        b'{"__metadata__":{"a":"' + b"x" * 30_000_000 + "\U0001f600".encode() + b'"}}'
    ),
}


def model_bombs():
    """Descriptions of models that claim much."""
    return {
        "layers of 10^9 units": signed_model(sizes="[1000000000, 1000000000, 2]"),
        "10^6 layers": signed_model(sizes=f"[{'1,' * 10**6}1]"),
        "hidden layers of a million lists": signed_model(hidden=f"[{'[],' * 10**6}[]]"),
        "metadata of 9 million levels": signed_model(metadata="[" * 9 * 10**6),
    }  # fmt: skip


def checkpoint_bombs():
    """Entries of a training that claim much."""
    entries = {
        "format": 1, "progress": {"steps": 0, "losses": [], "sizes": [], "seconds": 0.0},
        "history": {"metric": None, "larger_is_better": True, "loss": None, "fallbacks": [],
                    "steps": 0, "epochs": []},
        "state": [], "callbacks": [], "settings": {}, "data": {}, "environment": {},
    }  # fmt: skip
    text = json.dumps({"training": entries})

    def made(before, after):
        assert before in text
        return signed_model(metadata=text.replace(before, after))

    return {
        "a million losses": made(
            '"losses": []', '"losses": [' + "0," * 10**6 + "0]"),
        "100 000 epochs": made('"epochs": []', '"epochs": [' + "{}," * 10**5 + "{}]"),
        "a state of levels": made('"state": []', '"state": ' + "[" * 10**6 + "]" * 10**6),
        "a state that is not there": made('"state": []', '"state": [{"tensor": "metadata.0"}]'),
        "a state of 200 000 references": made(
            '"state": []', '"state": [' + '{"tensor": "metadata.0"},' * 200_000 + "0]"),
    }  # fmt: skip


def sparse_bombs(folder):
    """Files of terabytes that take a few bytes on the disk."""
    size = 2**40
    start = framed({"0.weight": tensor([size // 4], 0, size)})
    padded(folder / "sparse.safetensors", start, len(start) + size)
    padded(folder / "sparse.npz", b"PK\x03\x04", size)
    padded(folder / "sparse.csv", b"a,y\n1,", 2**30)
    padded(folder / "sparse.parquet", b"PAR1", size)
    padded(folder / "sparse-idx3-ubyte", idx((2**20, 2**10, 2**10)), 16 + size)
    padded(folder / "sparse.onnx", b"\x08\x09", 2**32)
    return [
        ("model", folder / "sparse.safetensors"),
        ("weights", folder / "sparse.safetensors"),
        ("data", folder / "sparse.npz"),
        ("weights", folder / "sparse.npz"),
        ("data", folder / "sparse.csv"),
        ("data", folder / "sparse.parquet"),
        ("images", folder / "sparse-idx3-ubyte"),
        ("weights", folder / "sparse.onnx"),
    ]


def zeros(megabytes, start=b""):
    """Zeros in a thousandth of their size, by deflate, after what they start with.

    A megabyte is compressed, and repeated: compressing a gigabyte takes seconds.
    """
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = deflate.compress(start) + deflate.flush(zlib.Z_FULL_FLUSH)
    block = deflate.compress(bytes(2**20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    return first + block * megabytes + deflate.flush()


def zipped_zeros(name, megabytes, start=b""):
    """An archive of one member of zeros, without its checksum."""
    content, size = zeros(megabytes, start), len(start) + megabytes * 2**20
    about = struct.pack("<5H3I2H", 20, 0, 8, 0, 0, 0, len(content), size, len(name), 0)
    local = b"PK\x03\x04" + about + name.encode() + content
    entry = b"PK\x01\x02\x14\0" + about + struct.pack("<3H2I", 0, 0, 0, 0, 0) + name.encode()
    last = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(entry), len(local), 0)
    return local + entry + last


def many_members(count):
    """An archive whose members are all the same bytes, as in the zip bomb of D. Fifield."""
    content = zipped({"00000.npy": declared((1,), body=bytes(8))})
    start, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    entry = content[start:end]
    entries = b"".join(entry.replace(b"00000", b"%05d" % i) for i in range(count))
    last = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(entries), start, 0)
    return content[:start] + entries + last


def npz_bombs():
    return {
        "terabytes declared": zipped({"x.npy": declared((10**6, 10**6))}),
        "more than an address": zipped({"x.npy": declared((2**62, 2**62))}),
        "a negative shape": zipped({"x.npy": declared((-1, 2))}),
        "text of a gigabyte each": zipped({"x.npy": declared((2, 2), "<U268435456")}),
        "a gigabyte of zeros": zipped_zeros("x.npy", 1024, declared((2**17, 2**10))),
        "30 000 members": many_members(30_000),
        "a header of brackets": zipped(
            {"x.npy": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**24) + b"(" * 2**24},
            zipfile.ZIP_DEFLATED,
        ),
        "a record of records": zipped({"x.npy": declared((1,), "[('a'," * 3000)}),
        "zeros by bzip2": zipped({"x.npy": declared((2**20,)) + bytes(2**23)}, zipfile.ZIP_BZIP2),
        "a dictionary of 4 GB, of lzma": zipped({"x.npy": npy(np.ones(9))}, zipfile.ZIP_LZMA)
        .replace(struct.pack("<I", 2**23), struct.pack("<I", 2**32 - 1), 1),
    }  # fmt: skip


def idx_bombs():
    start = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    deflated = start + zeros(1024, idx((2**14, 2**8, 2**8))) + bytes(8)
    return {
        "2^31 x 2^31 declared": idx((2**31, 2**31, 28)),
        "2^96 declared": idx((2**32 - 1,) * 3),
        "a gigabyte of zeros.gz": deflated,
        "10 000 empty parts.gz": gzip.compress(b"") * 10**4,
        "2^31 declared.gz": gzip.compress(idx((2**31, 28, 28))),
    }


def csv_bombs():
    return {
        "one line": b"a,y\n" + b"1," * 2**25,
        "one header": b"x," * 2**25,
        "eight million columns": b"," * (2**23) + b"\n",
        "a million names": ",".join(map(str, range(10**6))).encode() + b",y\n",
        "a quote that stays open": b'a,y\n"' + b"1,2\n" * 2**22,
        "fields of a megabyte": b"a,y\n" + (b"x" * 2**20 + b",1\n") * 64,
        "semicolons and tabs": (b"\t;" * 2**22 + b"\n") * 2,
    }


def parquet_bombs():
    import pyarrow as pa
    import pyarrow.parquet as pq

    def written(table, **how):
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, **how)
        return sink.getvalue().to_pybytes()

    rows = 10_000_000
    number = pa.array(np.zeros(rows, dtype=np.int8))
    text = pa.DictionaryArray.from_arrays(np.zeros(10**5, np.int32), pa.array(["x" * 2**18]))
    lists = pa.ListArray.from_arrays(pa.array([0, rows], pa.int32()), number)
    inner = pa.StructArray.from_arrays([text], ["x"])
    wide = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(2**20), 600, [None, pa.py_buffer(bytes(600 * 2**20))]
    )
    return {
        "20 million zeros": written(pa.table({"x": number, "y": number})),
        "26 GB of one text": written(pa.table({"x": text, "y": text})),
        "26 GB of one text in objects": written(pa.table({"x": inner, "y": text})),
        "one text of half a gigabyte": written(
            pa.table({"x": pa.array(["x" * 2**29]), "y": [1]}), compression="zstd",
            use_dictionary=False, write_statistics=False),
        "one list of 10 million": written(pa.table({"x": lists, "y": [1]})),
        "600 times a megabyte": written(
            pa.table({"x": wide, "y": np.zeros(600)}), write_statistics=False),
        "rows that are only declared": more_rows(
            written(pa.table({"x": [1.0] * 1000, "y": [1.0] * 1000}))),
    }  # fmt: skip


def more_rows(content):
    """A parquet file whose 1000 rows are said to be two million times as many."""
    few, many = b"\x16\xd0\x0f", b"\x16\x80\xa0\xde\x82\x9c\x8d\x9f\x02"  # zigzag varints
    (length,) = struct.unpack("<I", content[-8:-4])
    footer = content[-8 - length : -8].replace(few, many)
    return content[: -8 - length] + footer + struct.pack("<I", len(footer)) + b"PAR1"


def hdf5_bombs():
    import h5py

    def written(change):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            file["layers/dense/vars/1"] = np.ones(2)
            change(file["layers/dense/vars"])
        return buffer.getvalue()

    def chunked(shape, chunks, count):
        """Zeros of which each chunk is stored, compressed."""

        def change(at):
            made = at.create_dataset("0", shape, "f4", maxshape=(None, None), chunks=chunks,
                                     compression="gzip")  # fmt: skip
            packed = zlib.compress(bytes(4 * chunks[0] * chunks[1]), 1)
            for i in range(count):
                made.id.write_direct_chunk((i * chunks[0], 0), packed)

        return change

    def declared(shape, dtype="f4", chunks=(64, 64)):
        return lambda at: at.create_dataset("0", shape, dtype, chunks=chunks)

    return {
        "2^34 declared": written(declared((2**17, 2**17))),
        "2^60 declared": written(declared((2**30, 2**30))),
        "zeros in 256 chunks": written(chunked((2**18, 2**10), (2**10, 2**10), 256)),
        "one chunk of half a gigabyte": written(chunked((2, 2), (2**14, 2**13), 1)),
        "texts of a gigabyte": written(declared((2, 2), "S1000000000", (1, 1))),
    }  # fmt: skip


def keras_bombs():
    deep = '{"config": {"layers": ' + "[" * 10**6
    many = '{"config": {"layers": [' + "[]," * 3 * 10**6 + "[]]}}"
    zeros = io.BytesIO(zipped_zeros("model.weights.h5", 1024))
    with zipfile.ZipFile(zeros, "a") as archive:
        archive.writestr("config.json", "{}")
    return {
        "a gigabyte of zeros": zeros.getvalue(),
        "a description without end": zipped({"config.json": deep, "model.weights.h5": b""}),
        "a description of millions": zipped({"config.json": many, "model.weights.h5": b""}),
    }  # fmt: skip


def onnx_bombs():
    gemm = [("Gemm", "x w", "y")]
    chain = [("Identity", "w", "w0")]
    chain += [("Identity", f"w{i}", f"w{i + 1}") for i in range(3000)]
    good = onnx_tensor("w", (5, 3), bytes(60))
    sizes = {"terabytes declared": (2**20, 2**20), "2^120 declared": (2**60, 2**60),
             "nothing of too much": (0, 2**62), "a negative size": (-1, 3)}  # fmt: skip
    return {
        **{name: onnx_model(gemm, [onnx_tensor("w", shape)]).SerializeToString()
           for name, shape in sizes.items()},
        "a constant expanded": onnx_model(
            [("Expand", "w s", "e"), ("Gemm", "x e", "y")], [good]).SerializeToString(),
        "3000 operators on a constant": onnx_model(
            [*chain, ("Gemm", "x w3000", "y")], [good]).SerializeToString(),
        "a Gemm of itself": onnx_model([("Gemm", "y w", "y")], [good]).SerializeToString(),
        "bytes of no model": b"\x0a" + b"\xff" * 8 + b"\x7f",
    }  # fmt: skip


def npy_bombs():
    """Headers that declare more than the file has, or more than any memory."""
    return {
        "a header of many rows": declared((10**9, 8)),
        "a header of many axes": declared((1,) * 60 + (10**15,)),
        "more than an address has": declared((2**62, 2**62)),
        "numbers of no bytes": declared((10**12, 5), "<U0"),
        "a header of 4 GB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
    }


def hdf5_data_bombs():
    """Features and targets that unpack into gigabytes, or are not there."""
    import h5py

    def made(fill):
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            fill(file)
        return content.getvalue()

    def chunks(file, name="x", shape=(10**6, 1000), chunk=(10**5, 1000)):
        file.create_dataset(name, shape, "f8", chunks=chunk, compression="gzip")

    def targets(file):
        file["x"] = np.ones((8, 2))
        chunks(file, "y", (10**9,), (10**8,))

    return {
        "features of 8 GB in chunks": made(chunks),
        "targets of 8 GB": made(targets),
    }
