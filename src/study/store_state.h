#pragma once
// Private to the store's own files.

#include <memory>
#include <optional>

#include "study/file_lock.h"
#include "study/sqlite.h"
#include "study/store.h"

namespace halftone {

struct Store::State {
  std::unique_ptr<FileLock> lock;  // none: for reading only. Destroyed last: by then the log is folded into the file
  Database database;
  // Prepared once: the two that run for every sample.
  std::optional<Statement> insert_sample, insert_likelihood;
};

}  // namespace halftone
