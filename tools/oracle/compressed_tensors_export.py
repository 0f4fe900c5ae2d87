#!/usr/bin/env python3
"""What compressed-tensors makes of a checkpoint: its scales (calculate_qparams), its compressors, on the CPU.
usage: compressed_tensors_export.py CHECKPOINT OUT [--formats w8a16,...] [--samples 8] [--tokens 48] [--seed 7]

Writes OUT/FORMAT/ as save_pretrained does, with statistics.safetensors and the tokenizer in it.
Linear layers of the decoder are quantized. NVFP4's global scales are those of the whole of q/k/v and of gate/up.
"""
import argparse
import json
import shutil
from pathlib import Path

import torch
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme, QuantizationStatus, preset_name_to_scheme
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam, maybe_pad_tensor_for_block_quant

from common import InputRecorder, canonical, copy_companions, load_model, read_tensors, run_samples, samples, save_statistics, statistics
from formats import COMPRESSED

GROUPS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


def scheme_of(name):
    weights, inputs, _ = COMPRESSED[name]
    if isinstance(weights, str):
        return preset_name_to_scheme(weights, ["Linear"])
    return QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**weights),
                              input_activations=QuantizationArgs(**inputs) if inputs else None)


def blocks_of(weight, args):
    """The weight so that the last one or two dimensions share a scale."""
    rows, cols = weight.shape
    if args.strategy == "block":
        high, wide = args.block_structure
        padded = maybe_pad_tensor_for_block_quant(weight, (high, wide))
        return padded.reshape(padded.shape[0] // high, high, padded.shape[1] // wide, wide).transpose(1, 2).flatten(2)
    if args.strategy in ("group", "tensor_group"):
        return weight.reshape(rows, cols // args.group_size, args.group_size)
    return weight.reshape(1, 1, -1) if args.strategy == "tensor" else weight.reshape(rows, 1, cols)


def weight_parameters(weight, args, global_scale):
    blocks = blocks_of(weight, args)
    scale, zero = calculate_qparams(blocks.amin(-1), blocks.amax(-1), args, global_scale=global_scale)
    if args.strategy == "tensor":
        return scale.reshape(1), zero.reshape(1)
    return scale, zero


def input_parameters(x, args):
    return calculate_qparams(x.amin().reshape(1), x.amax().reshape(1), args)


def parameters(scheme, source, module, inputs):
    """What a calibration run leaves on a module: scales and zero points of its weight, static scales of its input."""
    state, global_scale = {}, None
    prefix, last = module.rsplit(".", 1)
    group = next((g for g in GROUPS if last in g), (last,))
    if scheme.weights.strategy == "tensor_group":
        both = torch.cat([source[f"{prefix}.{other}.weight"].flatten() for other in group])
        global_scale = state["weight_global_scale"] = generate_gparam(both.amin(), both.amax())
    scale, zero = weight_parameters(source[module + ".weight"], scheme.weights, global_scale)
    state["weight_scale"] = scale
    if not scheme.weights.symmetric:
        state["weight_zero_point"] = zero
    x = scheme.input_activations
    if x is not None and x.dynamic is False:
        state["input_scale"], _ = input_parameters(inputs, x)
    if x is not None and str(getattr(x.dynamic, "value", x.dynamic)) == "local":
        state["input_global_scale"] = generate_gparam(inputs.amin(), inputs.amax())
    return state


def ignore_vision(path):
    """compressed-tensors 0.20 lists ignored modules by their names in the file ("visual.blocks.0"), which transformers does
    not know the modules by ("model.visual.blocks.0"): without this it cannot load what was just written."""
    config = json.loads(path.read_text())
    config["quantization_config"]["ignore"].append("re:.*visual.*")
    path.write_text(json.dumps(config, indent=2))


def export(checkpoint, name, source, recorder, out):
    """compressed-tensors' own way to a folder: schemes and scales on the modules, compress_model, update_config."""
    shutil.rmtree(out, ignore_errors=True)
    model = load_model(checkpoint)
    named = {canonical(n): m for n, m in model.named_modules() if canonical(n) in recorder.inputs}
    for module, linear in named.items():
        linear.quantization_scheme = scheme_of(name)
        linear.quantization_status = QuantizationStatus.FROZEN
        for part, value in parameters(linear.quantization_scheme, source, module, torch.cat(recorder.inputs[module])).items():
            linear.register_parameter(part, torch.nn.Parameter(value, requires_grad=False))
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(out)
    compressor.update_config(str(out))
    ignore_vision(out / "config.json")
    copy_companions(checkpoint, out)
    save_statistics(statistics(recorder), out / "statistics.safetensors", made_by="compressed_tensors_export.py")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--formats", default=",".join(COMPRESSED))
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--seed", type=int, default=7)
    a = parser.parse_args()
    model = load_model(a.checkpoint)
    recorder = InputRecorder(model)
    run_samples(model, samples(a.checkpoint, a.samples, a.tokens, a.seed))
    recorder.close()
    source = {canonical(name): tensor for name, tensor in read_tensors(a.checkpoint).items()}
    for name in a.formats.split(","):
        try:
            export(a.checkpoint, name, source, recorder, a.out / name)
            print(f"{name}: written")
        except Exception as error:
            shutil.rmtree(a.out / name, ignore_errors=True)
            print(f"{name}: compressed-tensors fails: {type(error).__name__}: {str(error)[:200]}")


if __name__ == "__main__":
    main()
