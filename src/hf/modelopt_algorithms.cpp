#include "hf/modelopt_algorithms.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace halftone {
namespace {

using Kind = InputQuant::Kind;

constexpr QuantSpec kTensorE4M3{Element::kE4M3, Granularity::kTensor};
constexpr QuantSpec kChannelE4M3{Element::kE4M3, Granularity::kChannel};
constexpr QuantSpec kTileE4M3{Element::kE4M3, Granularity::kTile, kTileSize};
constexpr QuantSpec kChannelInt8{Element::kInt8, Granularity::kChannel};
constexpr QuantSpec kInt4{Element::kInt4, Granularity::kGroup, 128};
constexpr QuantSpec kNvfp4{Element::kE2M1, Granularity::kGroup, 16};
constexpr QuantSpec kNvfp4Wide{Element::kE2M1, Granularity::kGroup, 32};
constexpr QuantSpec kMxfp4{Element::kE2M1, Granularity::kGroup, 32, true};
constexpr QuantSpec kMxfp8{Element::kE4M3, Granularity::kGroup, 32, true};

// scheme: storage, weights, inputs, input scales, low rank, FP8 weight scale; then states_group, states_awq
constexpr ModelOptAlgorithm kAlgorithms[] = {
    {"FP8", {Storage::kPlain, kTensorE4M3, Kind::kStaticE4M3}},
    {"FP8_PER_CHANNEL_PER_TOKEN", {Storage::kPlain, kChannelE4M3, Kind::kDynamicE4M3}},
    {"fp8_pb_wo", {Storage::kPlain, kTileE4M3, Kind::kNone}},
    {"W8A16", {Storage::kPlain, kChannelInt8, Kind::kNone}},
    {"W8A8_SQ_PER_CHANNEL", {Storage::kPlain, kChannelInt8, Kind::kStaticInt8, true}},
    {"W4A16_AWQ", {Storage::kRowPairs, kInt4, Kind::kNone, true}, true, true},
    {"W4A8_AWQ", {Storage::kRowPairs, kInt4, Kind::kStaticE4M3, true, false, true}, true, true},
    {"NVFP4", {Storage::kBlocks, kNvfp4, Kind::kDynamicNvfp4}, true},
    {"NVFP4_AWQ", {Storage::kBlocks, kNvfp4, Kind::kDynamicNvfp4, true}, true, true},
    {"NVFP4_SVD", {Storage::kBlocks, kNvfp4, Kind::kDynamicNvfp4, true, true}, true, true},
    {"W4A16_NVFP4", {Storage::kBlocks, kNvfp4, Kind::kNone}, true},
    {"W4A8_NVFP4_FP8", {Storage::kBlocks, kNvfp4Wide, Kind::kStaticE4M3}, true},
    {"mxfp4", {Storage::kBlocks, kMxfp4, Kind::kDynamicMxfp4}},
    {"W4A8_MXFP4_FP8", {Storage::kBlocks, kMxfp4, Kind::kDynamicE4M3}, true},
    {"MXFP8", {Storage::kPlain, kMxfp8, Kind::kDynamicMxfp8}, true},
};

bool same_letters(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](unsigned char x, unsigned char y) { return std::toupper(x) == std::toupper(y); });
}

}  // namespace

std::span<const ModelOptAlgorithm> modelopt_algorithms() { return kAlgorithms; }

const ModelOptAlgorithm* find_modelopt_algorithm(std::string_view name) {
  const auto it = std::find_if(std::begin(kAlgorithms), std::end(kAlgorithms),
                               [&](const ModelOptAlgorithm& row) { return same_letters(row.name, name); });
  return it == std::end(kAlgorithms) ? nullptr : it;
}

std::string modelopt_algorithm_names() {
  std::string names;
  for (const ModelOptAlgorithm& row : kAlgorithms) names += (names.empty() ? "" : ", ") + std::string(row.name);
  return names;
}

}  // namespace halftone
