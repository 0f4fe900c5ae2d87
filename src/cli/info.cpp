// halftone info: what a checkpoint consists of, what each recipe and each format would make of it, and which layers
// cannot follow.

#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <map>

#include "base/number_text.h"
#include "cli/command.h"
#include "hf/checkpoint.h"
#include "quant/inventory.h"

namespace halftone::cli {
namespace {

struct InfoOptions {
  std::string model;
  bool json = false;
};

Json to_json(const std::vector<Refusal>& refusals) {
  Json json = Json::array();
  for (const Refusal& refusal : refusals) json.push_back({{"module", refusal.module}, {"reason", refusal.reason}});
  return json;
}

std::string name_of(const FormatCost& cost) {
  return cost.inputs == "none" ? cost.weights : fmt::format("{}, inputs {}", cost.weights, cost.inputs);
}

Json to_json(const Inventory& inventory) {
  Json json;
  json["architecture"] = inventory.architecture;
  json["quantization"] = inventory.quantization;
  if (!inventory.layer_formats.empty()) json["layer_formats"] = inventory.layer_formats;
  json["decoder"] = {{"layers", inventory.layers},     {"hidden", inventory.hidden},
                     {"heads", inventory.heads},       {"kv_heads", inventory.kv_heads},
                     {"head_dim", inventory.head_dim}, {"vocabulary", inventory.vocabulary}};
  json["kv_bytes_per_token"] = inventory.kv_bytes_per_token;
  for (const PartSize& part : inventory.parts) {
    json["parts"][part.part] = {{"modules", part.modules}, {"parameters", part.parameters}, {"bytes", part.bytes}};
  }
  for (const RecipeCost& cost : inventory.recipes) {
    json["recipes"][cost.recipe] = {{"bytes", cost.bytes},
                                    {"layers", cost.quantized},
                                    {"calibration", cost.needs_calibration},
                                    {"refused", to_json(cost.refusals)}};
  }
  for (const FormatCost& cost : inventory.formats) {
    json["formats"][name_of(cost)] = {{"weights", cost.weights}, {"inputs", cost.inputs},
                                      {"layout", cost.layout},   {"bytes", cost.bytes},
                                      {"layers", cost.layers},   {"refused", to_json(cost.refusals)}};
    if (cost.head_bytes) json["formats"][name_of(cost)]["tied_head_bytes"] = *cost.head_bytes;
  }
  return json;
}

void print_parts(const Inventory& inventory) {
  std::cout << fmt::format("{:<12} {:>8} {:>16} {:>12}\n", "part", "modules", "parameters", "size");
  PartSize all{"all"};
  for (const PartSize& part : inventory.parts) {
    std::cout << fmt::format("{:<12} {:>8} {:>16} {:>12}\n", part.part, part.modules, part.parameters,
                             size_text(part.bytes));
    all.parameters += part.parameters;
    all.bytes += part.bytes;
  }
  std::cout << fmt::format("{:<12} {:>8} {:>16} {:>12}\n", all.part, "", all.parameters, size_text(all.bytes));
}

void print_recipes(const std::vector<RecipeCost>& recipes) {
  std::cout << fmt::format("\n{:<14} {:>10} {:>8} {:>12} {:>14}\n", "recipe", "size", "layers", "calibration",
                           "cannot follow");
  for (const RecipeCost& cost : recipes) {
    std::cout << fmt::format("{:<14} {:>10} {:>8} {:>12} {:>14}\n", cost.recipe, size_text(cost.bytes), cost.quantized,
                             cost.needs_calibration ? "yes" : "no", cost.refusals.size());
  }
}

void print_formats(const std::vector<FormatCost>& formats) {
  // a head that is tied to the embedding costs bytes of its own once it is quantized
  const bool tied = std::any_of(formats.begin(), formats.end(), [](const FormatCost& c) { return c.head_bytes; });
  const auto head = [&](const std::string& text) { return tied ? fmt::format(" {:>12}", text) : std::string(); };
  std::cout << fmt::format("\n{:<36} {:<18} {:>10} {:>8} {:>12}{}\n", "format on every linear layer", "layout", "size",
                           "layers", "cannot take", head("a head, too"));
  for (const FormatCost& cost : formats) {
    std::cout << fmt::format("{:<36} {:<18} {:>10} {:>8} {:>12}{}\n", name_of(cost), cost.layout, size_text(cost.bytes),
                             cost.layers, cost.refusals.size(),
                             head(cost.head_bytes ? "+" + size_text(*cost.head_bytes) : "-"));
  }
}

// One line for a reason, with how many layers have it and the first of them: a tower's layers are all alike.
void print_refusals(const std::string& name, const std::vector<Refusal>& refusals) {
  std::map<std::string, std::vector<std::string>> by_reason;
  for (const Refusal& refusal : refusals) by_reason[refusal.reason].push_back(refusal.module);
  for (const auto& [reason, modules] : by_reason) {
    std::cout << fmt::format("{}: {}: {} layers, such as {}\n", name, reason, modules.size(), modules.front());
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
  for (const auto& [format, layers] : inventory.layer_formats)
    std::cout << fmt::format("{} linear layers {}\n", layers, format);
  if (!inventory.layer_formats.empty()) std::cout << "\n";
  print_parts(inventory);
  if (inventory.recipes.empty()) return kDone;
  print_recipes(inventory.recipes);
  print_formats(inventory.formats);
  std::cout << '\n';
  for (const RecipeCost& cost : inventory.recipes) print_refusals("recipe " + cost.recipe, cost.refusals);
  for (const FormatCost& cost : inventory.formats) print_refusals(name_of(cost), cost.refusals);
  return kDone;
}

}  // namespace

Command declare_info(CLI::App& parent) {
  auto options = std::make_shared<InfoOptions>();
  CLI::App* app = parent.add_subcommand(
      "info", "Parts, parameters and bytes; what each recipe and format would cost, and which layers cannot follow");
  app->add_option("model", options->model, "Checkpoint folder")->required()->check(CLI::ExistingDirectory);
  app->add_flag("--json", options->json, "Result as JSON");
  return {app, [options](const Environment&) { return run_info(*options); }};
}

}  // namespace halftone::cli
