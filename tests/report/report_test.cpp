#include "report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/file.h"
#include "tests/study/synthetic_study.h"

namespace halftone {
namespace {

using ::testing::HasSubstr;
using testing::SyntheticStudy;
using testing::TemporaryFolder;

// report.md of the synthetic study, word for word. After a wanted change, run the test with HALFTONE_UPDATE_GOLDEN=1
// and read the difference before committing it.
TEST(Report, EqualsTheGoldenOne) {
  const TemporaryFolder folder;
  Store store = Store::create_or_resume(folder / "study.db", SyntheticStudy::info());
  SyntheticStudy(store).fill();
  const auto files = write_report(summarize_study(store), folder / "report");
  const std::filesystem::path golden = std::filesystem::path(HALFTONE_SOURCE_DIR) / "tests/golden/report.md";
  const std::string report = read_file(folder / "report" / "report.md");
  if (std::getenv("HALFTONE_UPDATE_GOLDEN")) write_file_atomically(golden, report);
  EXPECT_EQ(report, read_file(golden));
  for (const char* name : {"tradeoff", "accuracy", "mme", "speed", "memory", "fp8_kv"}) {
    EXPECT_THAT(report, HasSubstr(fmt::format("(charts/{}.svg)", name)));
  }
  // Two files a chart, and the text.
  EXPECT_EQ(files.size(), 13u);
  for (const auto& file : files) EXPECT_GT(std::filesystem::file_size(file), 1000u) << file;
}

TEST(Report, TellsWhatIsMissing) {
  const TemporaryFolder folder;
  StudyInfo info = testing::example_info();
  info.settings = {{"baseline", "bf16"}, {"configurations", {"bf16", "fp8"}}};
  Store store = Store::create_or_resume(folder / "study.db", info);
  EXPECT_THROW(write_report(summarize_study(store), folder / "report"), Error);
  store.add_configuration(testing::example_configuration());
  store.add_task(testing::example_task());
  const std::string report = render_markdown(summarize_study(store), {});
  EXPECT_THAT(report, HasSubstr("This study is not finished"));
  EXPECT_THAT(report, HasSubstr("- fp8: not begun"));
  EXPECT_THAT(report, HasSubstr("- vqav2 of bf16: 0 of 3 samples"));
}

}  // namespace
}  // namespace halftone
