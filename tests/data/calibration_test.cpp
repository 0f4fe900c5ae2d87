#include "data/calibration.h"

#include <gmock/gmock.h>

#include <set>

#include "data/text_file.h"
#include "fixture.h"

namespace halftone {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

const std::filesystem::path kCaptions = std::filesystem::path(HALFTONE_SOURCE_DIR) / "demo/suite/captions";

std::vector<std::string> ids_of(const CalibrationData& data) {
  std::vector<std::string> ids;
  for (const CalibrationSample& sample : data.samples) ids.push_back(sample.id);
  return ids;
}

TEST(Calibration, DrawsAnOrderFromTheSeed) {
  const CalibrationData first = read_calibration(kCaptions / "calibration.json", {.count = 128, .seed = 1});
  EXPECT_EQ(first.source, "LLaVA conversations");
  EXPECT_EQ(ids_of(first).size(), 128u);
  EXPECT_EQ(ids_of(read_calibration(kCaptions, {.count = 128, .seed = 1})), ids_of(first));
  const CalibrationData other = read_calibration(kCaptions, {.count = 128, .seed = 2});
  EXPECT_NE(ids_of(other), ids_of(first));
  EXPECT_NE(other.data_hash, first.data_hash);
  const std::vector<std::string> all = ids_of(read_calibration(kCaptions, {.count = 0, .seed = 1}));
  EXPECT_EQ(std::set<std::string>(all.begin(), all.end()).size(), 512u);
}

TEST(Calibration, ReadsCocoCaptions) {
  const CalibrationData data =
      read_calibration(kCaptions / "annotations/captions_train2014.json", {.count = 5, .seed = 0});
  EXPECT_EQ(data.source, "COCO captions");
  ASSERT_EQ(data.samples.size(), 5u);
  for (const CalibrationSample& sample : data.samples) {
    ASSERT_EQ(sample.messages.size(), 2u);
    EXPECT_EQ(sample.messages[0].parts[0].kind, ContentPart::Kind::kPicture);
    EXPECT_THAT(sample.messages[1].parts[0].text, HasSubstr("The image shows"));
    ASSERT_EQ(sample.pictures.size(), 1u);
    EXPECT_TRUE(std::filesystem::exists(sample.pictures[0]));
  }
}

TEST(Calibration, ReadsPicturesAndText) {
  const CalibrationData pictures = read_calibration(kCaptions / "train2014", {.count = 3, .seed = 0});
  EXPECT_EQ(pictures.source, "pictures");
  EXPECT_EQ(pictures.samples.size(), 3u);
  const CalibrationData text = read_calibration(kCaptions / "../text/heldout.txt", {.count = 0, .seed = 0});
  EXPECT_EQ(text.source, "text");
  EXPECT_EQ(text.samples.size(), 120u);
  EXPECT_TRUE(text.samples[0].messages.empty());
  EXPECT_TRUE(text.samples[0].text.starts_with("<|im_start|>system\n"));
}

class CalibrationFile : public DataTest {
 protected:
  CalibrationData read(const std::string& conversations) {
    write("a.jpg");
    write("data.json", R"([{"id": "1", "image": "a.jpg", "conversations": )" + conversations + "}]");
    return read_calibration(root_ / "data.json", {.count = 1, .seed = 0});
  }
};

TEST_F(CalibrationFile, PutsPicturesWhereTheirMarksAre) {
  const auto parts = read(R"([{"from": "human", "value": "<image>\nWhat?"}])").samples[0].messages[0].parts;
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(parts[0].kind, ContentPart::Kind::kPicture);
  EXPECT_EQ(parts[1].text, "What?");
  const auto last = read(R"([{"from": "human", "value": "What?\n<image>"}])").samples[0].messages[0].parts;
  EXPECT_EQ(last[0].text, "What?");
  EXPECT_EQ(last[1].kind, ContentPart::Kind::kPicture);
}

TEST_F(CalibrationFile, NamesWhatIsWrong) {
  EXPECT_THAT(error_of([&] { read(R"([{"from": "human", "value": "What?"}])"); }),
              AllOf(HasSubstr("data.json: [0]"), HasSubstr("found 0 for 1")));
  EXPECT_THAT(error_of([&] { read(R"([{"from": "robot", "value": "<image>"}])"); }), HasSubstr("found 'robot'"));
  EXPECT_THAT(error_of([&] { read(R"([{"from": "human"}])"); }),
              AllOf(HasSubstr("conversations[0]"), HasSubstr("'value': missing")));
  EXPECT_THAT(error_of([&] { read("[]"); }), HasSubstr("expected turns"));
  write("other.json", "{}");
  EXPECT_THAT(error_of([&] { read_calibration(root_ / "other.json"); }), HasSubstr("other.json"));
  EXPECT_THAT(error_of([&] { read_calibration(root_ / "none"); }), HasSubstr("found nothing there"));
  std::filesystem::create_directories(root_ / "empty");
  EXPECT_THAT(error_of([&] { read_calibration(root_ / "empty"); }), HasSubstr("found none"));
}

TEST(SplitLines, LosesNothing) {
  const std::string text = "one\ntwo\n\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\nlast";
  for (std::size_t bytes = 1; bytes < 20; ++bytes) {
    std::string joined;
    for (const std::string_view piece : split_lines(text, bytes)) {
      EXPECT_FALSE(piece.empty());
      joined += piece;
    }
    EXPECT_EQ(joined, text);
  }
  EXPECT_THAT(split_lines(text, 8),
              ElementsAre("one\ntwo\n", "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", "\xc3\xa9\xc3\xa9\n", "last"));
}

}  // namespace
}  // namespace halftone
