// halftone info: what a checkpoint consists of, what each recipe would make of it, and which layers cannot follow.

#include <fmt/format.h>

#include <iostream>

#include "cli/command.h"
#include "hf/checkpoint.h"
#include "quant/inventory.h"

namespace halftone::cli {
namespace {

constexpr double kMiB = 1024 * 1024;

struct InfoOptions {
  std::string model;
  bool json = false;
};

Json to_json(const Inventory& inventory) {
  Json json;
  json["architecture"] = inventory.architecture;
  json["quantization"] = inventory.quantization;
  json["decoder"] = {{"layers", inventory.layers},     {"hidden", inventory.hidden},
                     {"heads", inventory.heads},       {"kv_heads", inventory.kv_heads},
                     {"head_dim", inventory.head_dim}, {"vocabulary", inventory.vocabulary}};
  json["kv_bytes_per_token"] = inventory.kv_bytes_per_token;
  for (const PartSize& part : inventory.parts) {
    json["parts"][part.part] = {{"modules", part.modules}, {"parameters", part.parameters}, {"bytes", part.bytes}};
  }
  for (const RecipeCost& cost : inventory.recipes) {
    Json& row = json["recipes"][cost.recipe];
    row = {{"bytes", cost.bytes}, {"layers", cost.quantized}, {"calibration", cost.needs_calibration}};
    row["refused"] = Json::array();
    for (const Refusal& refusal : cost.refusals) {
      row["refused"].push_back({{"module", refusal.module}, {"reason", refusal.reason}});
    }
  }
  return json;
}

void print_parts(const Inventory& inventory) {
  std::cout << fmt::format("{:<12} {:>8} {:>16} {:>12}\n", "part", "modules", "parameters", "MiB");
  std::int64_t parameters = 0, bytes = 0;
  for (const PartSize& part : inventory.parts) {
    std::cout << fmt::format("{:<12} {:>8} {:>16} {:>12.2f}\n", part.part, part.modules, part.parameters,
                             static_cast<double>(part.bytes) / kMiB);
    parameters += part.parameters;
    bytes += part.bytes;
  }
  std::cout << fmt::format("{:<12} {:>8} {:>16} {:>12.2f}\n\n", "all", "", parameters,
                           static_cast<double>(bytes) / kMiB);
}

void print_recipes(const Inventory& inventory) {
  std::cout << fmt::format("{:<14} {:>10} {:>8} {:>12}  {}\n", "recipe", "MiB", "layers", "calibration",
                           "cannot follow");
  for (const RecipeCost& cost : inventory.recipes) {
    std::cout << fmt::format("{:<14} {:>10.2f} {:>8} {:>12}  {}\n", cost.recipe, static_cast<double>(cost.bytes) / kMiB,
                             cost.quantized, cost.needs_calibration ? "yes" : "no",
                             cost.refusals.empty() ? "-" : fmt::format("{} layers", cost.refusals.size()));
  }
  for (const RecipeCost& cost : inventory.recipes) {
    for (const Refusal& refusal : cost.refusals) {
      std::cout << fmt::format("{}: {}: {}\n", cost.recipe, refusal.module, refusal.reason);
    }
  }
}

int run_info(const InfoOptions& options) {
  const Inventory inventory = take_inventory(Checkpoint::open(options.model));
  if (options.json) {
    print_json(to_json(inventory));
    return kDone;
  }
  std::cout << fmt::format("{}: {} layers, width {}, {} heads, {} for keys and values, head size {}, vocabulary {}\n",
                           inventory.architecture, inventory.layers, inventory.hidden, inventory.heads,
                           inventory.kv_heads, inventory.head_dim, inventory.vocabulary);
  std::cout << fmt::format("quantization: {}; KV cache: {} bytes a token in bf16\n\n", inventory.quantization,
                           inventory.kv_bytes_per_token);
  print_parts(inventory);
  if (!inventory.recipes.empty()) print_recipes(inventory);
  return kDone;
}

}  // namespace

Command declare_info(CLI::App& parent) {
  auto options = std::make_shared<InfoOptions>();
  CLI::App* app =
      parent.add_subcommand("info", "Parts, parameters and bytes; what each recipe would cost, and what it cannot do");
  app->add_option("model", options->model, "Checkpoint folder")->required()->check(CLI::ExistingDirectory);
  app->add_flag("--json", options->json, "Result as JSON");
  return {app, [options](const Environment&) { return run_info(*options); }};
}

}  // namespace halftone::cli
