#include "eval/distributions.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "base/error.h"

namespace halftone {
namespace {

class Distributions : public testing::Test {
 protected:
  Distributions()
      : path_(std::filesystem::temp_directory_path() /
              ("halftone_distributions_" + std::to_string(getpid()) + "_" +
               testing::UnitTest::GetInstance()->current_test_info()->name())) {}
  ~Distributions() override { std::filesystem::remove(path_); }
  void add(DistributionWriter& writer, const std::string& id, float first) {
    const TokenId tokens[] = {7, 8};
    const float logits[] = {first, 2, 3, 4, 5, 6};
    writer.append(id, tokens, logits);
  }

  const std::filesystem::path path_;
  const std::string identity_ = std::string(64, 'a');
};

TEST_F(Distributions, GivesBackWhatWasKept) {
  {
    DistributionWriter writer(path_, identity_, 3);
    add(writer, "vqav2/1", 1.5f);
    add(writer, "gqa/22", -1.5f);
    EXPECT_TRUE(writer.contains("gqa/22"));
    EXPECT_THROW(add(writer, "gqa/22", 0), Error);
  }
  const DistributionReader reader(path_, identity_);
  EXPECT_EQ(reader.vocabulary(), 3);
  EXPECT_EQ(reader.ids(), (std::vector<std::string>{"gqa/22", "vqav2/1"}));
  const RecordedAnswer answer = reader.find("gqa/22");
  EXPECT_EQ(std::vector<TokenId>(answer.tokens.begin(), answer.tokens.end()), (std::vector<TokenId>{7, 8}));
  EXPECT_EQ(answer.row(0)[0], -1.5f);
  EXPECT_EQ(answer.row(1)[2], 6);
  EXPECT_THROW(reader.find("gqa/23"), Error);
}

TEST_F(Distributions, ContinuesAfterACrashAnywhereInARecord) {
  std::uint64_t one = 0;
  {
    DistributionWriter writer(path_, identity_, 3);
    add(writer, "a", 1);
    one = std::filesystem::file_size(path_);
    add(writer, "b", 2);
  }
  const std::uint64_t two = std::filesystem::file_size(path_);
  for (std::uint64_t size = one; size < two; ++size) {
    {
      DistributionWriter whole(path_, identity_, 3);
      if (!whole.contains("b")) add(whole, "b", 2);
    }
    ASSERT_EQ(std::filesystem::file_size(path_), two);
    std::filesystem::resize_file(path_, size);
    DistributionWriter writer(path_, identity_, 3);
    EXPECT_TRUE(writer.contains("a"));
    EXPECT_FALSE(writer.contains("b"));
    EXPECT_EQ(std::filesystem::file_size(path_), one);
  }
}

TEST_F(Distributions, DropsADamagedRecord) {
  {
    DistributionWriter writer(path_, identity_, 3);
    add(writer, "a", 1);
    add(writer, "b", 2);
  }
  std::fstream file(path_, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(-1, std::ios::end).put('!');
  file.close();
  EXPECT_EQ(DistributionReader(path_, identity_).ids(), std::vector<std::string>{"a"});
}

TEST_F(Distributions, RefusesAnotherBaseline) {
  { DistributionWriter writer(path_, identity_, 3); }
  EXPECT_THROW(DistributionReader(path_, std::string(64, 'b')), Error);
  EXPECT_THROW(DistributionWriter(path_, std::string(64, 'b'), 3), Error);
  EXPECT_THROW(DistributionWriter(path_, identity_, 4), Error);
  EXPECT_THROW(DistributionWriter(path_, "short", 3), Error);
  std::ofstream(path_) << "something else";
  EXPECT_THROW(DistributionReader(path_, identity_), Error);
}

TEST_F(Distributions, SurvivesSizesThatLie) {
  { DistributionWriter writer(path_, identity_, 3); }
  const auto empty = std::filesystem::file_size(path_);
  std::ofstream(path_, std::ios::app) << std::string(200, '\xff');  // claims 4 GiB of id and of tokens
  EXPECT_EQ(DistributionReader(path_, identity_).valid_bytes(), empty);
}

}  // namespace
}  // namespace halftone
