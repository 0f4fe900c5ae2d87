#include "eval/likelihood.h"

#include <algorithm>
#include <cmath>

namespace halftone {

double log_sum_exp(std::span<const float> logits) {
  require(!logits.empty(), "log_sum_exp", "expected logits, found none");
  double largest = -INFINITY;
  for (const float logit : logits) {
    require(std::isfinite(logit), "log_sum_exp", "expected finite logits, found {}", logit);
    largest = std::max(largest, double{logit});
  }
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{logit} - largest);
  return largest + std::log(sum);
}

double kl_divergence(std::span<const float> p, std::span<const float> q) {
  require(p.size() == q.size(), "kl_divergence", "expected rows of one length, found {} and {}", p.size(), q.size());
  const double p_total = log_sum_exp(p), q_total = log_sum_exp(q);
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double log_p = double{p[i]} - p_total, log_q = double{q[i]} - q_total;
    sum += std::exp(log_p) * (log_p - log_q);
  }
  return sum;
}

std::size_t argmax(std::span<const float> logits) {
  return static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace halftone
