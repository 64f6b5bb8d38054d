// Analytic antialiasing of silhouettes: the arithmetic of the processor's kernels, operation by
// operation. Compiled without fused multiply-add.
//
// A pair of pixels is numbered by its axis (0 in a row, 1 in a column), then its first pixel.

DEVICE double not_a_number() { return float_of(0x7fc00000u); }

DEVICE double screen_x(const real* v, int width) {
  double inverse = v[3] > 0 ? 1.0 / (double)v[3] : not_a_number();
  return (v[0] * inverse + 1.0) * (0.5 * width);
}

DEVICE double screen_y(const real* v, int height) {
  double inverse = v[3] > 0 ? 1.0 / (double)v[3] : not_a_number();
  return (1.0 - v[1] * inverse) * (0.5 * height);
}

// Pixel positions of vertices; NaN for those at w <= 0.
KERNEL antialias_project(const real* p, double* screen, int height, int width, int count) {
  EACH(i, count) {
    screen[2 * (size)i] = screen_x(p + 4 * (size)i, width);
    screen[2 * (size)i + 1] = screen_y(p + 4 * (size)i, height);
  }
}

// The sign of det(p_0, p_1, p_2) of each face in each view, with p = (x, y, w).
KERNEL antialias_turns(const real* p, const int* faces, int* turn, int vertices, int triangles,
                       long long count) {
  EACH_LONG(i, count) {
    const int* corner = faces + 3 * (i % triangles);
    const real* first = p + 4 * (i / triangles) * vertices;
    const real* v0 = first + 4 * (size)corner[0];
    const real* v1 = first + 4 * (size)corner[1];
    const real* v2 = first + 4 * (size)corner[2];
    double x0 = v0[0], y0 = v0[1], w0 = v0[3];
    double x1 = v1[0], y1 = v1[1], w1 = v1[3];
    double x2 = v2[0], y2 = v2[1], w2 = v2[3];
    double a = w0 * (x1 * y2 - x2 * y1);
    double b = w1 * (x2 * y0 - x0 * y2);
    double c = w2 * (x0 * y1 - x1 * y0);
    double det = a + b + c;
    turn[i] = (det > 0.0) - (det < 0.0);
  }
}

// The vertex that stands `steps` corners behind one in its face.
DEVICE int vertex_after(const int* faces, int corner, int steps) {
  int place = corner % 3;
  return faces[corner - place + (place + steps) % 3];
}

// Whether the edge opposite to a corner is a silhouette: a border or a fold. `turn` is the view's.
DEVICE bool folds(const int* faces, const int* opposite, const int* turn, int corner) {
  int other = opposite[corner];
  if (other < 0) return true;
  int product = turn[corner / 3] * turn[other / 3];
  // Neighbours that go the same way round run along their edge in opposite directions.
  bool same = vertex_after(faces, corner, 1) == vertex_after(faces, other, 1);
  return same ? product >= 0 : product <= 0;
}

constexpr double slack = 1.0 / 1024.0;  // pixel; coverage is exact, so rounding only
// Pixels from a silhouette to a centre that may meet it.
constexpr double reach = 1.0 + 2.0 * slack;

// Marks the pixels whose centre is within reach of a silhouette edge, along both axes. The line
// from any other centre to the next meets no silhouette, so it need not be followed.
KERNEL antialias_mark(const real* p, const int* faces, const int* opposite, const int* turn,
                      bool* near, int vertices, int triangles, int height, int width,
                      long long count) {
  EACH_LONG(item, count) {
    int view = (int)(item / (3 * (long long)triangles));
    int corner = (int)(item % (3 * (long long)triangles));
    if (corner < opposite[corner]) continue;  // the neighbour's turn
    if (!folds(faces, opposite, turn + (size)view * triangles, corner)) continue;
    const real* first = p + 4 * (size)view * vertices;
    const real* i = first + 4 * (size)vertex_after(faces, corner, 1);
    const real* j = first + 4 * (size)vertex_after(faces, corner, 2);
    double xi = screen_x(i, width), yi = screen_y(i, height);
    double rise = screen_y(j, height) - yi, run = screen_x(j, width) - xi;
    if (!is_finite(rise + run)) continue;
    double top = yi + least(rise, 0.0), bottom = yi + most(rise, 0.0);
    double row_low = most(upper(top - 0.5 - reach), 0.0);
    double row_high = least(lower(bottom - 0.5 + reach), height - 1.0);
    for (double row = row_low; row <= row_high; row += 1.0) {
      double begin = 0.0, end = 1.0;  // the part of the edge within reach of the row
      if (bottom - top > slack) {
        double one = (row + 0.5 - reach - yi) / rise, other = (row + 0.5 + reach - yi) / rise;
        begin = least(most(least(one, other) - 1e-9, 0.0), 1.0);
        end = least(most(most(one, other) + 1e-9, 0.0), 1.0);
      }
      double left = xi + least(begin * run, end * run), right = xi + most(begin * run, end * run);
      double low = most(upper(left - 0.5 - reach), 0.0);
      double high = least(lower(right - 0.5 + reach), width - 1.0);
      bool* line = near + ((size)view * height + (size)row) * width;
      for (double column = low; column <= high; column += 1.0) line[(size)column] = true;
    }
  }
}

