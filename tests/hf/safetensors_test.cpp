// Headers that lie, one mutation at a time, and round trips of random files.
#include "hf/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>

#include "base/file.h"
#include "base/random.h"
#include "hf/checkpoint.h"
#include "hf/safetensors_writer.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

std::string with_length(std::uint64_t length, const std::string& rest) {
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + rest;
}

std::string file_of(const std::string& header, std::size_t data) {
  return with_length(header.size(), header + std::string(data, 'x'));
}

SafetensorsHeader parse(const std::string& file) {
  return parse_safetensors_header(std::as_bytes(std::span(file)), "f");
}

std::string error_of(const std::string& file) {
  try {
    parse(file);
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

// The header of one tensor.
std::string one(const std::string& fields) { return R"({"w":{)" + fields + "}}"; }

TEST(Safetensors, ReadsAHeader) {
  const auto header = parse(file_of(R"({"__metadata__":{"format":"pt"},
    "b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},"a":{"shape":[],"data_offsets":[0,4],"dtype":"F32"}}   )",
                                    16));
  EXPECT_EQ(header.metadata.at("format"), "pt");
  EXPECT_EQ(header.tensors.at("a").shape, Shape{});
  EXPECT_EQ(header.tensors.at("b").shape, (Shape{2, 3}));
  EXPECT_EQ(header.tensors.at("b").dtype, DType::kBF16);
  EXPECT_EQ(header.tensors.at("b").nbytes(), 12u);
}

TEST(Safetensors, ReadsNoTensorsAndEmptyOnes) {
  EXPECT_TRUE(parse(file_of("{}", 0)).tensors.empty());
  const auto header = parse(file_of(R"({"e":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]},
    "w":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"z":{"dtype":"F64","shape":[0],"data_offsets":[3,3]}})",
                                    3));
  EXPECT_EQ(header.tensors.size(), 3u);
}

struct Damage {
  const char* name;
  std::string file;
  const char* message;
};

