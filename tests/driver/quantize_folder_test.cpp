// quantize_folder() when things go wrong: killed, out of space, not allowed to write.

#include "driver/quantize_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "base/file.h"
#include "base/hash.h"
#include "base/random.h"
#include "tests/driver/quantize_error.h"
#include "tests/study/example.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;
using testing::error_of;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

const fs::path kDemo = HALFTONE_SOURCE_DIR "/demo/model";

QuantizeJob job_for(const std::string& configuration, const fs::path& out) {
  QuantizeJob job;
  job.checkpoint = kDemo;
  job.configuration = configuration;
  job.out = out;
  return job;
}

QuantizeJob calibrated_job(const fs::path& out) {
  QuantizeJob job = job_for("int8_sq+kv:fp8_calibrated", out);
  job.calibration = HALFTONE_SOURCE_DIR "/demo/suite/captions";
  job.data.count = 2;
  job.run.max_tokens = 96;
  job.run.sample_rows = 16;
  job.run.program = "test";
  return job;
}

void remove_times(Json& json) {
  if (json.is_object()) json.erase("seconds");
  for (Json& child : json) {
    if (child.is_structured()) remove_times(child);
  }
}

// Hashes of all files; the report without what a clock said.
std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name == "quantization_report.json") {
      Json report = read_json(entry.path());
      remove_times(report);
      files[name] = report.dump();
    } else {
      files[name] = sha256_file(entry.path());
    }
  }
  return files;
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

// Runs `work` in a child process of its own, with one thread; the message of its Error comes back.
template <typename Work>
std::string in_child(const Work& work) {
  int ends[2];
  require(pipe(ends) == 0, "test", "no pipe");
  const pid_t child = fork();
  if (child == 0) {
    std::string message = "no error";
    try {
      ThreadPool pool(1);
      Stream stream{&pool};
      work(stream);
    } catch (const Error& e) {
      message = e.what();
    }
    if (write(ends[1], message.data(), message.size()) < 0) _exit(1);
    _exit(0);
  }
  close(ends[1]);
  std::string message(4096, '\0');
  const ssize_t n = read(ends[0], message.data(), message.size());
  close(ends[0]);
  waitpid(child, nullptr, 0);
  message.resize(static_cast<std::size_t>(std::max<ssize_t>(0, n)));
  return message;
}

TEST(QuantizeFolder, KilledAndResumedGivesTheSameBytes) {
  const TemporaryFolder folder;
  quantize_folder(calibrated_job(folder / "whole"), nullptr, default_stream());
  EXPECT_FALSE(fs::exists(folder / "whole.work"));
  const fs::path out = folder / "killed";
  Random random(3);
  int killed = 0;
  for (int round = 0; round < 30 && !fs::exists(out); ++round) {
    const pid_t child = fork();
    if (child == 0) {
      ThreadPool pool(1);
      Stream stream{&pool};
      quantize_folder(calibrated_job(out), nullptr, stream);
      _exit(0);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50 + random.below(900)));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    killed += WIFSIGNALED(status) ? 1 : 0;
  }
  EXPECT_GT(killed, 0);
  if (!fs::exists(out)) quantize_folder(calibrated_job(out), nullptr, default_stream());
  EXPECT_EQ(contents(out), contents(folder / "whole"));
  // what killed processes left under temporary names is gone, too
  fs::remove_all(folder / "killed.work");
  EXPECT_THAT(names_in(folder / ""), ::testing::ElementsAre("killed", "whole"));
}

TEST(QuantizeFolder, ThreadsChangeNoByte) {
  const TemporaryFolder folder;
  quantize_folder(calibrated_job(folder / "many"), nullptr, default_stream());
  ThreadPool one(1);
  Stream stream{&one};
  std::vector<std::string> told;
  const Progress progress = [&](std::string_view what, std::int64_t done, std::int64_t total) {
    EXPECT_LE(done, total);
    if (told.empty() || told.back() != what) told.emplace_back(what);
  };
  quantize_folder(calibrated_job(folder / "one"), nullptr, stream, progress);
  EXPECT_EQ(contents(folder / "many"), contents(folder / "one"));
  // nothing that takes long is silent
  EXPECT_THAT(told, ::testing::IsSupersetOf({"calibration layers", "layers", "reading back", "hashing the source"}));
}

TEST(QuantizeFolder, AFileThatMayNotGrowIsNamedAndTheOldFolderStays) {
  const TemporaryFolder folder;
  const fs::path out = folder / "out";
  quantize_folder(job_for("int8_wo", out), nullptr, default_stream());
  const auto before = contents(out);
  const std::string message = in_child([&](Stream& stream) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1 << 20, 1 << 20};
    setrlimit(RLIMIT_FSIZE, &limit);
    QuantizeJob job = job_for("int4_wo", out);
    job.replace = true;
    quantize_folder(job, nullptr, stream);
  });
  EXPECT_THAT(message, HasSubstr("model.safetensors"));
  EXPECT_THAT(message, HasSubstr("File too large"));
  EXPECT_EQ(contents(out), before);
  EXPECT_THAT(names_in(folder / ""), ::testing::ElementsAre("out"));
}

TEST(QuantizeFolder, AFullDiskIsNamedAndTheOldFolderStays) {
  const TemporaryFolder folder;
  const fs::path disk = folder / "disk";
  fs::create_directories(disk);
  quantize_folder(job_for("int4_wo", folder / "probe"), nullptr, default_stream());
  std::uintmax_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(folder / "probe")) bytes += entry.file_size();
  // room for one folder, not for two
  const std::string size = fmt::format("size={}", bytes + bytes / 2);
  if (mount("tmpfs", disk.c_str(), "tmpfs", 0, size.c_str()) != 0) GTEST_SKIP() << "mounting a small disk needs root";
  const fs::path out = disk / "out";
  quantize_folder(job_for("int4_wo", out), nullptr, default_stream());
  const auto before = contents(out);
  QuantizeJob job = job_for("int8_wo", out);
  job.replace = true;
  const std::string message = error_of(job);
  EXPECT_THAT(message, HasSubstr("model.safetensors"));
  EXPECT_THAT(message, HasSubstr("No space left on device"));
  EXPECT_EQ(contents(out), before);
  EXPECT_THAT(names_in(disk), ::testing::ElementsAre("out"));
  EXPECT_EQ(umount(disk.c_str()), 0);
}

TEST(QuantizeFolder, AReadOnlyFolderIsNamed) {
  const TemporaryFolder folder;
  const fs::path disk = folder / "disk";
  fs::create_directories(disk);
  if (mount("tmpfs", disk.c_str(), "tmpfs", MS_RDONLY, "") != 0) GTEST_SKIP() << "mounting needs root";
  const std::string message = error_of(job_for("int8_wo", disk / "out"));
  EXPECT_THAT(message, HasSubstr((disk / "out").string()));
  EXPECT_THAT(message, HasSubstr("Read-only file system"));
  EXPECT_THAT(error_of(calibrated_job(disk / "out")), HasSubstr("Read-only file system"));
  EXPECT_EQ(umount(disk.c_str()), 0);
}

}  // namespace
}  // namespace halftone
