#include "data/readers.h"

#include <gmock/gmock.h>

#include "fixture.h"

namespace halftone {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kQuestions = "v2_OpenEnded_mscoco_val2014_questions.json";
constexpr const char* kAnnotations = "v2_mscoco_val2014_annotations.json";

class Vqav2Reader : public DataTest {
 protected:
  Vqav2Reader() { write("val2014/COCO_val2014_000000000042.jpg"); }
  void write_files(const std::string& questions, const std::string& annotations) {
    write(std::string("vqav2/") + kQuestions, R"({"questions": [)" + questions + "]}");
    write(std::string("vqav2/") + kAnnotations, R"({"annotations": [)" + annotations + "]}");
  }
  std::string error() {
    return error_of([&] { read_vqav2(root_); });
  }

  const std::string question_ = R"({"image_id": 42, "question": "What?", "question_id": 420})";
  const std::string annotation_ = R"({"question_id": 420, "answer_type": "other", "question_type": "what",
                                      "answers": [{"answer": "cat"}, {"answer": "dog"}]})";
};

TEST_F(Vqav2Reader, ReadsQuestionsWithTheirAnswers) {
  write_files(question_, annotation_);
  for (const auto& folder : {root_, root_ / "vqav2", root_ / "vqav2/"}) {
    const TaskData data = read_vqav2(folder);
    ASSERT_EQ(data.samples.size(), 1u);
    EXPECT_EQ(data.samples[0].id, "vqav2/420");
    EXPECT_EQ(data.samples[0].question, "What?");
    EXPECT_THAT(data.samples[0].pictures, ElementsAre(root_ / "val2014/COCO_val2014_000000000042.jpg"));
    EXPECT_EQ(data.samples[0].truth["answers"], Json({"cat", "dog"}));
    EXPECT_THAT(data.notes, ElementsAre(HasSubstr("1 questions, the published data have 214354")));
    EXPECT_EQ(data.data_hash.size(), 64u);
  }
}

TEST_F(Vqav2Reader, HashesContents) {
  write_files(question_, annotation_);
  const std::string before = read_vqav2(root_).data_hash;
  EXPECT_EQ(read_vqav2(root_ / "vqav2").data_hash, before);
  write_files(question_, annotation_ + " ");
  EXPECT_NE(read_vqav2(root_).data_hash, before);
}

TEST_F(Vqav2Reader, NamesWhatIsWrong) {
  EXPECT_THAT(error(), AllOf(HasSubstr(kQuestions), HasSubstr(root_.string()), HasSubstr("found none")));
  write_files(R"({"image_id": 42, "question_id": 420})", annotation_);
  EXPECT_THAT(error(), AllOf(HasSubstr(kQuestions), HasSubstr("questions[0]"), HasSubstr("'question': missing")));
  write_files(R"({"image_id": "x", "question": "What?", "question_id": 420})", annotation_);
  EXPECT_THAT(error(), AllOf(HasSubstr("'image_id': expected a non-negative whole number"), HasSubstr("\"x\"")));
  write_files(R"({"image_id": 42, "question": 7, "question_id": 420})", annotation_);
  EXPECT_THAT(error(), HasSubstr("'question': expected a string, found 7"));
  write_files(R"({"image_id": 43, "question": "What?", "question_id": 420})", annotation_);
  EXPECT_THAT(error(),
              AllOf(HasSubstr("'image_id'"), HasSubstr("COCO_val2014_000000000043.jpg"), HasSubstr("found none")));
  write_files(R"({"image_id": 42, "question": "What?", "question_id": 421})", annotation_);
  EXPECT_THAT(error(), HasSubstr("expected an annotation of question 421"));
  write_files(question_ + "," + question_, annotation_);
  EXPECT_THAT(error(), HasSubstr("found 'vqav2/420' twice"));
  write_files(question_, annotation_ + "," + annotation_);
  EXPECT_THAT(error(), AllOf(HasSubstr("annotations[1]"), HasSubstr("found 420 twice")));
  write_files(question_, R"({"question_id": 420, "answer_type": "other", "question_type": "what", "answers": {}})");
  EXPECT_THAT(error(), AllOf(HasSubstr(kAnnotations), HasSubstr("'answers': expected an array")));
  write_files("", annotation_);
  EXPECT_THAT(error(), HasSubstr("expected questions, found none"));
  write(std::string("vqav2/") + kQuestions, "[]");
  EXPECT_THAT(error(), HasSubstr("expected an object with the field 'questions', found array"));
}

