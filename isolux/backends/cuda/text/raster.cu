// Rasterisation by homogeneous edge functions (Olano and Greer 1997, "Triangle scan conversion
// using 2D homogeneous coordinates"): the arithmetic of the processor's kernel, operation by
// operation, so that both agree bit for bit. Compiled without fused multiply-add.
//
// The nearest triangle is found by an atomic minimum, which has one result whatever the order.
// In single precision the key is depth, then number, so of two at the same depth the lower
// number stays. In double precision depth alone fills the key, and a second pass finds the number.

struct Edges {  // of a triangle with positive determinant
  double x[3], y[3], w[3];  // a_i = x_i fx + y_i fy + w_i
  double dx, dy, dw;        // z/w = dx fx + dy fy + dw
};

struct Box {  // pixels, inclusive; empty when low > high
  int x_low, x_high, y_low, y_high;
};

DEVICE word ordered(float d) {  // keeps the order of numbers; -0 and 0 are one
  unsigned b = bits_of(d + 0.0f);
  return b >> 31 ? ~b : b | 0x80000000u;
}

DEVICE word ordered(double d) {
  word b = bits_of(d + 0.0);
  return b >> 63 ? ~b : b | 0x8000000000000000ull;
}

DEVICE bool edges_of(const real* a, const real* b, const real* c, Edges& e) {
  double x0 = a[0], y0 = a[1], w0 = a[3];
  double x1 = b[0], y1 = b[1], w1 = b[3];
  double x2 = c[0], y2 = c[1], w2 = c[3];
  // Cross products. Swapping the two corners of an edge negates each term exactly.
  e.x[0] = y1 * w2 - y2 * w1, e.y[0] = x2 * w1 - x1 * w2, e.w[0] = x1 * y2 - x2 * y1;
  e.x[1] = y2 * w0 - y0 * w2, e.y[1] = x0 * w2 - x2 * w0, e.w[1] = x2 * y0 - x0 * y2;
  e.x[2] = y0 * w1 - y1 * w0, e.y[2] = x1 * w0 - x0 * w1, e.w[2] = x0 * y1 - x1 * y0;
  double det = w0 * e.w[0] + w1 * e.w[1] + w2 * e.w[2];
  if (det == 0.0 || !is_finite(det)) return false;
  if (det < 0.0) {
    det = -det;
    for (int i = 0; i < 3; ++i) e.x[i] = -e.x[i], e.y[i] = -e.y[i], e.w[i] = -e.w[i];
  }
  double inverse = 1.0 / det;
  double z0 = a[2] * inverse, z1 = b[2] * inverse, z2 = c[2] * inverse;
  e.dx = z0 * e.x[0] + z1 * e.x[1] + z2 * e.x[2];
  e.dy = z0 * e.y[0] + z1 * e.y[1] + z2 * e.y[2];
  e.dw = z0 * e.w[0] + z1 * e.w[1] + z2 * e.w[2];
  return true;
}

// The part of a triangle in front of the near plane, in pixels: x low, x high, y low, y high.
DEVICE void box_of_clipped(const real* const* p, int width, int height, double* box) {
  const double endless = 1e300;
  box[0] = box[2] = endless;
  box[1] = box[3] = -endless;
  for (int i = 0; i < 3; ++i)
    if (!is_finite((real)(p[i][0] + p[i][1] + p[i][2] + p[i][3]))) return;
  for (int i = 0; i < 3; ++i) {
    const real *k = p[i], *m = p[(i + 1) % 3];
    double near_k = (double)k[2] + k[3], near_m = (double)m[2] + m[3];
    for (int end = 0; end < 2; ++end) {  // the corner itself, then the cut of its edge
      double t = 0.0;
      if (end == 0) {
        if (near_k < 0.0) continue;
      } else {
        if ((near_k < 0.0) == (near_m < 0.0)) continue;
        t = near_k / (near_k - near_m);
      }
      double x = (1.0 - t) * k[0] + t * m[0];
      double y = (1.0 - t) * k[1] + t * m[1];
      double w = (1.0 - t) * k[3] + t * m[3];
      if (!(w > 0.0)) {
        box[0] = box[2] = -endless;
        box[1] = box[3] = endless;
        return;
      }
      double sx = (x / w + 1.0) * (0.5 * width), sy = (1.0 - y / w) * (0.5 * height);
      box[0] = sx < box[0] ? sx : box[0], box[1] = sx > box[1] ? sx : box[1];
      box[2] = sy < box[2] ? sy : box[2], box[3] = sy > box[3] ? sy : box[3];
    }
  }
}

