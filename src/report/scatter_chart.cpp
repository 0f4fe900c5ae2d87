#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "report/axis.h"
#include "report/chart.h"

namespace halftone {
namespace {

constexpr double kWidth = 900, kHeight = 520, kLeft = 74, kRight = 24, kTop = 100, kBottom = 70, kRadius = 5.5;
constexpr double kLabelSize = 10.5;

struct Box {
  double left, top, right, bottom;
  double overlap(const Box& other) const {
    const double width = std::min(right, other.right) - std::max(left, other.left);
    const double height = std::min(bottom, other.bottom) - std::max(top, other.top);
    return width > 0 && height > 0 ? width * height : 0;
  }
};

class ScatterPainter {
 public:
  explicit ScatterPainter(const ScatterChart& chart) : chart_(chart), x_(make_axis(false)), y_(make_axis(true)) {}

  void draw(Canvas& canvas) {
    canvas.text(18, 33, chart_.title, {.size = 15, .bold = true});
    draw_legend(canvas);
    draw_axes(canvas);
    std::vector<Box> taken;
    for (const Point& point : chart_.points) {
      const double x = x_.pixel(point.x), y = y_.pixel(point.y);
      taken.push_back({x - kRadius, y - kRadius, x + kRadius, y + kRadius});
      canvas.circle(x, y, kRadius, point.color, point.filled);
    }
    for (const Point& point : chart_.points) draw_label(canvas, point, taken);
    canvas.text(18, kHeight - 12, chart_.note, {.size = 9.5, .color = colors::kGrey});
  }

 private:
  Axis make_axis(bool vertical) const {
    double low = INFINITY, high = -INFINITY;
    for (const Point& point : chart_.points) {
      const double value = vertical ? point.y : point.x;
      low = std::min(low, value);
      high = std::max(high, value);
    }
    if (!(low <= high)) low = 0, high = 1;
    if (!vertical) return Axis(low - 0.1 * (high - low), high + 0.1 * (high - low), kLeft, kWidth - kRight);
    return Axis(low, high, kHeight - kBottom, kTop, chart_.log_y);
  }

  void draw_legend(Canvas& canvas) const {
    double x = 18;
    for (const auto& [name, color] : chart_.legend) {
      canvas.circle(x + 5, 50, 4.5, color);
      canvas.text(x + 15, 54, name, {.size = kLabelSize});
      x += 15 + canvas.text_width(name, {.size = kLabelSize}) + 18;
    }
  }

  void draw_axes(Canvas& canvas) const {
    const double bottom = kHeight - kBottom, right = kWidth - kRight;
    for (const double tick : x_.ticks()) {
      canvas.line(x_.pixel(tick), kTop, x_.pixel(tick), bottom, colors::kFaint, 0.8);
      canvas.text(x_.pixel(tick), bottom + 16, x_.label(tick),
                  {.size = 10, .color = colors::kGrey, .align = Align::kCenter});
    }
    for (const double tick : y_.ticks()) {
      canvas.line(kLeft, y_.pixel(tick), right, y_.pixel(tick), colors::kFaint, 0.8);
      canvas.text(kLeft - 8, y_.pixel(tick) + 3.5, y_.label(tick),
                  {.size = 10, .color = colors::kGrey, .align = Align::kRight});
    }
    canvas.text((kLeft + right) / 2, bottom + 36, chart_.x_title, {.bold = true, .align = Align::kCenter});
    canvas.text(18, kTop - 14, chart_.y_title, {.bold = true});
  }

  // The first place around the point where the label hides nothing, else the one where it hides least.
  void draw_label(Canvas& canvas, const Point& point, std::vector<Box>& taken) const {
    const double x = x_.pixel(point.x), y = y_.pixel(point.y);
    const double width = canvas.text_width(point.label, {.size = kLabelSize});
    const double beside = kRadius + 4;
    const Box places[] = {
        {x + beside, y - 6, x + beside + width, y + 6},
        {x - beside - width, y - 6, x - beside, y + 6},
        {x - width / 2, y - beside - 12, x + width / 2, y - beside},
        {x - width / 2, y + beside, x + width / 2, y + beside + 12},
        {x + beside, y - 18, x + beside + width, y - 6},
        {x + beside, y + 6, x + beside + width, y + 18},
        {x - beside - width, y - 18, x - beside, y - 6},
        {x - beside - width, y + 6, x - beside, y + 18},
    };
    const Box* best = nullptr;
    double least = INFINITY;
    for (const Box& place : places) {
      if (place.right > kWidth - kRight || place.left < kLeft) continue;
      double hidden = 0;
      for (const Box& other : taken) hidden += place.overlap(other);
      if (hidden < least) {
        least = hidden;
        best = &place;
      }
    }
    if (!best) best = places;
    canvas.text(best->left, best->bottom - 2, point.label, {.size = kLabelSize});
    taken.push_back(*best);
  }

  const ScatterChart& chart_;
  Axis x_, y_;
};

}  // namespace

ChartFiles render(const ScatterChart& chart) {
  const auto draw = [&](Canvas& canvas) { ScatterPainter(chart).draw(canvas); };
  return {render_svg(kWidth, kHeight, draw), render_png(kWidth, kHeight, draw)};
}

}  // namespace halftone