class PopeReader : public DataTest {
 protected:
  PopeReader() { write("a.jpg"); }
  static std::string row(int id, const std::string& text, const std::string& label) {
    return fmt::format(R"({{"question_id": {}, "image": "a.jpg", "text": "{}", "label": "{}"}})", id, text, label) +
           "\n";
  }
};

TEST_F(PopeReader, AsksEachUniqueQuestionOnce) {
  write("coco_pope_random.json", row(1, "cat?", "yes") + "\n" + row(2, "dog?", "no"));
  write("coco_pope_popular.json", row(1, "cat?", "yes") + row(2, "bird?", "no"));
  const TaskData data = read_pope(root_);
  ASSERT_EQ(data.samples.size(), 3u);
  EXPECT_EQ(data.samples[0].truth["asks"], Json({"random/1", "popular/1"}));
  EXPECT_EQ(data.samples[0].id, "pope/random/1");
  EXPECT_EQ(data.samples[2].id, "pope/popular/2");
  EXPECT_EQ(data.notes.back(), "pope: splits missing: adversarial");
}

TEST_F(PopeReader, NamesWhatIsWrong) {
  const auto error = [&] { return error_of([&] { read_pope(root_); }); };
  EXPECT_THAT(error(), HasSubstr("coco_pope_{random,popular,adversarial}.json"));
  write("coco_pope_random.json", row(1, "cat?", "yes") + row(1, "dog?", "no"));
  EXPECT_THAT(error(), AllOf(HasSubstr("line 2"), HasSubstr("found 1 twice")));
  write("coco_pope_random.json", row(1, "cat?", "yes") + row(2, "cat?", "no"));
  EXPECT_THAT(error(), AllOf(HasSubstr("line 2"), HasSubstr("expected yes as in row random/1, found no")));
  write("coco_pope_random.json", row(1, "cat?", "maybe"));
  EXPECT_THAT(error(), HasSubstr("expected yes or no, found 'maybe'"));
  write("coco_pope_random.json", R"({"question_id": 1, "image": "b.jpg", "text": "cat?", "label": "yes"})");
  EXPECT_THAT(error(), HasSubstr("expected the picture b.jpg"));
  write("coco_pope_random.json", R"({"question_id": 1, "image": "/etc/passwd", "text": "cat?", "label": "yes"})");
  EXPECT_THAT(error(), HasSubstr("expected the name of a picture"));
  write("coco_pope_random.json", "{broken");
  EXPECT_THAT(error(), HasSubstr("coco_pope_random.json, line 1"));
}

class MmeReader : public DataTest {};

TEST_F(MmeReader, ReadsBothShapesOfFolder) {
  write("OCR/0002.txt", "Is it A? Please answer yes or no.\tYes\r\nIs it B? Please answer yes or no.\tNo\r\n");
  write("OCR/0002.png");
  write("posters/images/x.jpg");
  write("posters/questions_answers_YN/x.txt", "A film?\tNo\nA play?\tYes\n\n");
  const TaskData data = read_mme(root_);
  ASSERT_EQ(data.samples.size(), 4u);
  EXPECT_EQ(data.samples[0].id, "mme/posters/x.jpg/0");
  EXPECT_EQ(data.samples[0].truth, Json({{"answer", "no"}, {"subtask", "posters"}, {"picture", "x.jpg"}}));
  EXPECT_EQ(data.samples[3].id, "mme/OCR/0002.png/1");
  EXPECT_EQ(data.samples[3].question, "Is it B? Please answer yes or no.");
  EXPECT_EQ(data.notes.size(), 13u);  // twelve subtasks missing, and the count
}

TEST_F(MmeReader, NamesWhatIsWrong) {
  const auto error = [&] { return error_of([&] { read_mme(root_); }); };
  EXPECT_THAT(error(), HasSubstr("MME's subtasks"));
  write("count/1.txt", "One?\tYes\nTwo?\tNo\n");
  EXPECT_THAT(error(), AllOf(HasSubstr("count/1.txt"), HasSubstr("expected a picture")));
  write("count/1.jpg");
  write("count/1.txt", "One?\tYes\n");
  EXPECT_THAT(error(), HasSubstr("expected two questions, found 1"));
  write("count/1.txt", "One? Yes\nTwo?\tNo\n");
  EXPECT_THAT(error(), AllOf(HasSubstr("question 1"), HasSubstr("<TAB>")));
  write("count/1.txt", "One?\tYes\nTwo?\tperhaps\n");
  EXPECT_THAT(error(), AllOf(HasSubstr("question 2"), HasSubstr("expected the answer Yes or No, found 'perhaps'")));
}

