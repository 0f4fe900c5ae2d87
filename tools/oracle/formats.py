"""The formats that are compared: what each tool calls them, and the recipe that asks Halftone for the same."""

RECIPE = """layout: {layout}
algorithm: {algorithm}
{kv}rules:
{rules}"""


def recipe(layout, *rules, algorithm="round-to-nearest", kv=None):
    """rules: (glob, weights, inputs)."""
    text = "".join(f'  - match: "{g}"\n    weights: {w}\n' + (f"    inputs: {x}\n" if x != "none" else "") for g, w, x in rules)
    return RECIPE.format(layout=layout, algorithm=algorithm, kv=f"kv: {kv}\n" if kv else "", rules=text)


def modelopt(weights, inputs="none", **more):
    return recipe("modelopt", ("*", weights, inputs), **more)


# name: (ModelOpt's configuration, recipe)
MODELOPT = {
    "fp8": ("FP8_DEFAULT_CFG", modelopt("e4m3_tensor", "e4m3_tensor")),
    "fp8_kv": ("FP8_DEFAULT_CFG+FP8_KV_CFG", modelopt("e4m3_tensor", "e4m3_tensor", kv="fp8_calibrated")),
    "fp8_pc_pt": ("FP8_PER_CHANNEL_PER_TOKEN_CFG", modelopt("e4m3_channel", "e4m3_token")),
    "fp8_tile": ("FP8_2D_BLOCKWISE_WEIGHT_ONLY_CFG", modelopt("e4m3_tile128")),
    "int8_wo": ("INT8_WEIGHT_ONLY_CFG", modelopt("int8_channel")),
    "int8_sq": ("INT8_SMOOTHQUANT_CFG", modelopt("int8_channel", "int8_tensor", algorithm="{name: smoothquant, mode: modelopt}")),
    "int4_awq": ("INT4_AWQ_CFG", modelopt("int4_group128", algorithm="{name: awq, mode: modelopt}")),
    "w4a8_awq": ("W4A8_AWQ_BETA_CFG", modelopt("int4_group128", "e4m3_tensor", algorithm="{name: awq, mode: modelopt}")),
    "nvfp4": ("NVFP4_DEFAULT_CFG", modelopt("nvfp4_block16", "nvfp4_block16")),
    "nvfp4_awq": ("NVFP4_AWQ_LITE_CFG", modelopt("nvfp4_block16", "nvfp4_block16", algorithm="{name: awq, mode: modelopt}")),
    "int4_clip": ("INT4_AWQ_CFG:awq_clip", modelopt("int4_group128", algorithm="{name: awq, mode: modelopt, method: clip}")),
    "int4_full": ("INT4_AWQ_CFG:awq_full", modelopt("int4_group128", algorithm="{name: awq, mode: modelopt, method: full}")),
    "nvfp4_clip": ("NVFP4_AWQ_CLIP_CFG", modelopt("nvfp4_block16", "nvfp4_block16",
                                                  algorithm="{name: awq, mode: modelopt, method: clip}")),
    "nvfp4_full": ("NVFP4_AWQ_FULL_CFG", modelopt("nvfp4_block16", "nvfp4_block16",
                                                  algorithm="{name: awq, mode: modelopt, method: full}")),
    "w4a16_nvfp4": ("W4A16_NVFP4_CFG", modelopt("nvfp4_block16")),
    "nvfp4_svd": ("NVFP4_SVDQUANT_DEFAULT_CFG", modelopt("nvfp4_block16", "nvfp4_block16", algorithm="svdquant")),
    "nvfp4_w4a8": ("W4A8_NVFP4_FP8_CFG", modelopt("nvfp4_block32", "e4m3_tensor")),
    "mxfp4": ("MXFP4_DEFAULT_CFG", modelopt("mxfp4", "mxfp4")),
    "w4a8_mxfp4": ("W4A8_MXFP4_FP8_CFG", modelopt("mxfp4", "e4m3_token")),
    "mxfp8": ("MXFP8_DEFAULT_CFG", modelopt("mxfp8", "mxfp8")),
    "mixed": ("mixed", recipe("modelopt", ("*", "e4m3_tensor", "e4m3_tensor"), ("*.mlp.*", "nvfp4_block16", "nvfp4_block16"),
                              ("*.layers.0.*", "none", "none"))),
}


def compressed(weights, inputs="none", **more):
    return recipe("compressed-tensors", ("*", weights, inputs), **more)


# name: (a preset of compressed-tensors, or arguments of weights, and arguments of inputs, recipe)
def args(bits, type_, strategy, **more):
    return dict(num_bits=bits, type=type_, strategy=strategy, **more)


COMPRESSED = {
    "w8a16": (args(8, "int", "channel"), None, compressed("int8_channel")),
    "w8a16_g128": ("W8A16", None, compressed("int8_group128")),
    "w8a16_asym": (args(8, "int", "channel", symmetric=False), None, compressed("int8_channel_asym")),
    "w4a16_channel": (args(4, "int", "channel"), None, compressed("int4_channel")),
    "w4a16_g128": ("W4A16", None, compressed("int4_group128")),
    "w4a16_g32": (args(4, "int", "group", group_size=32), None, compressed("int4_group32")),
    "w4a16_asym": ("W4A16_ASYM", None, compressed("int4_group128_asym")),
    "w4a16_asym_g64": (args(4, "int", "group", group_size=64, symmetric=False), None, compressed("int4_group64_asym")),
    "w8a8": ("W8A8", None, compressed("int8_channel", "int8_token")),
    "w8a8_static": (args(8, "int", "channel"), args(8, "int", "tensor", observer="static_minmax"),
                    compressed("int8_channel", "int8_tensor")),
    "fp8": ("FP8", None, compressed("e4m3_tensor", "e4m3_tensor")),
    "fp8_dynamic": ("FP8_DYNAMIC", None, compressed("e4m3_channel", "e4m3_token")),
    "fp8_block": ("FP8_BLOCK", None, compressed("e4m3_tile128", "e4m3_group128")),
    "nvfp4a16": ("NVFP4A16", None, compressed("nvfp4_block16")),
    "nvfp4": ("NVFP4", None, compressed("nvfp4_block16", "nvfp4_block16")),
    "mxfp4a16": ("MXFP4A16", None, compressed("mxfp4")),
    "mxfp4": ("MXFP4", None, compressed("mxfp4", "mxfp4")),
    "mxfp6a16": ("MXFP6A16", None, compressed("mxfp6_e2m3")),
    "mxfp6a8": ("MXFP6A8", None, compressed("mxfp6_e2m3", "mxfp8")),
    "mxfp8a16": ("MXFP8A16", None, compressed("mxfp8")),
    "mxfp8": ("MXFP8", None, compressed("mxfp8", "mxfp8")),
}
