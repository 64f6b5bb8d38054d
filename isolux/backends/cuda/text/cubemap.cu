// Seamless cube map lookups: bilinear in faces that are padded by a texel of their neighbours,
// linear between levels. Directions that are zero or not finite give zero. Axes of the faces'
// pictures as in OpenGL: with s the sign of the major coordinate, (right, down) is (-s z, -y) on
// x faces, (x, s z) on y faces and (s x, -y) on z faces.

struct Look {  // all zero where no face is met
  int axis, face;
  real sign, inverse;  // of the major coordinate, and one over its magnitude
  real u, v;           // place on the face, in [-1, 1]^2
};

struct Blend {  // of the levels `lower` and `lower` + 1
  int lower;
  real share;  // of the upper one
  bool moves;  // whether the level has a gradient
};

struct Taps {
  size above, below;  // the left of the two upper texels, and of the two lower ones
  real x, y;          // place between them
  real scale;         // d x / d u
};

DEVICE Look look_of(const real* direction) {
  Look look = {};
  real x = direction[0], y = direction[1], z = direction[2];
  real far_x = magnitude(x), far_y = magnitude(y), far_z = magnitude(z);
  real total = far_x + far_y + far_z;
  int axis = far_z > most(far_x, far_y) ? 2 : far_y > far_x ? 1 : 0;
  real major = axis == 0 ? x : axis == 1 ? y : z;
  real inverse = 1 / magnitude(major);  // infinite also for the smallest numbers there are
  if (!(is_finite(total) && is_finite(inverse))) return look;
  look.axis = axis, look.inverse = inverse;
  look.sign = (real)(major > 0 ? 1 : -1);
  look.face = 2 * axis + (major > 0 ? 0 : 1);
  look.u = axis == 0 ? -look.sign * z : axis == 1 ? x : look.sign * x;
  look.v = axis == 1 ? look.sign * z : -y;
  look.u *= look.inverse, look.v *= look.inverse;
  return look;
}

// From (u, v) to the direction.
DEVICE void to_direction_of(const Look& look, real du, real dv, real* out) {
  real along = -(du * look.u + dv * look.v) * look.sign;
  real x = look.axis == 0 ? along : look.axis == 1 ? du : look.sign * du;
  real y = look.axis == 1 ? along : -dv;
  real z = look.axis == 0 ? -look.sign * du : look.axis == 1 ? look.sign * dv : along;
  out[0] = x * look.inverse, out[1] = y * look.inverse, out[2] = z * look.inverse;
}

DEVICE Blend blend_of(const real* level, int p, int levels) {
  Blend b = {0, 0, false};
  if (!level || levels == 1) return b;
  real at = level[p], top = (real)(levels - 1);
  if (!(at > 0)) {  // also not a number
    b.moves = at == 0;
  } else if (at >= top) {
    b.lower = levels - 2, b.share = 1, b.moves = at == top;
  } else {
    b.lower = (int)at, b.share = at - (real)b.lower, b.moves = true;
  }
  return b;
}

DEVICE Taps taps_of(const Look& look, int start, int edge, int channels) {
  real half = (real)0.5, wide = (real)edge;
  real x = (look.u * half + half) * wide + half;  // counted from the padding
  real y = (look.v * half + half) * wide + half;
  int column = least(most((int)x, 0), edge), row = least(most((int)y, 0), edge);
  int stride = edge + 2;
  Taps t;
  t.above = ((size)start + ((size)look.face * stride + row) * stride + column) * channels;
  t.below = t.above + (size)stride * channels;
  t.x = x - (real)column, t.y = y - (real)row, t.scale = wide * half;
  return t;
}

DEVICE real value_at(const real* padded, const Taps& t, int channels, int c) {
  const real *a = padded + t.above + c, *b = padded + t.below + c;
  real above = (1 - t.x) * a[0] + t.x * a[channels];
  real below = (1 - t.x) * b[0] + t.x * b[channels];
  return (1 - t.y) * above + t.y * below;
}

DEVICE void look_up(const real* padded, const int* starts, const int* sizes,
                    const real* direction, const real* level, real* out, int levels,
                    int channels, int p) {
  real* here = out + (size)channels * p;
  Look look = look_of(direction + 3 * (size)p);
  if (look.sign == 0) {
    for (int c = 0; c < channels; ++c) here[c] = 0;
    return;
  }
  Blend b = blend_of(level, p, levels);
  int upper = least(b.lower + 1, levels - 1);
  Taps low = taps_of(look, starts[b.lower], sizes[b.lower], channels);
  Taps high = taps_of(look, starts[upper], sizes[upper], channels);
  for (int c = 0; c < channels; ++c) {
    real value = 0;
    if (b.share != 1) value += (1 - b.share) * value_at(padded, low, channels, c);
    if (b.share != 0) value += b.share * value_at(padded, high, channels, c);
    here[c] = value;
  }
}