const Damage kDamages[] = {
    {"Empty", "", "expected 8 bytes of header length, found a file of 0"},
    {"LengthCut", "abc", "found a file of 3"},
    {"HundredGigabytes", with_length(100'000'000'000u, "{}"), "expected at most 100000000 bytes, found 100000000000"},
    {"LengthOfAllOnes", with_length(~std::uint64_t{0}, "{}"), "header length: expected at most"},
    {"HeaderCut", with_length(50, "{}"), "expected at most the 2 bytes that follow, found 50"},
    {"NoHeader", with_length(0, ""), "expected JSON"},
    {"NotJson", file_of("{\"w\":", 0), "expected JSON"},
    {"TrailingText", file_of("{}{}", 0), "expected JSON"},
    {"BrokenUtf8", file_of("{\"\xff\":{}}", 0), "expected JSON"},
    {"List", file_of("[]", 0), "expected an object, found a list"},
    {"Number", file_of("17", 0), "expected an object, found 17"},
    {"TensorIsNumber", file_of(R"({"w":3})", 0), "tensor 'w': expected an object, found 3"},
    {"TensorIsList", file_of(R"({"w":[]})", 0), "tensor 'w': expected an object, found a list"},
    {"DeepNesting", file_of(one(R"("shape":)" + std::string(200000, '[')), 0), "expected integers from 0"},
    {"ObjectInside", file_of(one(R"("dtype":{})"), 0), "field 'dtype': expected a string, found an object"},
    {"DtypeUnknown", file_of(one(R"("dtype":"F31","shape":[1],"data_offsets":[0,4])"), 4),
     "expected a type such as BF16, found 'F31'"},
    {"DtypeNumber", file_of(one(R"("dtype":5,"shape":[1],"data_offsets":[0,4])"), 4),
     "field 'dtype': expected a string, found 5"},
    {"DtypeMissing", file_of(one(R"("shape":[1],"data_offsets":[0,4])"), 4), "field 'dtype': missing"},
    {"ShapeMissing", file_of(one(R"("dtype":"F32","data_offsets":[0,4])"), 4), "field 'shape': missing"},
    {"OffsetsMissing", file_of(one(R"("dtype":"F32","shape":[1])"), 4), "field 'data_offsets': missing"},
    {"FieldUnknown", file_of(one(R"("dtype":"F32","shape":[1],"offsets":[0,4])"), 4), "found 'offsets'"},
    {"FieldTwice", file_of(one(R"("dtype":"F32","dtype":"F32")"), 4), "field 'dtype': given twice"},
    {"ShapeString", file_of(one(R"("shape":"4")"), 4), "field 'shape': expected a list of integers"},
    {"ShapeNegative", file_of(one(R"("dtype":"F32","shape":[-1],"data_offsets":[0,4])"), 4),
     "from 0 to 2^62 - 1, found -1"},
    {"ShapeFraction", file_of(one(R"("dtype":"F32","shape":[1.5],"data_offsets":[0,4])"), 4), "found 1.5"},
    {"ShapeHuge", file_of(one(R"("dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4])"), 4),
     "found 18446744073709551615"},
    {"ShapeOverflows", file_of(one(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4])"), 4),
     "at most 2^62 elements"},
    {"ShapeOverflowsToZero", file_of(one(R"("dtype":"F32","shape":[4611686018427387903,4],"data_offsets":[0,0])"), 0),
     "at most 2^62 elements"},
    {"BytesOverflow", file_of(one(R"("dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0])"), 0),
     "expected the 2305843009213693952 elements"},
    {"ManyDimensions",
     file_of(one(R"("dtype":"F32","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,4])"), 4),
     "at most 16 dimensions"},
    {"SizeTooSmall", file_of(one(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])"), 4),
     "expected the 2 elements of F32 of shape [2], found 4 bytes"},
    {"SizeNotWhole", file_of(one(R"("dtype":"F32","shape":[1],"data_offsets":[0,5])"), 5), "found 5 bytes"},
    {"EndBeyond", file_of(one(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])"), 7),
     "within the 7 bytes of data, found 8 (a truncated file?)"},
    {"BeginAfterEnd", file_of(one(R"("dtype":"F32","shape":[1],"data_offsets":[4,0])"), 4),
     "expected begin <= end, found [4, 0]"},
    {"OffsetNegative", file_of(one(R"("dtype":"F32","shape":[1],"data_offsets":[-4,0])"), 4),
     "integers of 0 or more, found -4"},
    {"OneOffset", file_of(one(R"("dtype":"F32","shape":[1],"data_offsets":[0])"), 4), "found 1 numbers"},
    {"ThreeOffsets", file_of(one(R"("dtype":"F32","shape":[1],"data_offsets":[0,4,8])"), 4),
     "expected [begin, end], found more"},
    {"Overlap",
     file_of(
         R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
         6),
     "tensor 'b' field 'data_offsets': overlaps"},
    {"SameBytes",
     file_of(
         R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
         4),
     "overlaps"},
    {"Hole",
     file_of(
         R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[5,9]}})",
         9),
     "tensor 'b' field 'data_offsets': leaves a hole"},
    {"HoleAtTheBeginning", file_of(one(R"("dtype":"U8","shape":[4],"data_offsets":[1,5])"), 5), "leaves a hole"},
    {"DataLeftOver", file_of(one(R"("dtype":"U8","shape":[4],"data_offsets":[0,4])"), 5),
     "cover all 5 bytes of data, found an end at 4"},
    {"TensorTwice",
     file_of(
         R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
         4),
     "tensor 'a': given twice"},
    {"MetadataNumber", file_of(R"({"__metadata__":{"a":1}})", 0), "field '__metadata__.a': expected a string, found 1"},
    {"MetadataObject", file_of(R"({"__metadata__":{"a":{}}})", 0), "expected a string, found an object"},
    {"TwoMetadata", file_of(R"({"__metadata__":{},"__metadata__":{}})", 0), "field '__metadata__': given twice"},
    {"MetadataTwice", file_of(R"({"__metadata__":{"a":"x","a":"y"}})", 0), "field '__metadata__.a': given twice"},
};

class SafetensorsDamage : public testing::TestWithParam<Damage> {};

TEST_P(SafetensorsDamage, IsNamed) { EXPECT_THAT(error_of(GetParam().file), HasSubstr(GetParam().message)); }

INSTANTIATE_TEST_SUITE_P(Headers, SafetensorsDamage, testing::ValuesIn(kDamages),
                         [](const auto& info) { return info.param.name; });

TEST(Safetensors, EveryTruncationIsAnError) {
  const std::string file = file_of(one(R"("dtype":"F32","shape":[2,2],"data_offsets":[0,16])"), 16);
  ASSERT_EQ(error_of(file), "no error");
  for (std::size_t length = 0; length < file.size(); ++length)
    EXPECT_NE(error_of(file.substr(0, length)), "no error") << length;
}

// One byte of the header changed: an error, or a header that still holds together.
TEST(Safetensors, NoChangedByteCrashes) {
  const std::string file = file_of(
      R"({"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"I8","shape":[3],"data_offsets":[16,19]}})",
      19);
  for (std::size_t at = 0; at + 19 < file.size(); ++at) {
    for (int value = 0; value < 256; value += 3) {
      std::string changed = file;
      changed[at] = static_cast<char>(value);
      try {
        const auto header = parse(changed);
        for (const auto& [name, entry] : header.tensors) ASSERT_LE(header.data_begin + entry.end, changed.size());
      } catch (const Error&) {
      }
    }
  }
}