// Where an edge crosses the line t = 0; minus infinity or NaN if it does not.
DEVICE double crossing(int side, double ui, double ti, double uj, double tj) {
  if ((ti < 0.0) == (tj < 0.0)) return -1e300;
  return side * (ui * tj - uj * ti) / (tj - ti);
}

struct Exit {
  int corner;  // opposite to the edge that the line leaves by, or -1
  double distance;
  bool steep;  // enough to act along this axis
};

// Where the line from a point along an axis leaves a triangle. It came in by the edge opposite to
// the corner `entry`, or starts inside if that is -1. `screen` is the view's.
DEVICE Exit leave(const double* screen, const int* faces, int face, int entry, int axis, int side,
                  double along, double across) {
  double u[3], t[3];
  for (int i = 0; i < 3; ++i) {
    const double* at = screen + 2 * (size)faces[3 * (size)face + i];
    u[i] = at[axis] - along;
    t[i] = at[1 - axis] - across;
  }
  Exit best = {-1, -1e300, false};
  for (int i = 0; i < 3; ++i) {
    int j = (i + 1) % 3, k = (i + 2) % 3;
    double place = crossing(side, u[j], t[j], u[k], t[k]);
    if (!(place > best.distance) || entry == 3 * face + i) continue;
    double rise = magnitude(t[k] - t[j]), run = magnitude(u[k] - u[j]);
    best = {3 * face + i, place, rise > run || (rise == run && axis == 0)};
  }
  return best;
}

// Follows the line from a pixel's centre in one triangle to the next pixel's in another. Returns
// the corner opposite to the silhouette edge that it crosses within a pixel and that acts along
// this axis, or -1, and how far away.
DEVICE Exit follow(const double* screen, const int* faces, const int* opposite, const int* turn,
                   int face, int goal, int axis, int side, double along, double across) {
  Exit none = {-1, 0.0, false};
  int entry = -1;
  for (int step = 0; step < 64; ++step) {
    Exit exit = leave(screen, faces, face, entry, axis, side, along, across);
    if (exit.corner < 0 || !(-slack < exit.distance && exit.distance < 1.0 + slack)) return none;
    if (folds(faces, opposite, turn, exit.corner)) return exit.steep ? exit : none;
    entry = opposite[exit.corner];
    face = entry / 3;
    if (face == goal) return none;  // both pixels show one stretch of surface
  }
  return none;
}

KERNEL antialias_find(const real* depth, const int* triangle, const double* screen,
                      const int* faces, const int* opposite, const int* turn, const bool* near,
                      real* alpha, int* edge, int vertices, int triangles, int height, int width,
                      long long count) {
  EACH_LONG(pair, count) {
    int axis = pair >= count / 2;
    size k0 = (size)(pair - axis * (count / 2));
    int column = (int)(k0 % width), row = (int)(k0 / width % height);
    alpha[pair] = 0;
    edge[pair] = -1;
    if (axis == 0 ? column + 1 == width : row + 1 == height) continue;
    size k1 = k0 + (axis == 0 ? 1 : width);
    int own = triangle[k0], other = triangle[k1];
    if (own == other) continue;
    bool mine = other == 0 || (own != 0 && depth[k0] <= depth[k1]);
    if (!near[mine ? k0 : k1]) continue;
    size view = k0 / ((size)width * height);
    int side = mine ? 1 : -1;
    Exit exit = follow(screen + 2 * view * vertices, faces, opposite, turn + view * triangles,
                       (mine ? own : other) - 1, (mine ? other : own) - 1, axis, side,
                       (axis == 0 ? column : row) + (mine ? 0.5 : 1.5),
                       (axis == 0 ? row : column) + 0.5);
    if (exit.corner < 0) continue;
    alpha[pair] = (real)least(most(side * (0.5 - exit.distance), -0.5), 0.5);
    edge[pair] = exit.corner;
  }
}

// The four pairs of a pixel, in the order in which the processor adds them: with the pixel above,
// to the left, to the right, below.
struct Pairs {
  real alpha[4];
};

DEVICE Pairs pairs_of(const real* alpha, size k, size pixels, int height, int width) {
  int column = (int)(k % width), row = (int)(k / width % height);
  const real* down = alpha + pixels;
  return {{row > 0 ? down[k - width] : 0, column > 0 ? alpha[k - 1] : 0, alpha[k], down[k]}};
}