DEVICE void add_to_texels(real* sums, long long* fixed, const double* scale, const Taps& t,
                          const real* grad, real weight, int channels, int copies, int copy) {
  real w00 = (1 - t.x) * (1 - t.y) * weight, w10 = t.x * (1 - t.y) * weight;
  real w01 = (1 - t.x) * t.y * weight, w11 = t.x * t.y * weight;
  size right = (size)channels * copies;
  for (int c = 0; c < channels; ++c) {
    real g = grad[c];
    size a = (t.above + c) * copies + copy, b = (t.below + c) * copies + copy;
    sum_up(sums, fixed, scale, a, w00 * g);
    sum_up(sums, fixed, scale, a + right, w10 * g);
    sum_up(sums, fixed, scale, b, w01 * g);
    sum_up(sums, fixed, scale, b + right, w11 * g);
  }
}

// Products of a point's gradient with its texels: adds to d u and d v, gives that of the value.
DEVICE real to_place_of(const real* padded, const Taps& t, const real* grad, real weight,
                        int channels, real& du, real& dv) {
  real t00 = 0, t10 = 0, t01 = 0, t11 = 0;
  for (int c = 0; c < channels; ++c) {
    real g = grad[c];
    const real *a = padded + t.above + c, *b = padded + t.below + c;
    t00 += g * a[0], t10 += g * a[channels];
    t01 += g * b[0], t11 += g * b[channels];
  }
  du += weight * t.scale * ((1 - t.y) * (t10 - t00) + t.y * (t11 - t01));
  dv += weight * t.scale * ((1 - t.x) * (t01 - t00) + t.x * (t11 - t10));
  return (1 - t.y) * ((1 - t.x) * t00 + t.x * t10) + t.y * ((1 - t.x) * t01 + t.x * t11);
}

DEVICE void look_back(const real* padded, const int* starts, const int* sizes,
                      const real* direction, const real* level, const real* grad, real* sums,
                      long long* fixed, const double* scale, real* to_direction, real* to_level,
                      int levels, int channels, int copies, int p) {
  real du = 0, dv = 0, slope = 0;
  Look look = look_of(direction + 3 * (size)p);
  bool valid = look.sign != 0;
  Blend b = blend_of(level, p, levels);
  const real* above = grad + (size)channels * p;
  for (int side = 0; side < 2 && valid; ++side) {
    real weight = side ? b.share : 1 - b.share;
    if (weight == 0 && !b.moves) continue;
    int k = b.lower + side;
    Taps t = taps_of(look, starts[k], sizes[k], channels);
    if (sums && weight != 0)
      add_to_texels(sums, fixed, scale, t, above, weight, channels, copies, p & (copies - 1));
    if (to_direction) {
      real value = to_place_of(padded, t, above, weight, channels, du, dv);
      slope += side ? value : -value;
    }
  }
  if (to_direction) to_direction_of(look, du, dv, to_direction + 3 * (size)p);
  if (to_level) to_level[p] = valid && b.moves ? slope : 0;
}

// A thread a channel of a padded texel.
KERNEL cubemap_pad(const real* texels, const int* shown, const int* corners, real* padded,
                   int channels, int count) {
  EACH(n, count) {
    int source = shown[n / channels], c = n % channels;
    if (source >= 0) {
      padded[n] = texels[(size)source * channels + c];
    } else {  // the mean of the three texels that meet at the cube's corner
      const int* three = corners + 3 * (size)(-1 - source);
      real total = 0;
      for (int k = 0; k < 3; ++k) total += texels[(size)three[k] * channels + c];
      padded[n] = total / 3;
    }
  }
}

// The adjoint: a thread a channel of a texel, over the padded texels that show it.
KERNEL cubemap_fold(const real* padded, const int* first, const int* seen, real* out,
                    int channels, int count) {
  EACH(n, count) {
    int texel = n / channels, c = n % channels;
    real total = 0;
    for (int e = first[texel]; e < first[texel + 1]; ++e) {
      int from = seen[e];
      if (from >= 0)
        total += padded[(size)from * channels + c];
      else
        total += padded[(size)(-1 - from) * channels + c] / 3;
    }
    out[n] = total;
  }
}

// A thread a point; the loops over channels are unrolled for the three of light.
KERNEL cubemap_forward(const real* padded, const int* starts, const int* sizes,
                       const real* direction, const real* level, real* out, int levels,
                       int channels, int count) {
  EACH(p, count) {
    if (channels == 3)
      look_up(padded, starts, sizes, direction, level, out, levels, 3, p);
    else
      look_up(padded, starts, sizes, direction, level, out, levels, channels, p);
  }
}

KERNEL cubemap_backward(const real* padded, const int* starts, const int* sizes,
                        const real* direction, const real* level, const real* grad, real* sums,
                        long long* fixed, const double* scale, real* to_direction,
                        real* to_level, int levels, int channels, int copies, int count) {
  EACH(p, count) {
    if (channels == 3)
      look_back(padded, starts, sizes, direction, level, grad, sums, fixed, scale, to_direction,
                to_level, levels, 3, copies, p);
    else
      look_back(padded, starts, sizes, direction, level, grad, sums, fixed, scale, to_direction,
                to_level, levels, channels, copies, p);
  }
}
