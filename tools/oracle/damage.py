#!/usr/bin/env python3
"""Damages quantized folders in many ways and shows what Halftone says to each.
usage: damage.py FOLDER... --logits build/release/tests/parity/write_logits [--show]

Every kind of damage that a folder's layout has room for is done to a copy of it, one at a time, to one layer; then the copy
is loaded and run. Expected: exit status 1 and a message that names the damaged tensor, or the damaged field, or (where a
wrong field makes a tensor's shape or dtype wrong) the first tensor that it misreads. Prints what is accepted, what ends
otherwise and what names neither; --show prints all messages. Exit status 1 if there is any.
"""
import argparse
import copy
import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from attempt import attempt, wrong_end
from common import read_tensors

LAYER = "layers.1.mlp.down_proj"


class Copy:
    def __init__(self, folder):
        self.tensors = read_tensors(folder)
        self.config = json.loads((folder / "config.json").read_text())
        hf = folder / "hf_quant_config.json"
        self.hf = json.loads(hf.read_text()) if hf.exists() else None
        self.module = next(n[: n.index(LAYER) + len(LAYER)] for n in self.tensors if LAYER in n)

    def clone(self):
        other = copy.copy(self)
        other.tensors = dict(self.tensors)
        other.config, other.hf = copy.deepcopy(self.config), copy.deepcopy(self.hf)
        return other

    def write(self, folder, source):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for file in source.iterdir():
            if file.suffix != ".safetensors" and not file.name.endswith(".index.json"):
                shutil.copy(file, folder)
        save_file({k: v.contiguous() for k, v in self.tensors.items()}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(self.config))
        if self.hf is not None:
            (folder / "hf_quant_config.json").write_text(json.dumps(self.hf))


def replace(part, change):
    """Changes one tensor of the layer; None: the tensor is removed."""

    def apply(c):
        name = f"{c.module}.{part}"
        if name not in c.tensors:
            return None
        value = change(c.tensors[name].clone()) if change else None
        if value is None:
            del c.tensors[name]
        else:
            c.tensors[name] = value
        return name

    return apply


def poke(value):
    def change(t):
        if t.dtype == torch.float8_e4m3fn:
            return torch.where(torch.arange(t.numel()).reshape(t.shape) == t.numel() - 1, torch.tensor(value), t.float()).to(t.dtype)
        t.reshape(-1)[-1] = value
        return t

    return change


def floating(change):
    return lambda t: change(t) if t.is_floating_point() else t


def holds_infinity(t):
    return t.is_floating_point() and t.dtype != torch.float8_e4m3fn


def group(c):
    return next(iter(c.config["quantization_config"].get("config_groups", {}).values()), None)


def without_order(c):
    """g_idx says what a file without it has anyway, unless inputs were put into another order."""
    if f"{c.module}.g_idx" not in c.tensors:
        return None
    c.config["quantization_config"]["desc_act"] = True
    return replace("g_idx", None)(c)


def argument(field, value, where="weights"):
    def apply(c):
        if c.hf is not None or not group(c) or not group(c).get(where) or group(c)[where].get(field) in (value, None):
            return None
        group(c)[where][field] = value
        return field

    return apply


def state(field, value):
    """A field of what bitsandbytes stores as JSON in a tensor."""

    def apply(c):
        name = f"{c.module}.weight.quant_state.bitsandbytes__nf4"
        if name not in c.tensors:
            return None
        changed = {**json.loads(bytes(c.tensors[name].tolist())), field: value}
        c.tensors[name] = torch.tensor(list(json.dumps(changed).encode()), dtype=torch.uint8)
        return f"field '{field}'" if field in ("quant_type", "blocksize", "nested_offset") else "tensor"

    return apply


def setting(field, value):
    """A field of the whole configuration, in both of ModelOpt's files."""

    def apply(c):
        places = [c.config["quantization_config"]] + ([c.hf["quantization"]] if c.hf else [])
        found = [p for p in places if field in p and p[field] != value]
        for place in found:
            place[field] = value
        return field if found else None

    return apply


def only_one_file(c):
    if not c.hf or c.hf["quantization"].get("quant_algo") in ("W8A16", None):
        return None
    c.config["quantization_config"]["quant_algo"] = "W8A16"
    return "quant_algo"


