#include "report/figures.h"
#include "report/sections.h"
#include "report/table.h"

namespace halftone {
namespace {

// "a.b.c" and its value, for every leaf. Lists of plain values are leaves.
void flatten(const Json& json, const std::string& path, Table& table) {
  if (json.is_object()) {
    for (const auto& [key, value] : json.items()) flatten(value, path.empty() ? key : path + "." + key, table);
    return;
  }
  std::string text = json.is_string() ? json.get<std::string>() : json.dump();
  if (json.is_array()) {
    text.clear();
    for (const Json& item : json) {
      text += (text.empty() ? "" : ", ") + (item.is_string() ? item.get<std::string>() : item.dump());
    }
  }
  table.add({path, text});
}

std::string configurations_table(const StudySummary& study) {
  Table table({"configuration", "recipe", "weights", "inputs", "KV cache", "weights hash", "numerics", "products",
               "instruction set", "pixels", "calibrated", "quantized in"},
              true);
  for (const ConfigurationSummary& c : study.configurations) {
    const ConfigurationRow& r = c.row;
    table.add({r.name, r.recipe, r.weights, r.inputs, r.kv_format, short_hash(r.weights_hash), r.numerics, r.products,
               r.instruction_set, fmt::format("{} to {}", r.min_pixels, r.max_pixels), r.calibrated ? "yes" : "no",
               c.quantization ? fmt::format("{:.1f} s", c.quantization->seconds) : ""});
  }
  return table.markdown();
}

std::string tasks_table(const StudySummary& study) {
  Table table({"task", "kind", "samples", "data hash", "prompts", "prompt hash", "new tokens"}, true);
  for (const TaskRow& t : study.tasks) {
    table.add({t.name, std::string(to_string(t.kind)), std::to_string(t.samples), short_hash(t.data_hash), t.prompts,
               short_hash(t.prompt_hash), t.max_new_tokens ? std::to_string(t.max_new_tokens) : ""});
  }
  return table.markdown();
}

}  // namespace

std::string conditions_section(const StudySummary& study) {
  Table machine({"machine", "value"}, true), settings({"setting", "value"}, true);
  flatten(study.info.machine, "", machine);
  flatten(study.info.settings, "", settings);
  std::string text = fmt::format(
      "## Conditions of measurement\n\nProgram: {}, executable {}. Decoding is greedy. Hashes are SHA-256, shortened "
      "here; the study file holds them whole, with every answer.\n\n{}\n{}\n{}\n{}",
      study.info.program, short_hash(study.info.program_hash), configurations_table(study), tasks_table(study),
      machine.markdown(), settings.markdown());
  for (const auto& [key, note] : study.notes) {
    if (key != "purpose") text += fmt::format("\n- {}: {}", key, note);
  }
  if (text.back() != '\n') text += '\n';
  return text;
}

}  // namespace halftone
