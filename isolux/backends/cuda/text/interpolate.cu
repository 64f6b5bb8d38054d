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

KERNEL interpolate_to_attributes(const int* corners, const int* triangle, const real* uv,
                                 const real* grad, real* total, int columns, int pixels) {
  EACH(n, pixels) {
    const int* corner = corners + 3 * (size)triangle[n];
    real u = uv[2 * (size)n], v = uv[2 * (size)n + 1], w = 1 - u - v;
    for (int j = 0; j < columns; ++j) {
      real g = grad[(size)columns * n + j];
      atomic_add(total + (size)columns * corner[0] + j, u * g);
      atomic_add(total + (size)columns * corner[1] + j, v * g);
      atomic_add(total + (size)columns * corner[2] + j, w * g);
    }
  }
}
