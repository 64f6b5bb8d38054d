// Interpolation of corner attributes at pixels: u a_0 + v a_1 + (1 - u - v) a_2.

KERNEL interpolate_forward(const real* attributes, const int* corners, const int* triangle,
                           const real* uv, real* out, int columns, int pixels) {
  EACH(n, pixels) {
    const int* corner = corners + 3 * (size)triangle[n];
    const real* a = attributes + (size)columns * corner[0];
    const real* b = attributes + (size)columns * corner[1];
    const real* c = attributes + (size)columns * corner[2];
    real u = uv[2 * (size)n], v = uv[2 * (size)n + 1], w = 1 - u - v;
    for (int j = 0; j < columns; ++j)
      out[(size)columns * n + j] = u * a[j] + v * b[j] + w * c[j];
  }
}

KERNEL interpolate_to_uv(const real* attributes, const int* corners, const int* triangle,
                         const real* grad, real* to_uv, int columns, int pixels) {
  EACH(n, pixels) {
    const int* corner = corners + 3 * (size)triangle[n];
    const real* a = attributes + (size)columns * corner[0];
    const real* b = attributes + (size)columns * corner[1];
    const real* c = attributes + (size)columns * corner[2];
    real gu = 0, gv = 0;
    for (int j = 0; j < columns; ++j) {
      real g = grad[(size)columns * n + j];
      gu += g * (a[j] - c[j]);
      gv += g * (b[j] - c[j]);
    }
    to_uv[2 * (size)n] = gu;
    to_uv[2 * (size)n + 1] = gv;
  }
}

// Where `sizes` is given, no term is added: it gets the largest finite one of the pixel.
KERNEL interpolate_to_attributes(const int* corners, const int* triangle, const real* uv,
                                 const real* grad, real* sizes, real* total, long long* fixed,
                                 const double* scale, int columns, int pixels) {
  EACH(n, pixels) {
    const int* corner = corners + 3 * (size)triangle[n];
    real u = uv[2 * (size)n], v = uv[2 * (size)n + 1], w = 1 - u - v;
    if (sizes) {
      real widest = most(magnitude(u), most(magnitude(v), magnitude(w))), size_here = 0;
      for (int j = 0; j < columns; ++j) {
        real term = widest * magnitude(grad[(size)columns * n + j]);
        if (is_finite(term)) size_here = most(size_here, term);
      }
      sizes[n] = size_here;
      continue;
    }
    for (int j = 0; j < columns; ++j) {
      real g = grad[(size)columns * n + j];
      sum_up(total, fixed, scale, (size)columns * corner[0] + j, u * g);
      sum_up(total, fixed, scale, (size)columns * corner[1] + j, v * g);
      sum_up(total, fixed, scale, (size)columns * corner[2] + j, w * g);
    }
  }
}