KERNEL antialias_blend(const real* color, const real* alpha, real* out, int channels, int height,
                       int width, long long count) {
  EACH_LONG(n, count) {
    Pairs of = pairs_of(alpha, (size)(n / channels), (size)(count / channels), height, width);
    long long step[4] = {(long long)width * channels, channels, channels,
                         (long long)width * channels};
    real own = color[n], sum = own;
    for (int i = 0; i < 4; ++i) {
      real a = of.alpha[i];
      if (i < 2 && a < 0) sum += a * (own - color[n - step[i]]);
      if (i >= 2 && a > 0) sum += a * (color[n + step[i]] - own);
    }
    out[n] = sum;
  }
}

KERNEL antialias_blend_backward(const real* grad, const real* alpha, real* out, int channels,
                                int height, int width, long long count) {
  EACH_LONG(n, count) {
    Pairs of = pairs_of(alpha, (size)(n / channels), (size)(count / channels), height, width);
    long long step[4] = {(long long)width * channels, channels, channels,
                         (long long)width * channels};
    real sum = grad[n];
    for (int i = 0; i < 4; ++i) {
      real a = of.alpha[i];
      if (a == 0) continue;
      if (i < 2)
        sum += a * grad[a > 0 ? n - step[i] : n];
      else
        sum -= a * grad[a > 0 ? n : n + step[i]];
    }
    out[n] = sum;
  }
}

// alpha = 1/2 - x, where x is the edge's crossing seen from the first pixel's centre.
//
// With x = (x_i y_j - x_j y_i) / (y_j - y_i) and t = y_j / (y_j - y_i) in [0, 1], dx is
// t dx_i + (1 - t) dx_j - s (t dy_i + (1 - t) dy_j), s = (x_j - x_i) / (y_j - y_i): the edge's
// motion along the axis. |s| <= 1, as an edge acts along its flat side only.
//
// Where `largest` is given, nothing is added: it gets the magnitude of the pair's largest term.
KERNEL antialias_move_backward(const real* color, const real* p, const real* grad,
                               const real* alpha, const int* edge, const int* faces,
                               real* largest, real* total, long long* fixed, const double* scale,
                               int channels, int vertices, int height, int width,
                               long long count) {
  EACH_LONG(pair, count) {
    if (edge[pair] < 0 || magnitude(alpha[pair]) >= (real)0.5) continue;  // held at its bound
    int axis = pair >= count / 2;
    size k0 = (size)(pair - axis * (count / 2)), k1 = k0 + (axis == 0 ? 1 : width);
    const real* above = grad + channels * (alpha[pair] > 0 ? k0 : k1);
    double pull = 0.0;
    for (int j = 0; j < channels; ++j)
      pull -= (double)above[j] * (color[channels * k1 + j] - color[channels * k0 + j]);
    size first = 4 * (k0 / ((size)width * height)) * vertices;
    size i = first + 4 * (size)vertex_after(faces, edge[pair], 1);
    size j = first + 4 * (size)vertex_after(faces, edge[pair], 2);
    double wi = 1.0 / (double)p[i + 3], wj = 1.0 / (double)p[j + 3];
    double xi = p[i] * wi * (0.5 * width), xj = p[j] * wj * (0.5 * width);
    double yi = -p[i + 1] * wi * (0.5 * height), yj = -p[j + 1] * wj * (0.5 * height);
    double t, gx, gy;
    if (axis == 0) {
      double offset = (int)(k0 / width % height) + 0.5 - 0.5 * height;
      t = (yj - offset) / (yj - yi);
      gx = pull, gy = -pull * (xj - xi) / (yj - yi);
    } else {
      double offset = (int)(k0 % width) + 0.5 - 0.5 * width;
      t = (xj - offset) / (xj - xi);
      gx = -pull * (yj - yi) / (xj - xi), gy = pull;
    }
    real bound = 0;
    for (int end = 0; end < 2; ++end) {
      size k = end == 0 ? i : j;
      double w = end == 0 ? wi : wj, share = end == 0 ? t : 1.0 - t;
      double to_x = gx * share * w * (0.5 * width), to_y = -gy * share * w * (0.5 * height);
      double to_w = -(p[k] * to_x + p[k + 1] * to_y) * w;
      if (largest) {
        bound = most(bound, (real)most(most(magnitude(to_x), magnitude(to_y)), magnitude(to_w)));
        continue;
      }
      sum_up(total, fixed, scale, k, (real)to_x);
      sum_up(total, fixed, scale, k + 1, (real)to_y);
      sum_up(total, fixed, scale, k + 3, (real)to_w);
    }
    if (largest) largest[pair] = bound;
  }
}
