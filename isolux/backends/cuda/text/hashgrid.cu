// The multiresolution hash grid of Müller et al. 2022. The level is the slowest part of an index,
// so that the threads at work share one level's table. Encodings and their gradients are stored
// column by column: neighbouring threads are neighbouring points.
//
// A gradient to the points is added up over `group` levels by a thread, and over the groups
// afterwards; one to the table over `run` points in a row as long as they stay in a cell, which
// neighbouring pixels do on coarse levels: these have few rows, and adding to one row waits.

struct Level {
  real scale;
  unsigned resolution, rows;
  bool direct;
  size first;  // row
};

struct Cell {
  unsigned x, y, z;
  real fx, fy, fz;  // place inside, in [0, 1)
  real ix, iy, iz;  // whether the coordinate moves the place (1) or not (0)
};

struct alignas(2 * sizeof(real)) Pair {  // of features, loaded as one
  real a, b;
};

DEVICE Level level_of(const real* scales, const long long* shapes, int level) {
  const long long* shape = shapes + 4 * level;
  return {scales[level], (unsigned)shape[0], (unsigned)shape[1], shape[2] != 0, (size)shape[3]};
}

DEVICE void locate(real x, real scale, unsigned& cell, real& inside, real& moves) {
  moves = x >= 0 && x <= 1 ? 1 : 0;
  real place = least(most(x, (real)0), (real)1) * scale + (real)0.5;  // NaN is sent to 0
  cell = (unsigned)place;
  inside = place - (real)cell;
}

DEVICE Cell cell_of(const real* points, int n, real scale) {
  const real* point = points + 3 * (size)n;
  Cell c;
  locate(point[0], scale, c.x, c.fx, c.ix);
  locate(point[1], scale, c.y, c.fy, c.iy);
  locate(point[2], scale, c.z, c.fz, c.iz);
  return c;
}

// Rows of a cell's corners in the level; in corner k, bit 0 is x, bit 1 is y and bit 2 is z.
DEVICE void rows_of(const Cell& c, const Level& l, unsigned* row) {
  if (l.direct) {
    unsigned start = c.x + l.resolution * (c.y + l.resolution * c.z);
    for (unsigned k = 0; k < 8; ++k) {
      unsigned far = start + (k & 1) + l.resolution * ((k >> 1 & 1) + l.resolution * (k >> 2));
      row[k] = far < l.rows ? far : far - l.rows;  // half a cell outside: the next line's rows
    }
  } else {
    for (unsigned k = 0; k < 8; ++k)  // equation 4; the prime of x is 1
      row[k] = ((c.x + (k & 1)) ^ (c.y + (k >> 1 & 1)) * 2654435761u ^
                (c.z + (k >> 2)) * 805459861u) & (l.rows - 1);
  }
}

// Trilinear weights of the corners, or where `along` is given their derivatives along it.
DEVICE void weights_of(const Cell& c, const real* along, int n, real scale, real* weight) {
  real x[2] = {1 - c.fx, c.fx}, y[2] = {1 - c.fy, c.fy}, z[2] = {1 - c.fz, c.fz};
  if (along) {
    const real* to = along + 3 * (size)n;
    real u = to[0] * c.ix * scale, v = to[1] * c.iy * scale, w = to[2] * c.iz * scale;
    for (int k = 0; k < 8; ++k) {
      int i = k & 1, j = k >> 1 & 1, m = k >> 2;
      weight[k] = (i ? u : -u) * y[j] * z[m] + (j ? v : -v) * x[i] * z[m] +
                  (m ? w : -w) * x[i] * y[j];
    }
  } else {
    for (int k = 0; k < 8; ++k) weight[k] = x[k & 1] * (y[k >> 1 & 1] * z[k >> 2]);
  }
}

// The encoding, or its derivative along a direction for each point.
KERNEL hashgrid_gather(const real* points, const real* along, const real* table,
                       const real* scales, const long long* shapes, real* out, int features,
                       int number, int count) {
  int pairs = features / 2;
  EACH(i, count) {
    int level = i / number, n = i % number;
    Level l = level_of(scales, shapes, level);
    Cell cell = cell_of(points, n, l.scale);
    unsigned row[8];
    real weight[8];
    rows_of(cell, l, row);
    weights_of(cell, along, n, l.scale, weight);
    const Pair* from = (const Pair*)table + l.first * pairs;
    for (int pair = 0; pair < pairs; ++pair) {
      real a = 0, b = 0;
      for (int k = 0; k < 8; ++k) {
        Pair f = from[(size)row[k] * pairs + pair];
        a += weight[k] * f.a;
        b += weight[k] * f.b;
      }
      size column = (size)level * features + 2 * pair;
      out[column * number + n] = a;
      out[(column + 1) * number + n] = b;
    }
  }
}

