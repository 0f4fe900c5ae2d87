"""Loads the folders that export_test wrote in Hugging Face transformers with compressed-tensors (development only).

  HALFTONE_KEEP_EXPORTS=/tmp/exports build/dev/tests/export/export_test
  python tests/export/check_folders.py /tmp/exports demo/model

For each compressed-tensors folder: no tensor is missing or left over, every decompressed weight equals code * scale as
decoded here, bit for bit in the model's dtype, and a forward pass gives finite logits near those of the source.
For each ModelOpt folder, which transformers cannot load: names, dtypes and shapes of the layout's tensors.
"""

import json
import pathlib
import sys

import safetensors.torch
import torch
from transformers import AutoModelForImageTextToText

SHAPES = {  # suffix: dtype, shape from (rows, columns)
    "FP8": {
        "weight": (torch.float8_e4m3fn, lambda r, c: (r, c)),
        "weight_scale": (torch.float32, lambda r, c: ()),
        "input_scale": (torch.float32, lambda r, c: ()),
    },
    "NVFP4": {
        "weight": (torch.uint8, lambda r, c: (r, c // 2)),
        "weight_scale": (torch.float8_e4m3fn, lambda r, c: (r, c // 16)),
        "weight_scale_2": (torch.float32, lambda r, c: ()),
        "input_scale": (torch.float32, lambda r, c: ()),
    },
    "W4A8_NVFP4_FP8": {
        "weight": (torch.uint8, lambda r, c: (r, c // 2)),
        "weight_scale": (torch.float8_e4m3fn, lambda r, c: (r, c // 32)),
        "weight_scale_2": (torch.float32, lambda r, c: ()),
        "input_scale": (torch.float32, lambda r, c: ()),
    },
}


def decode(tensors, module):
    """The weight of a compressed-tensors module in the dtype of its scales."""
    scale = tensors[module + ".weight_scale"]
    if module + ".weight" in tensors:
        codes = tensors[module + ".weight"].to(scale.dtype)
    else:
        packed = tensors[module + ".weight_packed"]
        rows, columns = tensors[module + ".weight_shape"].tolist()
        bits = 4 if packed.shape[1] * 8 == columns else 8
        shifts = torch.arange(0, 32, bits)
        codes = (packed[:, :, None] >> shifts) & (2**bits - 1)
        codes = (codes.reshape(rows, -1)[:, :columns] - 2 ** (bits - 1)).to(scale.dtype)
    if scale.shape[-1] > 1:
        scale = scale.repeat_interleave(codes.shape[1] // scale.shape[1], 1)
    return codes * scale


def read_folder(folder):
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors.update(safetensors.torch.load_file(file))
    return tensors


def logits_of(model):
    tokens = torch.arange(100, 164)[None]
    with torch.no_grad():
        return model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits.float()


def check_compressed_tensors(folder, reference):
    tensors = read_folder(folder)
    model, info = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.bfloat16, output_loading_info=True)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not info[key], (folder.name, key, sorted(info[key])[:5])
    logits = logits_of(model)  # the first forward pass decompresses
    assert torch.isfinite(logits).all(), folder.name
    weights = {name: p for name, p in model.named_parameters()}
    modules = sorted(n[: -len(".weight_scale")] for n in tensors if n.endswith(".weight_scale"))
    for module in modules:
        name = module.replace("model.layers.", "model.language_model.layers.").replace("visual.", "model.visual.") + ".weight"
        assert torch.equal(weights[name], decode(tensors, module)), (folder.name, module)
    kl = torch.nn.functional.kl_div(logits.log_softmax(-1), reference.log_softmax(-1), log_target=True, reduction="none")
    print(f"{folder.name}: {len(modules)} modules equal, KL {kl.sum(-1).mean():.4f}")


def check_modelopt(folder, config, source):
    tensors = read_folder(folder)
    algorithm = config["quant_algo"]
    if algorithm not in SHAPES:
        print(f"{folder.name}: {algorithm}, not checked here")
        return
    modules = sorted(n[: -len(".weight_scale")] for n in tensors if n.endswith(".weight_scale"))
    for module in modules:
        rows, columns = source[module + ".weight"].shape
        for suffix, (dtype, shape) in SHAPES[algorithm].items():
            tensor = tensors[f"{module}.{suffix}"]
            assert tensor.dtype == dtype and tuple(tensor.shape) == shape(rows, columns), (folder.name, module, suffix)
    print(f"{folder.name}: {len(modules)} modules of {algorithm} well-formed")


def main():
    folders, source = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    model = AutoModelForImageTextToText.from_pretrained(source, dtype=torch.bfloat16)
    reference = logits_of(model)
    for folder in sorted(folders.iterdir()):
        config = json.loads((folder / "config.json").read_text()).get("quantization_config")
        if config is None:
            print(f"{folder.name}: not quantized")
        elif config["quant_method"] == "modelopt":
            check_modelopt(folder, config, read_folder(source))
        else:
            check_compressed_tensors(folder, reference)


main()