DEVICE float low_pixel(float x, float first) {  // boxes are rounded, edge functions decide
  return most(upper(x - 1.0f / 128.0f), first);
}

DEVICE float high_pixel(float x, float last) {
  return least(lower(x + 1.0f / 128.0f), last);
}

DEVICE Box box_of(const real* p, const float* screen, int a, int b, int c, int width,
                  int height) {
  Box none = {0, -1, 0, -1};
  float xa = screen[2 * (size)a], ya = screen[2 * (size)a + 1];
  float xb = screen[2 * (size)b], yb = screen[2 * (size)b + 1];
  float xc = screen[2 * (size)c], yc = screen[2 * (size)c + 1];
  float sum = xa + xb + xc;
  float x_low, x_high, y_low, y_high;
  if (sum == sum) {
    x_low = least(xa, least(xb, xc)), x_high = most(xa, most(xb, xc));
    y_low = least(ya, least(yb, yc)), y_high = most(ya, most(yb, yc));
  } else {
    const real* corners[3] = {p + 4 * (size)a, p + 4 * (size)b, p + 4 * (size)c};
    double box[4];
    box_of_clipped(corners, width, height, box);
    x_low = (float)box[0], x_high = (float)box[1], y_low = (float)box[2], y_high = (float)box[3];
  }
  x_low = low_pixel(x_low - 0.5f, 0.0f), x_high = high_pixel(x_high - 0.5f, (float)(width - 1));
  y_low = low_pixel(y_low - 0.5f, 0.0f), y_high = high_pixel(y_high - 0.5f, (float)(height - 1));
  if (!(x_low <= x_high && y_low <= y_high)) return none;
  Box box = {(int)x_low, (int)x_high, (int)y_low, (int)y_high};
  return box;
}

// Pixel positions of vertices; NaN marks those that need care (w <= 0 or not finite).
KERNEL raster_project(const real* p, float* screen, int width, int height, int count) {
  EACH(i, count) {
    const real* v = p + 4 * (size)i;
    float sx = float_of(0x7fc00000u), sy = sx;
    if (v[3] > 0 && is_finite((real)(v[0] + v[1] + v[2] + v[3]))) {
      double inverse = 1.0 / (double)v[3];
      sx = (float)((v[0] * inverse + 1.0) * (0.5 * width));
      sy = (float)((1.0 - v[1] * inverse) * (0.5 * height));
    }
    screen[2 * (size)i] = sx;
    screen[2 * (size)i + 1] = sy;
  }
}

// The second pass of double precision; the first of single precision keeps the number in the key.
DEVICE void offer(word* key, int* lowest, size k, real d, int number, int pass) {
  if (sizeof(real) == 4) {
    atomic_min(key + k, ordered(d) << 32 | (unsigned)number);
  } else if (pass == 0) {
    atomic_min(key + k, ordered(d));
  } else if (key[k] == ordered(d)) {
    atomic_min(lowest + k, number);
  }
}

DEVICE void draw_row(const Edges& e, const real* behind, word* key, int* lowest, int number,
                     int view, int row, int x_low, int x_high, int width, int height, int pass) {
  double fy = 1.0 - (row + 0.5) * (2.0 / height);
  double c0 = e.y[0] * fy + e.w[0], c1 = e.y[1] * fy + e.w[1], c2 = e.y[2] * fy + e.w[2];
  double cd = e.dy * fy + e.dw;
  size base = ((size)view * height + row) * width;
  for (int column = x_low; column <= x_high; ++column) {
    double fx = (column + 0.5) * (2.0 / width) - 1.0;
    double a0 = e.x[0] * fx + c0, a1 = e.x[1] * fx + c1, a2 = e.x[2] * fx + c2;
    real d = (real)(e.dx * fx + cd);
    if (!(a0 >= 0.0 && a1 >= 0.0 && a2 >= 0.0 && magnitude(d) <= 1)) continue;
    size k = base + column;
    if (behind && !(d > behind[k])) continue;
    offer(key, lowest, k, d, number, pass);
  }
}

