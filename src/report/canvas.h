#pragma once
// Where charts are drawn: one code for SVG and PNG, on cairo. Coordinates in pixels of the SVG, y downwards; text in
// DejaVu Sans.

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

struct _cairo;

namespace halftone {

struct Color {
  double red = 0, green = 0, blue = 0;
  Color lighter(double share) const {
    return {red + (1 - red) * share, green + (1 - green) * share, blue + (1 - blue) * share};
  }
};

// Colours that people with any colour vision tell apart (Okabe and Ito 2008), and greys.
namespace colors {
inline constexpr Color kBlue{0, 0.447, 0.698}, kOrange{0.902, 0.624, 0}, kGreen{0, 0.62, 0.451}, kRed{0.835, 0.369, 0},
    kSky{0.337, 0.706, 0.914}, kPurple{0.8, 0.475, 0.655}, kInk{0.13, 0.13, 0.15}, kGrey{0.45, 0.45, 0.48},
    kFaint{0.87, 0.87, 0.89}, kPaper{1, 1, 1};
}  // namespace colors

enum class Align { kLeft, kCenter, kRight };

struct TextStyle {
  double size = 11;
  bool bold = false;
  Color color = colors::kInk;
  Align align = Align::kLeft;
};

class Canvas {
 public:
  using Draw = std::function<void(Canvas&)>;

  Canvas(const Canvas&) = delete;
  Canvas& operator=(const Canvas&) = delete;

  void rectangle(double x, double y, double width, double height, Color color);
  void line(double x0, double y0, double x1, double y1, Color color, double width = 1, bool dashed = false);
  // Filled, or a ring on the paper.
  void circle(double x, double y, double radius, Color color, bool filled = true);
  // (x, y) is on the base line.
  void text(double x, double y, std::string_view text, const TextStyle& style);
  double text_width(std::string_view text, const TextStyle& style);

 private:
  explicit Canvas(_cairo* context) : context_(context) {}
  friend std::string render_svg(double width, double height, const Draw& draw);
  friend std::string render_png(double width, double height, const Draw& draw);
  void select_font(const TextStyle& style);
  _cairo* context_;
};

// The content of an SVG file.
std::string render_svg(double width, double height, const Canvas::Draw& draw);
// The content of a PNG file with twice as many pixels each way, for dense screens.
std::string render_png(double width, double height, const Canvas::Draw& draw);

}  // namespace halftone
