// What quantization costs the demo model and what each algorithm wins back, against committed tables: quality.csv, a
// hundred answers about pictures in every recipe and algorithm, and ci.csv, a part of it that CI has time for. Rows may
// only get better.
//
//   HALFTONE_QUALITY=all build/release/tests/quality/quality_test        also measures the hundred answers (minutes)
//   HALFTONE_UPDATE_GOLDEN=1 ...                                         writes the tables that it measures again; it
//                                                                        refuses rows that got worse
//   HALFTONE_UPDATE_GOLDEN=worse ...                                     writes them all the same

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <sstream>

#include "base/file.h"
#include "driver/run_study.h"
#include "quant/recipe.h"
#include "study/summary.h"
#include "tests/study/example.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;

const fs::path kRoot = HALFTONE_SOURCE_DIR;
constexpr const char* kHeader = "configuration,answers,kl,top1_percent,right_percent";
// The engine gives the same bits on every machine, so that only a change of the program moves a figure. A tenth lets
// pass what another order of a sum does and no more; so do two answers of a hundred.
constexpr double kMargin = 0.1, kRightMargin = 2.0;
// What the smallest of the effects in kRemedies must at least be, for the alarm to be one.
constexpr double kWonBack = 3;

struct Row {
  std::int64_t answers = 0;
  double kl = 0, top1_percent = 0, right_percent = 0;
};
using Table = std::map<std::string, Row>;

bool is_worse(const Row& now, const Row& before) {
  return now.kl > (1 + kMargin) * before.kl || now.right_percent < before.right_percent - kRightMargin;
}

bool is_better(const Row& now, const Row& before) {
  return now.kl < (1 - kMargin) * before.kl || now.right_percent > before.right_percent + kRightMargin;
}

Table read_table(const fs::path& path) {
  std::istringstream lines(read_file(path));
  std::string line;
  std::getline(lines, line);
  require(line == kHeader, path.string(), "expected the header '{}', found '{}'", kHeader, line);
  Table rows;
  while (std::getline(lines, line)) {
    const auto comma = line.find(',');
    std::istringstream cells(line.substr(comma + 1));
    Row& row = rows[line.substr(0, comma)];
    char c = 0;
    cells >> row.answers >> c >> row.kl >> c >> row.top1_percent >> c >> row.right_percent;
    require(!cells.fail(), path.string(), "expected numbers, found '{}'", line);
  }
  return rows;
}

double right_percent(const ConfigurationSummary& c) {
  double right = 0, samples = 0;
  for (const auto& [task, accuracy] : c.accuracy) {
    right += accuracy.value.value * static_cast<double>(accuracy.samples);
    samples += static_cast<double>(accuracy.samples);
  }
  return 100 * right / samples;
}

// A recipe's file goes by its name.
std::string short_name(const std::string& configuration) {
  return configuration.ends_with(".yaml") ? fs::path(configuration).stem().string() : configuration;
}

// In the order of the study.
std::vector<std::pair<std::string, Row>> measure(const fs::path& plan_file) {
  const testing::TemporaryFolder folder;
  RunStudyOptions options;
  options.file = folder / "study.db";
  const StudyPlan plan = parse_study_plan(read_file(plan_file), kRoot / "demo", plan_file.string());
  EXPECT_EQ(run_study(plan, options), StudyOutcome::kFinished);
  std::vector<std::pair<std::string, Row>> rows;
  for (const ConfigurationSummary& c : summarize_study(Store::open(options.file)).configurations) {
    if (c.divergence.empty()) continue;  // the baseline
    const Divergence& d = c.divergence.begin()->second;
    rows.push_back({short_name(c.row.name), {d.samples, d.kl.value, 100 * d.agreement.value, right_percent(c)}});
  }
  return rows;
}

void write_table(const fs::path& path, const std::vector<std::pair<std::string, Row>>& rows, bool even_worse) {
  const Table before = fs::exists(path) ? read_table(path) : Table{};
  std::string text = std::string(kHeader) + "\n";
  for (const auto& [name, row] : rows) {
    const auto it = before.find(name);
    require(even_worse || it == before.end() || !is_worse(row, it->second), name,
            "worse than {} says: a divergence of {:.5f}, {:.1f} % right", path.filename().string(), row.kl,
            row.right_percent);
    text += fmt::format("{},{},{:.5f},{:.1f},{:.1f}\n", name, row.answers, row.kl, row.top1_percent, row.right_percent);
  }
  write_file_atomically(path, text);
}

// Each of these must lose without its remedy, and the remedy must win it back.
constexpr std::pair<const char*, const char*> kRemedies[] = {
    {"int4_wo", "int4_awq"}, {"int8", "int8_sq"}, {"fp8+kv:fp8", "fp8+kv:fp8_calibrated"}};

void check(const std::string& study, const std::string& csv) {
  const fs::path path = kRoot / "tests/quality" / csv;
  const auto measured = measure(kRoot / "tests/quality" / study);
  if (const char* update = std::getenv("HALFTONE_UPDATE_GOLDEN")) {
    write_table(path, measured, std::string_view(update) == "worse");
  }
  const Table table = read_table(path);
  EXPECT_EQ(table.size(), measured.size());
  std::map<std::string, double> kl;
  for (const auto& [name, row] : measured) {
    const auto it = table.find(name);
    ASSERT_NE(it, table.end()) << name << " is missing in " << csv;
    EXPECT_EQ(row.answers, it->second.answers) << name;
    EXPECT_FALSE(is_worse(row, it->second)) << name << " is worse than " << csv << " says: a divergence of " << row.kl
                                            << ", " << row.right_percent << " % right";
    EXPECT_FALSE(is_better(row, it->second)) << name << " is better than " << csv << " says, a divergence of " << row.kl
                                             << ": commit the new table (HALFTONE_UPDATE_GOLDEN=1)";
    kl[name] = row.kl;
  }
  for (const auto& [without, with] : kRemedies) EXPECT_GT(kl.at(without), kWonBack * kl.at(with)) << with;
}

TEST(Quality, OfThePartThatCiMeasures) { check("ci.yaml", "ci.csv"); }

TEST(Quality, OfEverything) {
  const char* wanted = std::getenv("HALFTONE_QUALITY");
  if (wanted == nullptr || std::string_view(wanted) != "all") GTEST_SKIP() << "HALFTONE_QUALITY=all measures it";
  check("study.yaml", "quality.csv");
}

TEST(Quality, TheTableHasEveryShippedRecipeAndWhatCiMeasures) {
  const Table table = read_table(kRoot / "tests/quality/quality.csv");
  for (const std::string& recipe : shipped_recipes()) {
    if (recipe != "bf16") {
      EXPECT_TRUE(table.contains(recipe)) << recipe;
    }
  }
  for (const auto& [name, row] : read_table(kRoot / "tests/quality/ci.csv")) {
    EXPECT_TRUE(table.contains(name)) << name;
  }
  for (const auto& [name, row] : table) EXPECT_GE(row.answers, 100) << name;
}

}  // namespace
}  // namespace halftone