// A thread a triangle; those of many pixels are put on a list.
KERNEL raster_draw(const real* p, const int* faces, const float* screen, const real* behind,
                   word* key, int* lowest, int* listed, int* list, int most_pixels, int vertices,
                   int triangles, int width, int height, int pass, int count) {
  EACH(i, count) {
    int view = i / triangles, face = i % triangles;
    const int* corner = faces + 3 * (size)face;
    int first = view * vertices;
    int a = first + corner[0], b = first + corner[1], c = first + corner[2];
    Box box = box_of(p, screen, a, b, c, width, height);
    if (box.x_low > box.x_high) continue;
    if ((box.x_high - box.x_low + 1) * (box.y_high - box.y_low + 1) > most_pixels) {
      if (pass == 0) list[atomic_add(listed, 1)] = i;
      continue;
    }
    Edges e;
    if (!edges_of(p + 4 * (size)a, p + 4 * (size)b, p + 4 * (size)c, e)) continue;
    for (int row = box.y_low; row <= box.y_high; ++row)
      draw_row(e, behind, key, lowest, face + 1, view, row, box.x_low, box.x_high, width,
               height, pass);
  }
}

// A thread a row of a listed triangle.
KERNEL raster_draw_listed(const real* p, const int* faces, const float* screen,
                          const real* behind, word* key, int* lowest, const int* listed,
                          const int* list, int vertices, int triangles, int width, int height,
                          int pass) {
  EACH_LONG(i, (long long)*listed * height) {
    int item = list[i / height], row = (int)(i % height);
    int view = item / triangles, face = item % triangles;
    const int* corner = faces + 3 * (size)face;
    int first = view * vertices;
    int a = first + corner[0], b = first + corner[1], c = first + corner[2];
    Box box = box_of(p, screen, a, b, c, width, height);
    Edges e;
    if (row < box.y_low || row > box.y_high ||
        !edges_of(p + 4 * (size)a, p + 4 * (size)b, p + 4 * (size)c, e))
      continue;
    draw_row(e, behind, key, lowest, face + 1, view, row, box.x_low, box.x_high, width, height,
             pass);
  }
}

// From the nearest triangle's number to what is stored of it.
KERNEL raster_resolve(const real* p, const int* faces, const word* key, const int* lowest,
                      int* triangle, real* uv, real* depth, int vertices, int width, int height,
                      int count) {
  EACH(k, count) {
    triangle[k] = 0;
    uv[2 * (size)k] = uv[2 * (size)k + 1] = 0;
    depth[k] = 1;
    if (key[k] == ~0ull) continue;
    int number = sizeof(real) == 4 ? (int)(unsigned)key[k] : lowest[k];
    int view = k / (width * height), row = k / width % height, column = k % width;
    const int* corner = faces + 3 * (size)(number - 1);
    const real* first = p + 4 * (size)view * vertices;
    Edges e;
    edges_of(first + 4 * (size)corner[0], first + 4 * (size)corner[1],
             first + 4 * (size)corner[2], e);
    double fy = 1.0 - (row + 0.5) * (2.0 / height), fx = (column + 0.5) * (2.0 / width) - 1.0;
    double a0 = e.x[0] * fx + (e.y[0] * fy + e.w[0]);
    double a1 = e.x[1] * fx + (e.y[1] * fy + e.w[1]);
    double a2 = e.x[2] * fx + (e.y[2] * fy + e.w[2]);
    double total = 1.0 / (a0 + a1 + a2);
    triangle[k] = number;
    depth[k] = (real)(e.dx * fx + (e.dy * fy + e.dw));
    uv[2 * (size)k] = (real)(a0 * total);
    uv[2 * (size)k + 1] = (real)(a1 * total);
  }
}

