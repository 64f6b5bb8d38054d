// Distances between images. Kinds: 0 logl1, 1 logl2, 2 mse, 3 smape, 4 relmse.

struct Held {  // within [0, 65535], and whether it moves freely (1) or is at an end (0)
  real x, moves;
};

DEVICE Held held(real x) {
  real top = 65535;
  return {x <= 0 ? 0 : (x >= top ? top : x), (real)(x > 0 && x < top ? 1 : 0)};
}

struct Tone {
  real value, slope;
};

// T(x) = sRGB(log(x + 1)).
DEVICE Tone tone(real x) {
  real bright = log_of_one_plus(x);
  if (bright <= (real)0.0031308) return {(real)12.92 * bright, (real)12.92 / (1 + x)};
  real curve = (real)1.055 * power(bright, (real)(1 / 2.4));
  return {curve - (real)0.055, curve / ((real)2.4 * bright * (1 + x))};
}

struct Distance {
  real value, to_x, to_y;
};

DEVICE real sign_of(real d) { return d > 0 ? 1 : (d < 0 ? -1 : d); }

DEVICE Distance distance(int kind, real x, real y) {
  if (x == y) return {0, 0, 0};
  if (kind <= 1) {
    Tone a = tone(x), b = tone(y);
    real d = a.value - b.value;
    real along = kind == 0 ? sign_of(d) : 2 * d;
    return {kind == 0 ? magnitude(d) : d * d, along * a.slope, -along * b.slope};
  }
  real d = x - y;
  if (kind == 2) return {d * d, 2 * d, -2 * d};
  if (kind == 3) {
    real total = x + y + (real)0.01, value = magnitude(d) / total, sign = sign_of(d);
    return {value, (sign - value) / total, (-sign - value) / total};
  }
  real total = x * x + y * y + (real)0.1, value = d * d / total;
  return {value, 2 * (d - value * x) / total, 2 * (-d - value * y) / total};
}

// Thread t adds up the pixels t, t + threads, ...
KERNEL image_loss_forward(const real* rgb, const real* reference, const real* weight, real* slope,
                          double* sums, double scale, int kind, long long pixels, int threads) {
  EACH(t, threads) {
    double sum = 0;
    for (long long p = t; p < pixels; p += threads) {
      real w = weight[p], share = w * (real)scale;
      for (int c = 0; c < 3; ++c) {
        Held x = held(rgb[3 * p + c] * w), y = held(reference[3 * p + c] * w);
        Distance d = distance(kind, x.x, y.x);
        sum += d.value;
        if (slope) slope[3 * p + c] = d.to_x * x.moves * share;
      }
    }
    sums[t] = sum;
  }
}

KERNEL image_loss_backward(const real* rgb, const real* reference, const real* weight,
                           const real* grad, real* to_rgb, real* to_reference, real* to_weight,
                           double scale, int kind, long long pixels) {
  EACH_LONG(p, pixels) {
    real w = weight[p], to_w = 0, share = grad[0] * (real)scale;
    for (int c = 0; c < 3; ++c) {
      size k = 3 * (size)p + c;
      Held x = held(rgb[k] * w), y = held(reference[k] * w);
      Distance d = distance(kind, x.x, y.x);
      real dx = d.to_x * x.moves * share, dy = d.to_y * y.moves * share;
      to_w += dx * rgb[k] + dy * reference[k];
      if (to_rgb) to_rgb[k] = dx * w;
      if (to_reference) to_reference[k] = dy * w;
    }
    if (to_weight) to_weight[p] = to_w;
  }
}
