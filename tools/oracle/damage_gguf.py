#!/usr/bin/env python3
"""Damages GGUF folders in many ways and shows what Halftone says to each.
usage: damage_gguf.py FOLDER... --halftone PROGRAM [--show]

FOLDER is one that `halftone quantize --layout gguf` wrote. Every kind of damage is done to a copy of it, one at a time, to
model.gguf or mmproj.gguf; then `halftone info` and `halftone chat` read the copy in 4 GiB of address space and one minute.
Expected of chat: exit status 1 and a message that names the file and the damaged value or tensor, by its name there or the one it
has in the model; info may accept what only a run can find. Prints what is accepted, what ends otherwise and
what names neither; --show prints all messages. Exit status 1 if there is any.
"""
import argparse
import resource
import shutil
import struct
import sys
import tempfile
from pathlib import Path

from attempt import attempt, wrong_end

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9
BYTES = {0: 4, 1: 2, 30: 2, 2: 18 / 32, 3: 20 / 32, 8: 34 / 32, 12: 144 / 256}  # of a weight: F32, F16, BF16, Q4_0, Q4_1, Q8_0, Q4_K
LIMIT = 4 << 30


class File:
    """The places of all fields of a GGUF file's header."""

    def __init__(self, data):
        self.data, self.values, self.tensors = data, {}, {}
        self.at = 8
        tensors, values = self.take("Q"), self.take("Q")
        for _ in range(values):
            begin, name = self.at, self.text()
            self.values[name] = dict(begin=begin, type=self.at)
            self.values[name]["content"] = self.at + 4
            self.skip(self.take("I"))
            self.values[name]["end"] = self.at
        for _ in range(tensors):
            begin, name = self.at, self.text()
            place = dict(begin=begin, dimensions=self.at)
            place["lengths"] = [at for at in range(self.at + 4, self.at + 4 + 8 * self.take("I"), 8)]
            self.at += 8 * len(place["lengths"])
            place["type"], place["offset"], place["end"] = self.at, self.at + 4, self.at + 12
            self.at += 12
            self.tensors[name] = place
        self.header_end = self.at
        self.data_begin = (self.at + 31) // 32 * 32

    def take(self, code):
        value = struct.unpack_from("<" + code, self.data, self.at)[0]
        self.at += struct.calcsize(code)
        return value

    def text(self):
        length = self.take("Q")
        self.at += length
        return self.data[self.at - length : self.at].decode()

    def skip(self, kind):
        if kind == STRING:
            self.text()
        elif kind == ARRAY:
            element, count = self.take("I"), self.take("Q")
            for _ in range(count):
                self.skip(element)
        else:
            self.at += SIZES[kind]

    def put(self, at, code, value):
        return self.data[:at] + struct.pack("<" + code, value) + self.data[at + struct.calcsize(code) :]

    def number(self, at, code):
        return struct.unpack_from("<" + code, self.data, at)[0]

    def padded(self, header):
        """Another header before the same data."""
        return header + bytes(-len(header) % 32) + self.data[self.data_begin :]

    def without(self, name):
        """With the tensor's data gone as well, and all others moved up."""
        offsets = {n: self.number(p["offset"], "Q") for n, p in self.tensors.items()}
        begin = offsets[name]
        end = min((o for o in offsets.values() if o > begin), default=len(self.data) - self.data_begin)
        header = bytearray(self.data[: self.header_end])
        struct.pack_into("<Q", header, 8, len(self.tensors) - 1)
        for n, p in self.tensors.items():
            if offsets[n] > begin:
                struct.pack_into("<Q", header, p["offset"], offsets[n] - (end - begin))
        place = self.tensors[name]
        header = bytes(header[: place["begin"]] + header[place["end"] :])
        data = self.data[self.data_begin :]
        return header + bytes(-len(header) % 32) + data[:begin] + data[end:]

    def renamed(self, name, other):
        at = self.tensors[name]["begin"]
        new = struct.pack("<Q", len(other)) + other.encode()
        return self.padded(self.data[:at] + new + self.data[at + 8 + len(name) : self.header_end])


