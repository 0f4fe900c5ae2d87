// What quantization costs the demo model and what each algorithm wins back, against tests/quality/quality.csv.
//
// After a wanted change, HALFTONE_UPDATE_GOLDEN=1 build/release/tests/quality/quality_test writes the table again; read
// the difference before committing it.

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <sstream>

#include "base/file.h"
#include "driver/run_study.h"
#include "study/summary.h"
#include "tests/study/example.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;

const fs::path kRoot = HALFTONE_SOURCE_DIR;
const fs::path kTable = kRoot / "tests/quality/quality.csv";
constexpr const char* kHeader = "configuration,answers,kl,kl_least,kl_most,top1_percent,right_percent";
// The engine gives the same bits on every machine, so that only a change of the program moves a figure. A tenth lets
// pass what another order of a sum does and no more.
constexpr double kMargin = 0.1;
// What the smallest of the three effects must at least be, for the alarm to be one.
constexpr double kWonBack = 3;

struct Row {
  std::int64_t answers = 0;
  double kl = 0, kl_least = 0, kl_most = 0;
};

std::map<std::string, Row> read_table() {
  std::istringstream lines(read_file(kTable));
  std::string line;
  std::getline(lines, line);
  require(line == kHeader, kTable.string(), "expected the header '{}', found '{}'", kHeader, line);
  std::map<std::string, Row> rows;
  while (std::getline(lines, line)) {
    const auto comma = line.find(',');
    std::istringstream cells(line.substr(comma + 1));
    Row& row = rows[line.substr(0, comma)];
    char separator = 0;
    cells >> row.answers >> separator >> row.kl >> separator >> row.kl_least >> separator >> row.kl_most;
    require(!cells.fail(), kTable.string(), "expected numbers, found '{}'", line);
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

void write_table(const StudySummary& study) {
  std::string text = std::string(kHeader) + "\n";
  for (const ConfigurationSummary& c : study.configurations) {
    if (c.divergence.empty()) continue;
    const Divergence& d = c.divergence.begin()->second;
    text +=
        fmt::format("{},{},{:.5f},{:.5f},{:.5f},{:.1f},{:.1f}\n", c.row.name, d.samples, d.kl.value,
                    (1 - kMargin) * d.kl.value, (1 + kMargin) * d.kl.value, 100 * d.agreement.value, right_percent(c));
  }
  write_file_atomically(kTable, text);
}

TEST(Quality, IsThatOfTheTable) {
  const testing::TemporaryFolder folder;
  RunStudyOptions options;
  options.file = folder / "study.db";
  const StudyPlan plan =
      parse_study_plan(read_file(kRoot / "tests/quality/study.yaml"), kRoot / "demo", "tests/quality/study.yaml");
  ASSERT_EQ(run_study(plan, options), StudyOutcome::kFinished);
  const StudySummary study = summarize_study(Store::open(options.file));
  if (std::getenv("HALFTONE_UPDATE_GOLDEN")) write_table(study);

  const std::map<std::string, Row> table = read_table();
  EXPECT_EQ(table.size() + 1, study.configurations.size());  // all but the baseline
  std::map<std::string, double> kl;
  for (const auto& [name, row] : table) {
    const ConfigurationSummary* c = study.find(name);
    ASSERT_NE(c, nullptr) << name;
    const Divergence& d = c->divergence.at("kl");
    kl[name] = d.kl.value;
    EXPECT_EQ(d.samples, row.answers) << name;
    EXPECT_LE(d.kl.value, row.kl_most) << name << " diverges more than it did";
    EXPECT_GE(d.kl.value, row.kl_least) << name << " diverges less than it did: write the table again";
  }
  // The alarm: each of these must lose without its remedy, and the remedy must win it back.
  const std::pair<const char*, const char*> remedies[] = {
      {"int4_wo", "int4_awq"}, {"int8", "int8_sq"}, {"fp8+kv:fp8", "fp8+kv:fp8_calibrated"}};
  for (const auto& [without, with] : remedies) EXPECT_GT(kl.at(without), kWonBack * kl.at(with)) << with;
}

}  // namespace
}  // namespace halftone
