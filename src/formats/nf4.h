#pragma once
// NF4, 4 bits: 16 levels between -1 and 1, quantiles of the normal distribution, to be multiplied by the largest
// magnitude of a block. Level 7 is 0. Encoding takes the nearest level, of two equally near ones the lower. kLevels are
// ModelOpt's: four decimals, rounded to bf16; kExactLevels are those of bitsandbytes, in f32. Source: Dettmers et al.,
// "QLoRA", 2023, section 3; ModelOpt qtensor/nf4_tensor.py; bitsandbytes get_4bit_type.
//
// Double quantization, ModelOpt's (that of bitsandbytes: quant/nf4_double.h): the scales s of the blocks are stored in 8 bits, in blocks of their own (usually 256):
//   mean = the mean of all s,  t = s - mean,  q = rint(t * (127 / max |t|)),  s' = q / (127 / max |t|) + mean

#include <cmath>
#include <cstdint>

namespace halftone::nf4 {

constexpr float kLevels[16] = {-0x1p+0,    -0x1.64p-1, -0x1.0cp-1, -0x1.94p-2, -0x1.24p-2, -0x1.7ap-3,
                               -0x1.76p-4, 0.0f,       0x1.46p-4,  0x1.4ap-3,  0x1.f8p-3,  0x1.5ap-2,
                               0x1.c4p-2,  0x1.2p-1,   0x1.72p-1,  0x1p+0};
constexpr float kExactLevels[16] = {-1.0f,
                                    -0.6961928009986877f,
                                    -0.5250730514526367f,
                                    -0.39491748809814453f,
                                    -0.28444138169288635f,
                                    -0.18477343022823334f,
                                    -0.09105003625154495f,
                                    0.0f,
                                    0.07958029955625534f,
                                    0.16093020141124725f,
                                    0.24611230194568634f,
                                    0.33791524171829224f,
                                    0.44070982933044434f,
                                    0.5626170039176941f,
                                    0.7229568362236023f,
                                    1.0f};
constexpr std::uint8_t kZero = 7;
constexpr std::int64_t kScaleBlock = 256;
constexpr float kScaleCodeMax = 127.0f;

constexpr float decode(std::uint8_t code) { return kLevels[code & 0xf]; }

// NaN has no code: it becomes kZero, the caller checks.
constexpr std::uint8_t encode(float x) {
  if (x != x) return kZero;
  std::uint8_t best = 0;
  float distance = x - kLevels[0] < 0 ? kLevels[0] - x : x - kLevels[0];
  for (std::uint8_t code = 1; code < 16; ++code) {
    const float d = x - kLevels[code] < 0 ? kLevels[code] - x : x - kLevels[code];
    if (d < distance) {
      best = code;
      distance = d;
    }
  }
  return best;
}

constexpr float decode_exact(std::uint8_t code) { return kExactLevels[code & 0xf]; }

// By the midpoints of kExactLevels, each rounded to f32. NaN becomes 0, the caller checks.
constexpr std::uint8_t encode_exact(float x) {
  std::uint8_t code = 0;
  while (code < 15 && (kExactLevels[code] + kExactLevels[code + 1]) / 2 < x) ++code;
  return code;
}

// 127 / max |t| of one block of centred scales; 0 for a block whose scales all equal the mean.
inline float scale_factor(const float* scales, std::int64_t n, float mean) {
  float most = 0;
  for (std::int64_t i = 0; i < n; ++i) most = std::fmax(most, std::fabs(scales[i] - mean));
  return most == 0 ? 0 : kScaleCodeMax / most;
}
// q of one scale; needs the default rounding mode.
inline std::int8_t encode_scale(float scale, float mean, float factor) {
  return static_cast<std::int8_t>(
      std::fmin(std::fmax(std::nearbyint((scale - mean) * factor), -kScaleCodeMax), kScaleCodeMax));
}
inline float decode_scale(std::int8_t code, float mean, float factor) {
  return (factor == 0 ? 0.0f : static_cast<float>(code) / factor) + mean;
}

static_assert(encode_exact(-2.0f) == 0 && encode_exact(0.0f) == kZero && encode_exact(0.9f) == 15);
static_assert(encode(-2.0f) == 0 && encode(0.0f) == kZero && encode(1.0f) == 15 && decode(11) == 0x1.5ap-2f);

}  // namespace halftone::nf4
