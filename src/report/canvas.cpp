#include "report/canvas.h"

#include <cairo-svg.h>
#include <cairo.h>

#include <numbers>

#include "base/error.h"

namespace halftone {
namespace {

struct DestroySurface {
  void operator()(cairo_surface_t* surface) const { cairo_surface_destroy(surface); }
};
struct DestroyContext {
  void operator()(cairo_t* context) const { cairo_destroy(context); }
};
using Surface = std::unique_ptr<cairo_surface_t, DestroySurface>;
using Context = std::unique_ptr<cairo_t, DestroyContext>;

cairo_status_t append(void* target, const unsigned char* bytes, unsigned size) {
  static_cast<std::string*>(target)->append(reinterpret_cast<const char*>(bytes), size);
  return CAIRO_STATUS_SUCCESS;
}

void check(cairo_status_t status) {
  require(status == CAIRO_STATUS_SUCCESS, "chart", "cannot draw: {}", cairo_status_to_string(status));
}

void set_color(cairo_t* context, Color color) { cairo_set_source_rgb(context, color.red, color.green, color.blue); }

}  // namespace

void Canvas::rectangle(double x, double y, double width, double height, Color color) {
  set_color(context_, color);
  cairo_rectangle(context_, x, y, width, height);
  cairo_fill(context_);
}

void Canvas::line(double x0, double y0, double x1, double y1, Color color, double width, bool dashed) {
  set_color(context_, color);
  cairo_set_line_width(context_, width);
  constexpr double kDash[] = {4, 3};
  cairo_set_dash(context_, kDash, dashed ? 2 : 0, 0);
  cairo_move_to(context_, x0, y0);
  cairo_line_to(context_, x1, y1);
  cairo_stroke(context_);
}

void Canvas::circle(double x, double y, double radius, Color color, bool filled) {
  cairo_new_path(context_);
  cairo_arc(context_, x, y, radius, 0, 2 * std::numbers::pi);
  set_color(context_, filled ? color : colors::kPaper);
  cairo_fill_preserve(context_);
  set_color(context_, color);
  cairo_set_dash(context_, nullptr, 0, 0);
  cairo_set_line_width(context_, 1.6);
  cairo_stroke(context_);
}

void Canvas::select_font(const TextStyle& style) {
  cairo_select_font_face(context_, "DejaVu Sans", CAIRO_FONT_SLANT_NORMAL,
                         style.bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
  cairo_set_font_size(context_, style.size);
}

double Canvas::text_width(std::string_view text, const TextStyle& style) {
  select_font(style);
  cairo_text_extents_t extents;
  cairo_text_extents(context_, std::string(text).c_str(), &extents);
  return extents.x_advance;
}

void Canvas::text(double x, double y, std::string_view text, const TextStyle& style) {
  const double width = text_width(text, style);
  set_color(context_, style.color);
  cairo_move_to(context_,
                style.align == Align::kLeft    ? x
                : style.align == Align::kRight ? x - width
                                               : x - width / 2,
                y);
  cairo_show_text(context_, std::string(text).c_str());
}

std::string render_svg(double width, double height, const Canvas::Draw& draw) {
  std::string svg;
  const Surface surface(cairo_svg_surface_create_for_stream(append, &svg, width, height));
  const Context context(cairo_create(surface.get()));
  Canvas canvas(context.get());
  canvas.rectangle(0, 0, width, height, colors::kPaper);
  draw(canvas);
  check(cairo_status(context.get()));
  cairo_surface_finish(surface.get());
  check(cairo_surface_status(surface.get()));
  return svg;
}

std::string render_png(double width, double height, const Canvas::Draw& draw) {
  constexpr int kScale = 2;
  std::string png;
  const Surface surface(cairo_image_surface_create(CAIRO_FORMAT_RGB24, static_cast<int>(width) * kScale,
                                                   static_cast<int>(height) * kScale));
  const Context context(cairo_create(surface.get()));
  cairo_scale(context.get(), kScale, kScale);
  Canvas canvas(context.get());
  canvas.rectangle(0, 0, width, height, colors::kPaper);
  draw(canvas);
  check(cairo_status(context.get()));
  check(cairo_surface_write_to_png_stream(surface.get(), append, &png));
  return png;
}

}  // namespace halftone
