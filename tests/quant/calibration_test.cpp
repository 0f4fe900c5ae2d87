// Layer by layer gives the bits of whole samples, and what was finished survives.

#include "quant/calibration.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "base/file.h"
#include "base/timer.h"
#include "quant/calibration_observer.h"
#include "quant/calibration_samples.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;

const fs::path kDemo = HALFTONE_SOURCE_DIR "/demo/model";

CalibrationData demo_data(std::int64_t count) {
  CalibrationOptions options;
  options.count = count;
  return read_calibration(HALFTONE_SOURCE_DIR "/demo/suite/captions/calibration.json", options);
}

CalibrateOptions demo_options() {
  CalibrateOptions options;
  options.max_tokens = 96;
  options.sample_rows = 40;
  options.vision = true;
  options.head = true;
  return options;
}

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::memcmp(a.raw(), b.raw(), static_cast<std::size_t>(a.nbytes())) == 0;
}

void expect_same(const InputTable& a, const InputTable& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [module, x] : a) {
    SCOPED_TRACE(module);
    const InputStatistics& y = *b.at(module);
    EXPECT_EQ(x->tokens, y.tokens);
    EXPECT_EQ(x->absmax, y.absmax);
    EXPECT_EQ(x->abs_sum, y.abs_sum);
    EXPECT_EQ(x->histogram, y.histogram);
    EXPECT_EQ(x->samples, y.samples);
    EXPECT_EQ(x->sample_mean_sum, y.sample_mean_sum);
    EXPECT_EQ(x->row_weights, y.row_weights);
    for (std::size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(x->by_class[i].tokens, y.by_class[i].tokens);
      EXPECT_EQ(x->by_class[i].abs_sum, y.by_class[i].abs_sum);
      EXPECT_EQ(x->by_class[i].absmax, y.by_class[i].absmax);
    }
    EXPECT_TRUE(same_bytes(x->rows, y.rows));
  }
}

void expect_same(const Calibration& a, const Calibration& b) {
  expect_same(a.inputs, b.inputs);
  ASSERT_EQ(a.kv.size(), b.kv.size());
  for (std::size_t i = 0; i < a.kv.size(); ++i) {
    EXPECT_EQ(a.kv[i].k, b.kv[i].k);
    EXPECT_EQ(a.kv[i].v, b.kv[i].v);
    EXPECT_EQ(a.kv[i].k_debiased, b.kv[i].k_debiased);
  }
}

// Each sample through the whole model at once, as the engine runs it.
InputTable whole_samples(const CalibrationData& data, const CalibrateOptions& options, std::vector<KvStatistics>& kv) {
  Stream& stream = default_stream();
  const Checkpoint checkpoint = Checkpoint::open(kDemo);
  const Model model = Model::load(checkpoint, {Numerics::kF32, true}, stream);
  const SamplePreparer preparer(kDemo, model.config(), options.max_tokens);
  CalibrationObserver observer(model, options, stream);
  RowSampler tokens(observer.slots(), options.seed), pictures(observer.slots(), options.seed);
  Workspace workspace;
  const RunContext run{stream, workspace, &observer};
  const DecoderConfig& decoder = model.config().decoder;
  for (const CalibrationSample& given : data.samples) {
    const PreparedSample sample = preparer.prepare(given, *stream.pool);
    Tensor encoded;
    if (sample.patches.defined()) {
      const SampleRows rows = pictures.draw(sample.patches.dim(0) / 4);
      constexpr TokenClass kPicture[] = {TokenClass::kPicture};
      observer.begin({kPicture, &rows});
      encoded = model.encode_pictures(sample.patches, sample.grids, run);
    }
    const SampleRows rows = tokens.draw(std::ssize(sample.tokens));
    std::vector<TokenClass> classes;
    for (const TokenId token : sample.tokens) {
      classes.push_back(token == model.config().picture_token ? TokenClass::kPicture : TokenClass::kText);
    }
    observer.begin({classes, &rows});
    Tensor hidden = model.embed(sample.tokens, encoded);
    const Positions positions = mrope_positions(sample.tokens, model.config().picture_token, sample.grids, 2);
    PlainKvCache cache(decoder.layers, decoder.kv_heads, decoder.head_dim);
    const SequenceSlice slice{&cache, positions.values};
    model.forward({&slice, 1}, hidden, run);
    model.logits(hidden, run);
  }
  InputTable inputs = observer.take("visual.", pictures.filled());
  inputs.merge(observer.take("", tokens.filled()));
  for (std::int64_t i = 0; i < decoder.layers; ++i) kv.push_back(observer.take_kv(i));
  return inputs;
}

