// Lookups in mip-mapped textures. A thread has one channel of a point, the channel fastest, so that
// neighbouring threads read and write neighbouring numbers. The first level is an array, all
// others are a second one; `shapes` holds height, width and first texel of each.

struct Axis {
  int low, high;  // the two texels
  real inside;    // the place between them
  real moves;     // whether the coordinate moves it (1) or not (0)
};

struct Corners {
  size texel[4];  // counted from the first one of the first level
  Axis x, y;
  real share;  // of the level in the point's value
};

DEVICE Axis axis_of(real u, int count, bool wrap) {
  real moves = is_finite(u) ? 1 : 0;
  if (moves == 0) u = 0;
  if (wrap) {
    real x = (u - lower(u)) * (real)count - (real)0.5, floor = lower(x);
    int low = (int)floor;
    if (low < 0) low += count;
    return {low, low + 1 >= count ? 0 : low + 1, x - floor, moves};
  }
  real x = u * (real)count - (real)0.5, last = (real)(count - 1);
  if (x < 0 || x > last) moves = 0;
  x = least(most(x, (real)0), last);
  int low = least((int)x, most(count - 2, 0));
  return {low, least(low + 1, count - 1), x - (real)low, moves};
}

// What a point sees of the lower of its two levels, or of the upper one. False: nothing.
DEVICE bool corners_of(const long long* shapes, const real* uv, const real* level, int p,
                       bool is_upper, bool wrap, Corners& found) {
  real at = level ? level[p] : 0;
  int k = (int)at;
  found.share = is_upper ? at - (real)k : 1 - (at - (real)k);
  if (found.share == 0) return false;  // so the level past the last one is never looked at
  const long long* shape = shapes + 3 * (k + is_upper);
  int height = (int)shape[0], width = (int)shape[1];
  Axis x = axis_of(uv[2 * (size)p], width, wrap);
  Axis y = axis_of(uv[2 * (size)p + 1], height, wrap);
  size top = (size)shape[2] + (size)y.low * width, bottom = (size)shape[2] + (size)y.high * width;
  found.texel[0] = top + x.low;
  found.texel[1] = top + x.high;
  found.texel[2] = bottom + x.low;
  found.texel[3] = bottom + x.high;
  found.x = x;
  found.y = y;
  return true;
}

// Texels of both arrays by one count. A level lies in one of them altogether.
DEVICE const real* array_of(const real* base, const real* rest, const long long* shapes,
                            const Corners& seen, int channels) {
  size texels = (size)(shapes[0] * shapes[1]);
  return seen.texel[0] < texels ? base : rest - texels * channels;
}

// log2 of the mean axis of a pixel's ellipse in texels, in [0, top].
KERNEL texture2d_level(const real* uv_da, real* level, real width, real height, real top,
                       real thinnest, int count) {
  EACH(p, count) {
    const real* da = uv_da + 4 * (size)p;
    real sx = da[0] * width, sy = da[1] * width, tx = da[2] * height, ty = da[3] * height;
    real a = sx * sx + tx * tx, b = sy * sy + ty * ty, c = sx * sy + tx * ty;
    real spread = (real)0.5 * (a - b), det = a * b - c * c;
    real longer = (real)0.5 * (a + b) + root(spread * spread + c * c);  // squared, as all here
    real square = root(det < 0 ? 0 : det), thin = longer / thinnest;
    if (!(thin <= square) && square == square) square = thin;
    // Written so that a footprint of zero, or not a number, lands on level 0.
    level[p] = square > 1 ? least((real)0.5 * log_two(square), top) : 0;
  }
}

KERNEL texture2d_forward(const real* base, const real* rest, const long long* shapes,
                         const real* uv, const real* level, real* out, bool wrap, int channels,
                         int count) {
  EACH(i, count) {
    int p = i / channels, channel = i % channels;
    real total = 0;
    for (int side = 0; side < 2; ++side) {
      Corners seen;
      if (!corners_of(shapes, uv, level, p, side, wrap, seen)) continue;
      const real* texels = array_of(base, rest, shapes, seen, channels) + channel;
      real x = seen.x.inside, y = seen.y.inside;
      real a = texels[seen.texel[0] * channels], b = texels[seen.texel[1] * channels];
      real c = texels[seen.texel[2] * channels], d = texels[seen.texel[3] * channels];
      real upper = (1 - x) * a + x * b, lower = (1 - x) * c + x * d;
      total += seen.share * ((1 - y) * upper + y * lower);
    }
    out[i] = total;
  }
}

// Gradients to the texels of all levels, which lie one after the other.
KERNEL texture2d_scatter(const long long* shapes, const real* uv, const real* level,
                         const real* grad, real* total, long long* fixed,
                         const double* scale, bool wrap, int channels, int count) {
  EACH(i, count) {
    int p = i / channels, channel = i % channels;
    real above = grad[i];
    if (above == 0) continue;
    for (int side = 0; side < 2; ++side) {
      Corners seen;
      if (!corners_of(shapes, uv, level, p, side, wrap, seen)) continue;
      real x = seen.x.inside, y = seen.y.inside, g = seen.share * above;
      real share[4] = {(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y};
      for (int k = 0; k < 4; ++k)
        sum_up(total, fixed, scale, seen.texel[k] * channels + channel, share[k] * g);
    }
  }
}

// A thread a point.
KERNEL texture2d_to_uv(const real* base, const real* rest, const long long* shapes,
                       const real* uv, const real* level, const real* grad, real* to_uv,
                       bool wrap, int channels, int count) {
  EACH(p, count) {
    real to_u = 0, to_v = 0;
    for (int side = 0; side < 2; ++side) {
      Corners seen;
      if (!corners_of(shapes, uv, level, p, side, wrap, seen)) continue;
      const real* texels = array_of(base, rest, shapes, seen, channels);
      real dot[4] = {};  // of the gradient above with the texels
      for (int channel = 0; channel < channels; ++channel) {
        real g = grad[(size)p * channels + channel];
        for (int k = 0; k < 4; ++k) dot[k] += g * texels[seen.texel[k] * channels + channel];
      }
      real x = seen.x.inside, y = seen.y.inside;
      real du = (1 - y) * (dot[1] - dot[0]) + y * (dot[3] - dot[2]);
      real dv = (1 - x) * (dot[2] - dot[0]) + x * (dot[3] - dot[1]);
      const long long* shape = shapes + 3 * ((level ? (int)level[p] : 0) + side);
      to_u += du * seen.share * seen.x.moves * (real)shape[1];
      to_v += dv * seen.share * seen.y.moves * (real)shape[0];
    }
    to_uv[2 * (size)p] = to_u;
    to_uv[2 * (size)p + 1] = to_v;
  }
}
