"""Unpacks a folder in AutoAWQ's or GPTQ's layout and compares it with the weights it was made from (development only).

  halftone quantize demo/model -r int4_wo --layout gptq -o /tmp/gptq      (or awq, gptq_v2; int8_wo with gptq)
  python tests/export/check_words.py /tmp/gptq demo/model

An unpacker of its own, one nibble at a time as the layouts are defined. For rounding to nearest, scales and codes are
computed again from the source, and must be equal.
"""

import json
import pathlib
import sys

import numpy as np
import safetensors.torch
import torch

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def unpack(words, bits, order=None):
    """Words [n, m] -> codes [n, m * 32 / bits]."""
    per_word = 32 // bits
    unsigned = words.view(np.uint32)
    codes = np.zeros((words.shape[0], words.shape[1] * per_word), np.int64)
    for k in range(per_word):
        codes[:, (order[k] if order else k) :: per_word] = unsigned >> np.uint32(bits * k) & np.uint32(2**bits - 1)
    return codes


def read(folder):
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors.update(safetensors.torch.load_file(file))
    return tensors


def main():
    folder, source = map(pathlib.Path, sys.argv[1:3])
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    bits, awq = config["bits"], config["quant_method"] == "awq"
    tensors, weights = read(folder), read(source)
    modules = sorted(name[: -len(".qweight")] for name in tensors if name.endswith(".qweight"))
    for module in modules:
        get = lambda part: tensors[f"{module}.{part}"].numpy()
        if awq:
            codes, zeros = unpack(get("qweight"), bits, AWQ_ORDER).T, unpack(get("qzeros"), bits, AWQ_ORDER).T
        else:
            codes = unpack(np.ascontiguousarray(get("qweight").T), bits)
            zeros = unpack(get("qzeros"), bits).T + (config["checkpoint_format"] == "gptq")
        scales = get("scales").astype(np.float32).T
        weight = weights[module + ".weight"].to(torch.float32).numpy()
        group = config["group_size"] if config["group_size"] > 0 else weight.shape[1]
        groups = weight.reshape(weight.shape[0], -1, group)
        middle = 2 ** (bits - 1)
        assert (zeros == middle).all(), (module, "zero points of symmetric weights")
        amax = np.abs(groups).max(2)
        if awq:
            want = (np.maximum(amax, np.float32(1e-5)) / np.float32(7)).astype(np.float16)
        else:
            want = (np.where(amax == 0, np.float32(1), amax) * np.float32(2) / np.float32(2 * middle - 1)).astype(np.float16)
        assert np.array_equal(want.astype(np.float32), scales), (module, "scales")
        rounded = np.rint(groups / scales[:, :, None]) + middle
        assert np.array_equal(np.clip(rounded, 0, 2 * middle - 1).reshape(weight.shape), codes), (module, "codes")
    print(f"{folder.name}: {len(modules)} modules of {config['quant_method']} equal")


main()