def ignored(c):
    for place, field in ((c.config["quantization_config"], "ignore"), (c.hf["quantization"] if c.hf else {}, "exclude_modules")):
        if field in place:
            place[field] = [*place[field], c.module]
    return c.module if "ignore" in c.config["quantization_config"] else None


def targets(c):
    if c.hf is not None or not group(c):
        return None
    group(c)["targets"] = ["re:.*nothing$"]
    return "tensor"


KINDS = {}
for part in ("weight", "weight_packed", "qweight", "weight.absmax", "weight.nested_absmax", "weight.nested_quant_map", "weight.quant_map",
             "weight.quant_state.bitsandbytes__nf4", "weight_scale", "scales", "qzeros", "g_idx", "weight_shape", "weight_zero_point",
             "weight_scale_2", "weight_global_scale", "input_scale", "input_global_scale",
             "weight_quantizer._svdquant_lora_a", "weight_quantizer._svdquant_lora_b"):
    KINDS[f"{part} missing"] = replace(part, None)
    KINDS[f"{part} of another dtype"] = replace(
        part, lambda t: t.to(torch.int16) if t.is_floating_point() else t.to(torch.float32))
    KINDS[f"{part} without its last row"] = replace(part, lambda t: t[:-1] if t.dim() and t.shape[0] > 1 else torch.stack([t.reshape(-1)] * 2))
    KINDS[f"{part} without its last column"] = replace(part, lambda t: t[:, :-1] if t.dim() > 1 and t.shape[1] > 1 else t)
    KINDS[f"{part} transposed"] = replace(part, lambda t: t.T if t.dim() == 2 and t.shape[0] != t.shape[1] else t)
for part in ("weight_scale", "scales", "weight_scale_2", "weight_global_scale", "input_scale", "input_global_scale", "pre_quant_scale"):
    for value in (float("nan"), -1.0):
        KINDS[f"{part} holds {value}"] = replace(part, floating(poke(value)))
    KINDS[f"{part} holds inf"] = replace(part, lambda t: poke(float("inf"))(t) if holds_infinity(t) else t)
for part in ("weight_scale_2", "weight_global_scale", "input_scale", "input_global_scale"):
    KINDS[f"{part} is 0"] = replace(part, lambda t: torch.zeros_like(t))