def damages(f, matrix, vector):
    """kind, bytes of the damaged file, what the message must name: one of several words."""
    for size in (0, 3, 7, 12, 20, 100, f.header_end // 2, f.header_end - 5, f.header_end):
        yield f"ends after {size} bytes", f.data[:size], ["GGUF", "end of the file", "bytes", "tensor '"]
    last = max(f.tensors, key=lambda n: f.number(f.tensors[n]["offset"], "Q"))
    yield "half of the data", f.data[: (f.data_begin + len(f.data)) // 2], ["tensor '"]
    yield "a byte short", f.data.rstrip(b"\0")[:-33], [last]
    yield "another magic", b"GGML" + f.data[4:], ["expected a GGUF file"]
    for version in (0, 1, 4, 3 << 24):
        yield f"version {version}", f.put(4, "I", version), ["version"]
    for count in (2**63, 2**40, len(f.tensors) + 1):
        yield f"{count} tensors", f.put(8, "Q", count), ["tensor"]
    for count in (2**63, 2**40, len(f.values) + 1):
        yield f"{count} values", f.put(16, "Q", count), ["value", "name of a tensor"]
    yield "one tensor fewer", f.put(8, "Q", len(f.tensors) - 1), ["tensor '", "bytes of data"]
    text = next(n for n, p in f.values.items() if f.number(p["type"], "I") == STRING)
    for length in (2**64 - 1, 2**40, len(f.data)):
        yield f"a value's name of {length} bytes", f.put(f.values[text]["begin"], "Q", length), ["name of a value"]
        yield f"a text of {length} bytes", f.put(f.values[text]["content"], "Q", length), [text]
        yield f"a tensor's name of {length} bytes", f.put(f.tensors[matrix]["begin"], "Q", length), ["name of a tensor"]
    yield "a value's type 13", f.put(f.values[text]["type"], "I", 13), [text]
    for name in [n for n, p in f.values.items() if f.number(p["type"], "I") == ARRAY][:2]:
        at = f.values[name]["content"]
        for count in (2**64 - 1, 2**40):
            yield f"an array of {count}", f.put(at + 4, "Q", count), [name]
        yield "an array of arrays", f.put(at, "I", ARRAY), [name]
        yield "an array of type 99", f.put(at, "I", 99), [name]
    for name in (matrix, vector):
        place = f.tensors[name]
        for dimensions in (0, 5, 2**32 - 1):
            yield f"{name}: {dimensions} dimensions", f.put(place["dimensions"], "I", dimensions), [name]
        for length in (0, 2**63, 2**64 - 1, f.number(place["lengths"][0], "Q") * 2, f.number(place["lengths"][0], "Q") // 2, 7):
            yield f"{name}: length {length}", f.put(place["lengths"][0], "Q", length), [name]
        for kind in (4, 16, 99, 2**32 - 1):
            yield f"{name}: type {kind}", f.put(place["type"], "I", kind), [name]
        for kind in (0, 1, 2, 3, 8, 12, 30):
            if BYTES[kind] != BYTES[f.number(place["type"], "I")]:
                yield f"{name}: of type {kind} as it stands", f.put(place["type"], "I", kind), [name]
        for offset in (1, 2**64 - 32, len(f.data) // 32 * 32 + 32, 0 if place != first_of(f) else 32):
            yield f"{name}: offset {offset}", f.put(place["offset"], "Q", offset), [name]
        yield f"{name} missing", f.without(name), [name]
        yield f"{name} under an unknown name", f.renamed(name, "blk.0.unheard_of.weight"), ["blk.0.unheard_of.weight"]
        yield f"{name} of a layer that is not there", f.renamed(name, name.replace("0", "999", 1)), [name, name.replace("0", "999", 1)]
        yield f"{name} twice", f.renamed(next(n for n in f.tensors if n != name), name), [name]
        data = f.data_begin + f.number(place["offset"], "Q")
        if f.number(place["type"], "I") in (2, 8, 12):  # blocks that begin with a scale in F16
            yield f"{name}: a scale of infinity", f.put(data, "H", 0x7C00), [name]
    place = f.tensors[matrix]["lengths"]
    if f.number(place[0], "Q") != f.number(place[1], "Q"):
        other = f.put(place[0], "Q", f.number(place[1], "Q"))
        yield "transposed", other[: place[1]] + f.data[place[0] : place[0] + 8] + other[place[1] + 8 :], [matrix]


def first_of(f):
    return min(f.tensors.values(), key=lambda p: f.number(p["offset"], "Q"))


# what tensors are called in the model
NAMES = {"blk.0.ffn_down.weight": "layers.0.mlp.down_proj", "blk.0.attn_norm.weight": "layers.0.input_layernorm",
         "v.blk.0.ffn_up.weight": "visual.blocks.0.mlp.fc1", "v.blk.0.ln1.weight": "visual.blocks.0.norm1"}


def limit():
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))


def judge(run, file, subjects):
    if wrong := wrong_end(run):
        return wrong
    words = [*subjects, *(NAMES[s] for s in subjects if s in NAMES)]
    if file not in run.stderr:
        return "does not name the file"
    return None if any(w in run.stderr for w in words) else "does not name what is damaged"


def try_one(copy, file, kind, data, subjects, a):
    (copy / file).write_bytes(data)
    info = attempt(a.halftone, "info", copy, before=limit)
    chat = attempt(a.halftone, "chat", copy, "-p", "hello", "-n", 2, before=limit)
    verdict = judge(chat, file, subjects)
    if info is None or info.returncode not in (0, 1):
        verdict = "info crashes or takes too long"
    if verdict or a.show:
        message = "" if chat is None else chat.stderr.strip()[-300:].replace(str(copy), "FOLDER")
        print(f"{copy.name}: {file}: {kind}{' <-- ' + verdict if verdict else ''}\n    {message}", flush=True)
    return verdict is not None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--halftone", required=True)
    parser.add_argument("--show", action="store_true")
    a = parser.parse_args()
    bad = 0
    for folder in a.folders:
        tried = 0
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / folder.name
            shutil.copytree(folder, copy)
            for file, matrix, vector in (("model.gguf", "blk.0.ffn_down.weight", "blk.0.attn_norm.weight"),
                                         ("mmproj.gguf", "v.blk.0.ffn_up.weight", "v.blk.0.ln1.weight")):
                whole = (folder / file).read_bytes()
                for kind, data, subjects in damages(File(whole), matrix, vector):
                    tried += 1
                    bad += try_one(copy, file, kind, data, subjects, a)
                (copy / file).write_bytes(whole)
        print(f"{folder.name}: {tried} kinds of damage tried", flush=True)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