class Folder : public testing::Test {
 protected:
  Folder() : root_(fs::path(testing::TempDir()) / ("halftone_folder_" + std::to_string(::getpid()))) {
    fs::remove_all(root_);
    fs::create_directories(root_);
    write("config.json", "{}");
  }
  ~Folder() override { fs::remove_all(root_); }
  void write(const std::string& name, const std::string& content) { write_file_atomically(root_ / name, content); }
  std::string error() {
    try {
      Checkpoint::open(root_);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }
  fs::path root_;
};

Tensor random_tensor(Random& random) {
  Shape shape;
  for (std::uint64_t rank = random.below(4); rank > 0; --rank)
    shape.push_back(static_cast<std::int64_t>(random.below(6)));
  Tensor tensor(static_cast<DType>(random.below(15)), shape);
  for (std::int64_t i = 0; i < tensor.nbytes(); ++i)
    static_cast<std::uint8_t*>(tensor.raw())[i] = static_cast<std::uint8_t>(random.next());
  return tensor;
}

TEST_F(Folder, RoundTripsWhateverIsWritten) {
  Random random(42);
  for (int round = 0; round < 40; ++round) {
    for (const auto& entry : fs::directory_iterator(root_)) {
      if (entry.path().filename() != "config.json") fs::remove(entry.path());
    }
    std::vector<TensorToWrite> tensors;
    std::map<std::string, Tensor> wanted;
    for (std::uint64_t n = 1 + random.below(12); n > 0; --n) {
      const std::string name = fmt::format("t\"\\\u00e9{}.{}", random.below(1000), n);
      wanted[name] = random_tensor(random);
      tensors.push_back(tensor_to_write(name, wanted[name]));
    }
    write_safetensors(root_, tensors, 1 + static_cast<std::int64_t>(random.below(400)));
    const Checkpoint found = Checkpoint::open(root_);
    ASSERT_EQ(found.tensors().size(), wanted.size());
    for (const auto& [name, tensor] : wanted) {
      const Tensor read = found.tensor(name);
      ASSERT_EQ(read.dtype(), tensor.dtype());
      ASSERT_EQ(read.shape(), tensor.shape());
      ASSERT_EQ(std::memcmp(read.raw(), tensor.raw(), static_cast<std::size_t>(tensor.nbytes())), 0);
    }
  }
}

TEST_F(Folder, CopiesMisalignedTensors) {
  const std::string header = one(R"("dtype":"F64","shape":[2],"data_offsets":[0,16])");
  for (std::size_t pad = 0; pad < 8; ++pad) {
    std::string data(16, '\0');
    const double values[2] = {1.5, -2.25};
    std::memcpy(data.data(), values, 16);
    write("model.safetensors", with_length(header.size() + pad, header + std::string(pad, ' ') + data));
    const Tensor tensor = Checkpoint::open(root_).tensor("w");
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.raw()) % 8, 0u);
    EXPECT_EQ(tensor.data<double>()[1], -2.25);
  }
}

TEST_F(Folder, NamesWhatIsMissing) {
  EXPECT_THAT(error(), HasSubstr("expected model.safetensors, model.safetensors.index.json or model.gguf, found none"));
  fs::remove(root_ / "config.json");
  EXPECT_THAT(error(), HasSubstr("config.json"));
  root_ /= "nowhere";
  EXPECT_THAT(error(), HasSubstr("expected a checkpoint folder, found nothing"));
}

const std::string kShard = file_of(R"({"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 2);

TEST_F(Folder, ChecksTheIndex) {
  write("a.safetensors", kShard);
  const auto index = [&](const std::string& text) {
    write("model.safetensors.index.json", text);
    return error();
  };
  EXPECT_EQ(index(R"({"weight_map":{"w":"a.safetensors"}})"), "no error");
  EXPECT_THAT(index("{}"), HasSubstr("field 'weight_map': missing"));
  EXPECT_THAT(index(R"({"weight_map":[]})"), HasSubstr("expected an object of tensors and files"));
  EXPECT_THAT(index(R"({"weight_map":{}})"), HasSubstr("found an empty one"));
  EXPECT_THAT(index(R"({"weight_map":{"w":3}})"), HasSubstr("expected a file name, found number"));
  EXPECT_THAT(index(R"({"weight_map":{"w":"b.safetensors"}})"), HasSubstr("expected the file 'b.safetensors'"));
  EXPECT_THAT(index(R"({"weight_map":{"w":"a.safetensors","v":"a.safetensors"}})"),
              HasSubstr("tensor 'v': expected it in 'a.safetensors', found it nowhere"));
  for (const char* path : {"../a.safetensors", "/etc/a.safetensors", "x/a.safetensors", "..\\\\a.safetensors", "a.bin",
                           "", ".safetensors", "a\\u0000.safetensors"}) {
    EXPECT_THAT(index(R"({"weight_map":{"w":")" + std::string(path) + "\"}}"),
                HasSubstr("a .safetensors file of this folder"))
        << path;
  }
}

TEST_F(Folder, RefusesATensorInTwoShards) {
  write("a.safetensors", kShard);
  write(
      "b.safetensors",
      file_of(
          R"({"v":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
          2));
  write("model.safetensors.index.json", R"({"weight_map":{"w":"a.safetensors","v":"b.safetensors"}})");
  EXPECT_THAT(error(),
              HasSubstr("b.safetensors] tensor 'w': expected it in one file, found it in 'a.safetensors' too"));
}

}  // namespace
}  // namespace halftone