KINDS["E8M0 scale of 255"] = replace("weight_scale", lambda t: torch.full_like(t, 255) if t.dtype == torch.uint8 else t)
KINDS["weight_shape negative"] = replace("weight_shape", lambda t: -t)
KINDS["weight_shape huge"] = replace("weight_shape", lambda t: t * 2**40)
KINDS["g_idx missing"] = without_order
KINDS["g_idx out of range"] = replace("g_idx", poke(10**6))
KINDS["g_idx negative"] = replace("g_idx", poke(-1))
KINDS["pre_quant_scale too short"] = replace("pre_quant_scale", lambda t: t[:-1])
KINDS["another group size"] = argument("group_size", 48)
KINDS["group size 0"] = argument("group_size", 0)
KINDS["half the group size"] = lambda c: (argument("group_size", group(c)["weights"]["group_size"] // 2)(c)
                                          if c.hf is None and group(c) and group(c)["weights"].get("group_size") else None)
KINDS["another number of bits"] = argument("num_bits", 5)
KINDS["8 bits"] = argument("num_bits", 8)
KINDS["another type"] = lambda c: argument("type", "int")(c) or argument("type", "float")(c)
KINDS["symmetric turned"] = lambda c: argument("symmetric", False)(c) or argument("symmetric", True)(c)
KINDS["strategy tensor"] = argument("strategy", "tensor")
KINDS["strategy unknown"] = argument("strategy", "spiral")
KINDS["inputs of 3 bits"] = argument("num_bits", 3, "input_activations")
KINDS["group_size a text"] = argument("group_size", "many")
KINDS["format unknown"] = lambda c: group(c).update(format="marlin-99") or "format" if c.hf is None and group(c) else None
KINDS["method unknown"] = setting("quant_method", "magic")
KINDS["ModelOpt's algorithm unknown"] = setting("quant_algo", "FP3")
KINDS["ModelOpt's algorithm another"] = lambda c: setting("quant_algo", "W8A16")(c) or setting("quant_algo", "FP8")(c)
KINDS["ModelOpt's files disagree"] = only_one_file
KINDS["ModelOpt's group size"] = setting("group_size", 7)
KINDS["layer ignored"] = ignored
KINDS["no target"] = targets
KINDS["AWQ, GPTQ: bits"] = setting("bits", 3)
KINDS["AWQ, GPTQ: group size"] = setting("group_size", 48)
KINDS["bitsandbytes: type"] = setting("bnb_4bit_quant_type", "fp4")
KINDS["bitsandbytes: 8 bits"] = setting("load_in_4bit", False)
for field, value in (("quant_type", "fp4"), ("blocksize", 0), ("blocksize", 2**40), ("blocksize", 32), ("shape", [2**62, 4]), ("shape", [-1, -1]),
                     ("shape", [7]), ("nested_blocksize", 16), ("nested_offset", "much")):
    KINDS[f"bitsandbytes: {field} {value}"] = state(field, value)
KINDS["AWQ: version"] = lambda c: setting("version", "marlin")(c) if c.config["quantization_config"]["quant_method"] == "awq" else None


# what no reader needs, and what nobody need check
UNREAD = ("observer", "observer_kwargs", "global_compression_ratio", "version", "producer", "scale_dtype", "zp_dtype")
WRONG = {bool: ("yes", 7, [1]), int: ("many", 4.5, [1], -5, 2**40), float: ("many", [1]), str: ("unheard-of", 7, [1]),
         list: ("text", 7, {"a": 1}, [7]), dict: ("text", 7, [1])}


def fields(part, path=()):
    """The places of all values of a configuration that a reader should look at."""
    for key, value in part.items():
        # each group may say its own format
        if key == "config_groups" and "quant_algo" in part:
            continue
        if key not in UNREAD and not (key == "format" and "config_groups" in part):
            yield (*path, key), value
            if isinstance(value, dict):
                yield from fields(value, (*path, key))


def put(path, value):
    def apply(c):
        place = c.config["quantization_config"]
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        return f".{path[-1]}"

    return apply


def wrong_fields(c):
    """Every field of the configuration with values of other types and out of range. ModelOpt's quant_algo says what its
    config_groups say again."""
    return {f"{'.'.join(path)} = {json.dumps(value)}": put(path, value)
            for path, found in fields(c.config["quantization_config"]) for value in WRONG.get(type(found), ())}


def run_on(c, source, scratch, program):
    folder, tokens = scratch / "folder", scratch / "tokens.json"
    c.write(folder, source)
    tokens.write_text("[[1, 2, 3]]")
    return attempt(program, folder, tokens, scratch / "logits")


def judge(run, subject, module):
    if wrong := wrong_end(run):
        return wrong
    named = (subject, "tensor '")
    if subject.startswith(module):
        named = (subject, module)
    elif subject.startswith("."):  # a field: by its name, or at the end of its place
        named = (f"'{subject[1:]}'", f"{subject}]", f" {subject[1:]}]")
    return None if any(name in run.stderr for name in named) else "names neither"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--logits", required=True)
    parser.add_argument("--show", action="store_true")
    a = parser.parse_args()
    bad = 0
    for source in a.folders:
        whole, tried = Copy(source), 0
        with tempfile.TemporaryDirectory() as scratch:
            for kind, damage in {**KINDS, **wrong_fields(whole)}.items():
                c = whole.clone()
                subject = damage(c)
                unchanged = subject in c.tensors and subject in whole.tensors and same(c.tensors[subject], whole.tensors[subject])
                if subject is None or unchanged:
                    continue
                tried += 1
                run = run_on(c, source, Path(scratch), a.logits)
                verdict = judge(run, subject, c.module)
                bad += verdict is not None
                if verdict or a.show:
                    message = "" if run is None else run.stderr.strip()[-300:]
                    print(f"{source.name}: {kind} {'<-- ' + verdict if verdict else ''}\n    {message}", flush=True)
        print(f"{source.name}: {tried} kinds of damage tried", flush=True)
    sys.exit(bad > 0)


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(
        a.contiguous().reshape(-1).view(torch.uint8), b.contiguous().reshape(-1).view(torch.uint8))


if __name__ == "__main__":
    main()