TEST(Calibration, LayerByLayerHasTheBitsOfWholeSamples) {
  const CalibrationData data = demo_data(3);
  const Calibration layered = calibrate(Checkpoint::open(kDemo), data, demo_options(), default_stream());
  Calibration whole;
  whole.inputs = whole_samples(data, demo_options(), whole.kv);
  expect_same(layered, whole);
  const InputStatistics& input = *layered.inputs.at("model.layers.3.mlp.up_proj");
  EXPECT_EQ(input.of(TokenClass::kPicture).tokens, layered.made_from.picture_tokens);
  EXPECT_EQ(input.of(TokenClass::kText).tokens, layered.made_from.tokens - layered.made_from.picture_tokens);
  EXPECT_GT(layered.made_from.picture_tokens, 0);
  EXPECT_TRUE(layered.inputs.contains("lm_head"));
}

class CalibrationWorkFolder : public testing::Test {
 protected:
  CalibrationWorkFolder() : folder_(fs::path(testing::TempDir()) / ("halftone_work_" + std::to_string(::getpid()))) {}
  ~CalibrationWorkFolder() override { fs::remove_all(folder_); }

  CalibrateOptions options() const {
    CalibrateOptions options = demo_options();
    options.work = folder_;
    return options;
  }
  fs::path folder_;
};

TEST_F(CalibrationWorkFolder, SurvivesSigkill) {
  const CalibrationData data = demo_data(2);
  const Checkpoint checkpoint = Checkpoint::open(kDemo);
  CalibrateOptions plain = demo_options();
  const Timer timer;
  const Calibration expected = calibrate(checkpoint, data, plain, default_stream());
  // a child, which has one thread, takes at least as long
  const auto whole = std::max<std::int64_t>(2, static_cast<std::int64_t>(1e3 * timer.seconds()));
  Random random(11);
  int killed = 0;
  bool finished = false;
  for (int round = 0; round < 40 && !finished; ++round) {
    const pid_t child = fork();
    if (child == 0) {
      ThreadPool pool(1);  // threads do not survive a fork
      Stream stream{&pool};
      calibrate(checkpoint, data, options(), stream);
      _exit(0);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1 + random.below(static_cast<std::uint64_t>(whole))));
    finished = waitpid(child, nullptr, WNOHANG) == child;
    if (!finished) {
      kill(child, SIGKILL);
      waitpid(child, nullptr, 0);
      ++killed;
    }
  }
  EXPECT_GT(killed, 0);
  expect_same(calibrate(checkpoint, data, options(), default_stream()), expected);
}

TEST_F(CalibrationWorkFolder, StartsAnewForOtherInputs) {
  const Checkpoint checkpoint = Checkpoint::open(kDemo);
  calibrate(checkpoint, demo_data(2), options(), default_stream());
  EXPECT_TRUE(fs::exists(folder_ / "boundary-008"));
  EXPECT_FALSE(fs::exists(folder_ / "boundary-007"));
  CalibrateOptions other = options();
  other.max_tokens = 64;
  const Calibration again = calibrate(checkpoint, demo_data(2), other, default_stream());
  CalibrateOptions plain = other;
  plain.work.clear();
  expect_same(again, calibrate(checkpoint, demo_data(2), plain, default_stream()));
  // a folder of somebody else's is left alone
  fs::remove_all(folder_);
  fs::create_directories(folder_);
  write_file_atomically(folder_ / "precious", "1");
  EXPECT_THROW(calibrate(checkpoint, demo_data(2), options(), default_stream()), Error);
  EXPECT_TRUE(fs::exists(folder_ / "precious"));
}

}  // namespace
}  // namespace halftone