DEVICE void flush(real* total, long long* fixed, const double* unit, const Level& l,
                  const Cell& cell, int pairs, int pair, real* a, real* b) {
  unsigned row[8];
  rows_of(cell, l, row);
  for (int k = 0; k < 8; ++k) {
    size place = 2 * ((l.first + row[k]) * pairs + pair);
    if (a[k] != 0) sum_up(total, fixed, unit, place, a[k]);
    if (b[k] != 0) sum_up(total, fixed, unit, place + 1, b[k]);
    a[k] = b[k] = 0;
  }
}

// The adjoint of `hashgrid_gather` in the table. Indices are of (level, pair, run of points).
KERNEL hashgrid_scatter(const real* points, const real* along, const real* grad,
                        const real* scales, const long long* shapes, real* total,
                        long long* fixed, const double* unit, int features, int run, int number,
                        int count) {
  int pairs = features / 2, runs = (number - 1) / run + 1;
  EACH(i, count) {
    int level = i / (pairs * runs), pair = i / runs % pairs, first = i % runs * run;
    int last = least(run, number - first) + first;
    Level l = level_of(scales, shapes, level);
    const real* above = grad + ((size)level * features + 2 * pair) * number;
    real weight[8], a[8] = {}, b[8] = {};
    Cell held = cell_of(points, first, l.scale);
    for (int n = first; n < last; ++n) {
      Cell cell = cell_of(points, n, l.scale);
      if (cell.x != held.x || cell.y != held.y || cell.z != held.z)
        flush(total, fixed, unit, l, held, pairs, pair, a, b);
      held = cell;
      weights_of(cell, along, n, l.scale, weight);
      real g = above[n], h = above[(size)number + n];
      for (int k = 0; k < 8; ++k) {
        a[k] += weight[k] * g;
        b[k] += weight[k] * h;
      }
    }
    flush(total, fixed, unit, l, held, pairs, pair, a, b);
  }
}

// The gradient of <gradient above, encoding> to the points, or where `along` is given its Hessian
// times that. Indices are of (group of levels, point).
KERNEL hashgrid_slope(const real* points, const real* along, const real* table,
                      const real* grad, const real* scales, const long long* shapes, real* out,
                      int features, int levels, int group, int number, int count) {
  int pairs = features / 2;
  EACH(i, count) {
    int part = i / number, n = i % number, last = least(levels, (part + 1) * group);
    real dx = 0, dy = 0, dz = 0;
    for (int level = part * group; level < last; ++level) {
      Level l = level_of(scales, shapes, level);
      Cell cell = cell_of(points, n, l.scale);
      unsigned row[8];
      rows_of(cell, l, row);
      const Pair* from = (const Pair*)table + l.first * pairs;
      const real* above = grad + (size)level * features * number + n;
      real c[8] = {};  // <gradient above, features> at the corners
      for (int pair = 0; pair < pairs; ++pair) {
        real g = above[2 * pair * (size)number], h = above[(2 * pair + 1) * (size)number];
        for (int k = 0; k < 8; ++k) {
          Pair f = from[(size)row[k] * pairs + pair];
          c[k] += g * f.a + h * f.b;
        }
      }
      real x = cell.fx, y = cell.fy, z = cell.fz, x0 = 1 - x, y0 = 1 - y, z0 = 1 - z;
      if (along) {  // a trilinear function has mixed second derivatives only
        const real* to = along + 3 * (size)n;
        real u = to[0] * cell.ix, v = to[1] * cell.iy, w = to[2] * cell.iz;
        real square = l.scale * l.scale;
        real xy = square * (z0 * (c[0] - c[1] - c[2] + c[3]) + z * (c[4] - c[5] - c[6] + c[7]));
        real xz = square * (y0 * (c[0] - c[1] - c[4] + c[5]) + y * (c[2] - c[3] - c[6] + c[7]));
        real yz = square * (x0 * (c[0] - c[2] - c[4] + c[6]) + x * (c[1] - c[3] - c[5] + c[7]));
        dx += cell.ix * (xy * v + xz * w);
        dy += cell.iy * (xy * u + yz * w);
        dz += cell.iz * (xz * u + yz * v);
      } else {
        real sx = l.scale * cell.ix, sy = l.scale * cell.iy, sz = l.scale * cell.iz;
        dx += sx * (z0 * (y0 * (c[1] - c[0]) + y * (c[3] - c[2])) +
                    z * (y0 * (c[5] - c[4]) + y * (c[7] - c[6])));
        dy += sy * (z0 * (x0 * (c[2] - c[0]) + x * (c[3] - c[1])) +
                    z * (x0 * (c[6] - c[4]) + x * (c[7] - c[5])));
        dz += sz * (y0 * (x0 * (c[4] - c[0]) + x * (c[5] - c[1])) +
                    y * (x0 * (c[6] - c[2]) + x * (c[7] - c[3])));
      }
    }
    out[3 * (size)part * number + n] = dx;
    out[(3 * (size)part + 1) * number + n] = dy;
    out[(3 * (size)part + 2) * number + n] = dz;
  }
}
