#include "base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/folder_lock.h"
#include "base/hash.h"

namespace halftone {
namespace {
namespace fs = std::filesystem;

class FileTest : public testing::Test {
 protected:
  // of its own: tests run side by side
  fs::path folder_ =
      fs::path(testing::TempDir()) /
      ("halftone_file_test." + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
  void SetUp() override {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
};

TEST_F(FileTest, WritesReadsAndMaps) {
  write_file_atomically(folder_ / "a", "content");
  EXPECT_EQ(read_file(folder_ / "a"), "content");
  EXPECT_EQ(MappedFile(folder_ / "a").bytes().size(), 7u);
  EXPECT_THROW(read_file(folder_ / "a", 3), Error);
  EXPECT_THROW(read_file(folder_ / "missing"), Error);
  EXPECT_THROW(MappedFile(folder_ / "missing"), Error);
  EXPECT_THROW(write_file_atomically(folder_ / "none" / "a", "x"), Error);
}

TEST_F(FileTest, TellsWhatIsThereInPlaceOfAFile) {
  const auto error_of = [&](const fs::path& path) -> std::string {
    try {
      read_file(path);
    } catch (const Error& error) {
      return error.what();
    }
    return "none";
  };
  const fs::path missing = folder_ / "missing", pipe = folder_ / "pipe", link = folder_ / "link";
  EXPECT_EQ(error_of(missing), "[read file] " + missing.string() + ": no such file");
  EXPECT_EQ(error_of(folder_), "[read file] " + folder_.string() + ": expected a file, found a folder");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(error_of(pipe), "[read file] " + pipe.string() + ": expected a file, found something else");
  fs::create_symlink(link, link);
  EXPECT_NE(error_of(link).find("Too many levels"), std::string::npos) << error_of(link);
}

TEST_F(FileTest, LeavesNoTemporaryFileWhereItCannotRename) {
  fs::create_directories(folder_ / "a" / "inner");
  EXPECT_THROW(write_file_atomically(folder_ / "a", "x"), Error);
  EXPECT_TRUE(fs::exists(folder_ / "a" / "inner"));
  EXPECT_FALSE(fs::exists(folder_ / "a.tmp"));
}

TEST_F(FileTest, LeavesAFolderAloneThatAProcessOfTheSameNumberWrites) {
  const fs::path namesake = folder_ / ("out.partial-" + std::to_string(::getpid()));
  fs::create_directories(namesake);
  {
    const FolderLock lock = lock_folder(namesake);  // as one in another container would hold it
    ASSERT_EQ(lock.state, FolderLock::State::kOurs);
    EXPECT_THROW(PendingFolder(folder_ / "out"), Error);
    EXPECT_TRUE(fs::exists(namesake));
  }
  write_file_atomically(namesake / "left", "x");
  const PendingFolder pending(folder_ / "out");
  EXPECT_FALSE(fs::exists(pending.path() / "left"));
}

TEST_F(FileTest, FolderAppearsWhole) {
  {
    PendingFolder pending(folder_ / "out");
    write_file_atomically(pending.path() / "x", "1");
  }
  EXPECT_FALSE(fs::exists(folder_ / "out"));
  EXPECT_TRUE(fs::is_empty(folder_));
  PendingFolder pending(folder_ / "out");
  write_file_atomically(pending.path() / "x", "1");
  pending.commit();
  EXPECT_EQ(read_file(folder_ / "out" / "x"), "1");
  PendingFolder second(folder_ / "out");
  EXPECT_THROW(second.commit(), Error);
  second.commit(true);
  EXPECT_FALSE(fs::exists(folder_ / "out" / "x"));
}

TEST_F(FileTest, RemovesWhatAKilledWriterLeftAndNotWhatOneIsWriting) {
  const fs::path stale = folder_ / "out.partial-99999991", other = folder_ / "outer.partial-99999991";
  fs::create_directories(stale / "inner");
  fs::create_directories(other);
  const PendingFolder pending(folder_ / "out");
  EXPECT_FALSE(fs::exists(stale));
  EXPECT_TRUE(fs::exists(other));
  const fs::path alive = folder_ / "out.partial-99999992";
  fs::rename(pending.path(), alive);  // as if another process wrote it
  const PendingFolder second(folder_ / "out");
  EXPECT_TRUE(fs::exists(alive));
  EXPECT_TRUE(fs::exists(second.path()));
}

TEST(Sha256, MatchesFips180Examples) {
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

}  // namespace
}  // namespace halftone
