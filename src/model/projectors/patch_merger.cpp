#include "model/projectors/patch_merger.h"

#include "ops/elementwise.h"

namespace halftone {
namespace {

constexpr float kNormEps = 1e-6f;

class PatchMerger final : public Projector {
 public:
  PatchMerger(const VisionConfig& config, const Weights& weights, Numerics numerics, Stream& stream)
      : config_(config),
        numerics_(numerics),
        norm_("visual.merger.ln_q", weights),
        first_({"visual.merger.mlp.0"}, weights, stream),
        second_({"visual.merger.mlp.2"}, weights, stream) {}

  void visit(const LayerVisitor& visitor) override {
    visitor.norm(norm_);
    visitor.linear(first_);
    visitor.linear(second_);
  }

  Tensor project(const Tensor& x, RunContext run) const override {
    const std::int64_t merged = config_.width * config_.merge_size * config_.merge_size;
    const std::int64_t tokens = x.numel() / merged;
    Tensor normed = run.workspace.get("merger.normed", x.shape());
    layer_norm(x, norm_.weight(), norm_.bias(), kNormEps, numerics_, normed, run.stream);
    Tensor inner = run.workspace.get("merger.inner", {tokens, merged});
    first_.forward(normed.reshape({tokens, merged}), numerics_, inner, run);
    gelu_erf(inner, numerics_, inner, run.stream);
    Tensor y(DType::kF32, {tokens, config_.output});
    second_.forward(inner, numerics_, y, run);
    run.tell_output("visual.merger", y);
    return y;
  }

 private:
  VisionConfig config_;
  Numerics numerics_;
  Norm norm_;
  Linear first_, second_;
};

}  // namespace

std::unique_ptr<Projector> make_patch_merger(const VisionConfig& config, const Weights& weights, Numerics numerics,
                                             Stream& stream) {
  return std::make_unique<PatchMerger>(config, weights, numerics, stream);
}

}  // namespace halftone