// From the weights to clip x, y, w. With q_i = p_i.xy - w_i f the edge functions are
// a_0 = q_1 x q_2 and so on around. Where `sizes` is given, no term is added: it gets the largest
// finite one of the pixel.
KERNEL raster_backward(const real* p, const int* faces, const int* triangle, const real* grad_uv,
                       real* sizes, real* total, long long* fixed, const double* scale,
                       int vertices, int width, int height, int count) {
  EACH(k, count) {
    double gu = grad_uv[2 * (size)k], gv = grad_uv[2 * (size)k + 1];
    if (triangle[k] == 0 || (gu == 0.0 && gv == 0.0)) continue;
    int view = k / (width * height), row = k / width % height, column = k % width;
    double fx = (column + 0.5) * (2.0 / width) - 1.0, fy = 1.0 - (row + 0.5) * (2.0 / height);
    const int* corner = faces + 3 * (size)(triangle[k] - 1);
    size place[3];
    double qx[3], qy[3];
    for (int i = 0; i < 3; ++i) {
      place[i] = 4 * ((size)view * vertices + corner[i]);
      qx[i] = p[place[i]] - fx * p[place[i] + 3];
      qy[i] = p[place[i] + 1] - fy * p[place[i] + 3];
    }
    double a0 = qx[1] * qy[2] - qx[2] * qy[1], a1 = qx[2] * qy[0] - qx[0] * qy[2];
    double whole = a0 + a1 + (qx[0] * qy[1] - qx[1] * qy[0]);
    if (whole == 0.0) continue;
    double inverse = 1.0 / whole;
    double shift = gu * (a0 * inverse) + gv * (a1 * inverse);
    double g[3] = {(gu - shift) * inverse, (gv - shift) * inverse, -shift * inverse};
    for (int i = 0; i < 3; ++i) {
      int next = (i + 1) % 3, last = (i + 2) % 3;
      double gx = g[last] * qy[next] - g[next] * qy[last];
      double gy = g[next] * qx[last] - g[last] * qx[next];
      real terms[3] = {(real)gx, (real)gy, (real)-(fx * gx + fy * gy)};
      for (int axis = 0; axis < 3; ++axis) {
        if (!sizes)
          sum_up(total, fixed, scale, place[i] + (axis < 2 ? axis : 3), terms[axis]);
        else if (is_finite(terms[axis]))
          sizes[k] = most(sizes[k], magnitude(terms[axis]));
      }
    }
  }
}

// du/dX = (da_0/dX - u dS/dX) / S with a_i linear in the pixel's position; v alike.
KERNEL raster_screen_derivatives(const real* p, const int* faces, const int* triangle,
                                 const real* uv, const long long* pixels, real* out,
                                 int vertices, int width, int height, int count) {
  EACH(n, count) {
    size k = (size)pixels[n];
    real* here = out + 4 * (size)n;
    here[0] = here[1] = here[2] = here[3] = 0;
    if (triangle[k] == 0) continue;
    int view = (int)(k / ((size)width * height));
    int row = (int)(k / width % height), column = (int)(k % width);
    double fx = (column + 0.5) * (2.0 / width) - 1.0, fy = 1.0 - (row + 0.5) * (2.0 / height);
    const int* corner = faces + 3 * (size)(triangle[k] - 1);
    double x[3], y[3], w[3];
    for (int i = 0; i < 3; ++i) {
      const real* v = p + 4 * ((size)view * vertices + corner[i]);
      x[i] = v[0], y[i] = v[1], w[i] = v[3];
    }
    double ex[3], ey[3], ew[3];
    for (int i = 0; i < 3; ++i) {
      int j = (i + 1) % 3, m = (i + 2) % 3;
      ex[i] = y[j] * w[m] - y[m] * w[j];
      ey[i] = x[m] * w[j] - x[j] * w[m];
      ew[i] = x[j] * y[m] - x[m] * y[j];
    }
    double sx = ex[0] + ex[1] + ex[2], sy = ey[0] + ey[1] + ey[2];
    double total = sx * fx + sy * fy + (ew[0] + ew[1] + ew[2]);
    if (total == 0.0) continue;
    double u = uv[2 * k], v = uv[2 * k + 1];
    double scale_x = 2.0 / (width * total), scale_y = -2.0 / (height * total);
    here[0] = (real)((ex[0] - u * sx) * scale_x);
    here[1] = (real)((ey[0] - u * sy) * scale_y);
    here[2] = (real)((ex[1] - v * sx) * scale_x);
    here[3] = (real)((ey[1] - v * sy) * scale_y);
  }
}
