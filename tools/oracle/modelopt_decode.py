"""What a folder of ModelOpt's unified layout stands for: decodes its tensors and rounds inputs, in f32, by the definition
of each algorithm (modelopt/torch/export/quant_utils.py, nn/modules/tensor_quantizer.py of ModelOpt 0.47)."""
import json
from pathlib import Path

import torch

from common import canonical, load_model, read_tensors

E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def e2m1(x):
    """The nearest value of E2M1, ties to even, beyond 6 saturated."""
    magnitude = x.abs().clamp(max=6)
    step = torch.where(magnitude < 2, 0.5, torch.where(magnitude < 4, 1.0, 2.0))
    return torch.sign(x) * (magnitude / step).round() * step


def e4m3(x):
    return x.clamp(-448, 448).to(torch.float8_e4m3fn).float()


def blocks(x, size):
    return x.reshape(*x.shape[:-1], -1, size)


def mx(x, largest, rounded):
    amax = blocks(x, 32).abs().amax(-1, keepdim=True)
    scale = torch.exp2(torch.ceil(torch.log2(amax / largest)).clamp(-127, 127))
    return (rounded(blocks(x, 32) / scale) * scale).reshape(x.shape)


def nvfp4(x, scale):
    amax = blocks(x, 16).abs().amax(-1, keepdim=True)
    block = e4m3(amax / 6 / scale) * scale
    return torch.where(block == 0, torch.zeros(()), e2m1(blocks(x, 16) / torch.where(block == 0, torch.ones(()), block)) * block).reshape(x.shape)


def e4m3_by_token(x):
    scale = x.abs().amax(-1, keepdim=True) / 448
    return e4m3(x / torch.where(scale == 0, torch.ones(()), scale)) * scale


def nibbles(codes):
    return torch.stack((codes & 15, codes >> 4), -1).flatten(1).long()


def by_group(codes, scale):
    return codes * scale.repeat_interleave(codes.shape[1] // scale.shape[1], 1)


def integers(codes):
    """ModelOpt's INT4: rows 2i and 2i + 1 in a byte."""
    rows = torch.stack((codes & 15, codes >> 4), 1).flatten(0, 1).int()
    return torch.where(rows > 7, rows - 16, rows).float()


def weight_of(part, algorithm):
    codes, scale = part["weight"], part["weight_scale"]
    if scale.dtype == torch.uint8:
        scale = torch.exp2(scale.float() - 127)
    scale = scale.float()
    if algorithm.startswith(("W4A16_AWQ", "W4A8_AWQ")):
        return by_group(integers(codes), scale)
    if codes.dtype == torch.uint8:
        return by_group(E2M1[nibbles(codes)], scale * part.get("weight_scale_2", torch.ones(())).float())
    if algorithm == "MXFP8":
        return by_group(codes.float(), scale)
    if scale.dim() == 4:
        full = scale[:, 0, :, 0].repeat_interleave(128, 0).repeat_interleave(128, 1)
        return codes.float() * full[: codes.shape[0], : codes.shape[1]]
    return codes.float() * (scale.reshape(-1, 1) if scale.numel() > 1 else scale)


def rounding_of(part, algorithm):
    scale = part["input_scale"].float() if "input_scale" in part else None
    if algorithm in ("FP8", "W4A8_AWQ", "W4A8_NVFP4_FP8"):
        return lambda x: e4m3(x / scale) * scale
    if algorithm == "W8A8_SQ_PER_CHANNEL":
        return lambda x: (x / scale).round().clamp(-128, 127) * scale
    if algorithm in ("NVFP4", "NVFP4_AWQ", "NVFP4_SVD"):
        return lambda x: nvfp4(x, scale)
    if algorithm in ("FP8_PER_CHANNEL_PER_TOKEN", "W4A8_MXFP4_FP8"):
        return e4m3_by_token
    if algorithm == "mxfp4":
        return lambda x: mx(x, 6, e2m1)
    if algorithm == "MXFP8":
        return lambda x: mx(x, 448, e4m3)
    if algorithm not in ("fp8_pb_wo", "W8A16", "W4A16_AWQ", "W4A16_NVFP4"):
        raise ValueError(f"nobody wrote down how {algorithm} rounds inputs")
    return lambda x: x


def replace(module, part, algorithm):
    weight, rounded = weight_of(part, algorithm), rounding_of(part, algorithm)
    before = part["pre_quant_scale"].float() if "pre_quant_scale" in part else torch.ones(())
    a, b = (part.get(f"weight_quantizer._svdquant_lora_{x}") for x in "ab")
    bias = module.bias

    def forward(x):
        x = x * before
        y = torch.nn.functional.linear(rounded(x), weight, bias)
        return y if a is None else y + x @ a.float().T @ b.float().T

    module.forward = forward


def load_modelopt(folder, source):
    quantization = json.loads((Path(folder) / "hf_quant_config.json").read_text())["quantization"]
    tensors = {canonical(n): t for n, t in read_tensors(folder).items()}
    model = load_model(source).float()
    for name, module in model.named_modules():
        name = canonical(name)
        part = {n[len(name) + 1 :]: t for n, t in tensors.items() if n.startswith(name + ".")} if name else {}
        if not isinstance(module, torch.nn.Linear) and "weight" in part and part["weight"].dim() == 1:
            module.weight.data = part["weight"].float()  # a norm that took over scales
        if not isinstance(module, torch.nn.Linear) or "weight_scale" not in part:
            continue
        layers = quantization.get("quantized_layers", {})
        algorithm = next((v for k, v in layers.items() if canonical(k) == name), quantization)["quant_algo"]
        if "bias" in part:
            module.bias.data = part["bias"].float()
        replace(module, part, algorithm)
    return model