class OtherReaders : public DataTest {};

TEST_F(OtherReaders, Gqa) {
  write("images/n1.jpg");
  write("gqa/testdev_balanced_questions.json",
        R"({"7": {"imageId": "n1", "question": "Is it?", "answer": "yes", "types": {"structural": "verify"}}})");
  const TaskData data = read_gqa(root_ / "gqa");
  ASSERT_EQ(data.samples.size(), 1u);
  EXPECT_EQ(data.samples[0].id, "gqa/7");
  EXPECT_EQ(data.samples[0].truth, Json({{"answer", "yes"}, {"structural", "verify"}}));
  write("gqa/testdev_balanced_questions.json", R"({"7": {"imageId": "n1", "question": "Is it?"}})");
  EXPECT_THAT(error_of([&] { read_gqa(root_); }), AllOf(HasSubstr(": 7]"), HasSubstr("'answer': missing")));
  write("gqa/testdev_balanced_questions.json", R"({"7": {}, "7": {}})");
  EXPECT_THAT(error_of([&] { read_gqa(root_); }), HasSubstr("testdev_balanced_questions.json"));
}

TEST_F(OtherReaders, GroundingRefusesWhatIsNoBox) {
  write("a.jpg");
  const auto read = [&](const std::string& box) {
    write("grounding.jsonl", R"({"question_id": 1, "image": "a.jpg", "question": "Where?", "bbox": )" + box + "}");
    return read_grounding(root_);
  };
  EXPECT_EQ(read("[0, 0.25, 0.5, 1]").samples[0].truth["bbox"], Json({0, 0.25, 0.5, 1}));
  for (const char* bad :
       {"[0, 0.25, 0.5]", "[0.5, 0.25, 0.5, 1]", "[0, 0, 1, 1.5]", "[0, 0, 1, \"1\"]", "[-1, 0, 1, 1]"}) {
    EXPECT_THAT(error_of([&] { read(bad); }), AllOf(HasSubstr("line 1"), HasSubstr("'bbox'"))) << bad;
  }
}

TEST_F(OtherReaders, LlavaBenchJoinsCaptions) {
  write("images/1.jpg");
  write("questions.jsonl", R"({"question_id": 0, "image": "1.jpg", "text": "What?", "category": "conv"})");
  write("context.jsonl", R"({"id": 1, "image": "1.jpg", "caption": ["A", "B"]})");
  const TaskData data = read_llava_bench(root_);
  EXPECT_EQ(data.samples[0].truth, Json({{"category", "conv"}, {"caption", "A\nB"}}));
}

TEST(DemoSuite, HasTheRowsOfItsReadme) {
  const std::filesystem::path suite = std::filesystem::path(HALFTONE_SOURCE_DIR) / "demo/suite";
  EXPECT_EQ(read_vqav2(suite).samples.size(), 500u);
  EXPECT_EQ(read_gqa(suite / "gqa").samples.size(), 400u);
  EXPECT_EQ(read_mme(suite / "mme").samples.size(), 740u);
  EXPECT_EQ(read_grounding(suite).samples.size(), 200u);
  EXPECT_EQ(read_llava_bench(suite).samples.size(), 60u);
  std::size_t asks = 0;
  const TaskData pope = read_pope(suite / "pope");
  for (const Sample& sample : pope.samples) asks += sample.truth["asks"].size();
  EXPECT_EQ(asks, 1500u);
  EXPECT_LT(pope.samples.size(), 1500u);
}

TEST(TakeSamples, KeepsPicturesTogether) {
  TaskData data{"task", {}, "hash", {}};
  for (int i = 0; i < 20; ++i) data.samples.push_back({std::to_string(i), {"p" + std::to_string(i / 4)}, "", {}});
  const TaskData some = take_samples(data, 6, 1);
  ASSERT_EQ(some.samples.size(), 8u);  // two whole pictures
  for (std::size_t i = 0; i < 8; i += 4) {
    for (std::size_t k = 1; k < 4; ++k) EXPECT_EQ(some.samples[i].pictures, some.samples[i + k].pictures);
  }
  EXPECT_NE(some.data_hash, data.data_hash);
  EXPECT_EQ(take_samples(data, 6, 1).data_hash, some.data_hash);
  EXPECT_EQ(take_samples(data, 0, 1).samples.size(), 20u);
}

}  // namespace
}  // namespace halftone
