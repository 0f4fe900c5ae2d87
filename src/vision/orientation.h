#pragma once
// Which way up a picture is, as cameras note it.  Source: TIFF 6.0 (tag 274), Exif 2.32, Pillow's
// ImageOps.exif_transpose.

#include "vision/codec.h"
#include "vision/picture.h"

namespace halftone {

// The EXIF orientation 1 to 8, or that of XMP where EXIF has none; 1 for anything missing, unreadable or unknown.
int find_orientation(const PictureMetadata& metadata);

// Whether a picture of this orientation, 1 to 8, is as high as it seems wide.
constexpr bool swaps_axes(int orientation) { return orientation >= 5; }

// 2 mirrors left-right, 3 turns by 180 degrees, 4 mirrors top-bottom, 5 mirrors in the main diagonal, 6 turns clockwise
// by 90 degrees, 7 mirrors in the other diagonal, 8 turns counter-clockwise by 90 degrees.
Picture turn_upright(Picture picture, int orientation);

}  // namespace halftone
