// FlexiCubes. The caller sums the counts, so that each cube knows the number of its first dual
// vertex and of its first deviation, and each lattice edge that of its quad: the processor's order.
//
// `starts` [cubes + 1] holds dual vertices in its lower and deviations in its upper 32 bits. A row
// of `rows` says of a cube's case: the patch of each of its twelve edges (-1: not crossed), how
// many patches, how many crossed edges. `ends` holds the edges' two corners. A cube is worked on
// by the thread of its first dual vertex: few cubes have more than one.

// Loops over a cube's edges stay loops: unrolled they fill the registers, and few threads fit.
#ifdef ISOLUX_HOST
#define ROLLED
#else
#define ROLLED _Pragma("unroll 1")
#endif

const int ROW = 14, PATCHES = 12, CROSSED = 13;

// How far from the near end the zero lies, or -1 where values cannot say (NEXT_TO_NOTHING).
DEVICE real along_edge(real near, real far) {
  real gap = near - far, along = near / gap;
  return along >= 0 && along <= 1 && magnitude(gap) > (real)1e-30 ? along : (real)-1;
}

DEVICE int case_of(const int* cubes, const real* value, int c) {
  int mask = 0;
  for (int i = 0; i < 8; ++i) mask |= (value[cubes[8 * (size)c + i]] < 0 ? 1 : 0) << i;
  return mask;
}

// The case, or the one with its twisted face cut the other way where the neighbour's is too.
DEVICE int row_of(const int* cubes, const real* value, const int* twists, int nx, int ny, int nz,
                  int c) {
  int mask = case_of(cubes, value, c), twist = twists[mask];
  if (twist < 0) return mask;
  int axis = twist / 2, way = twist % 2 ? 1 : -1;
  int place = axis == 0 ? c / (ny * nz) : axis == 1 ? c / nz % ny : c % nz;
  int last = (axis == 0 ? nx : axis == 1 ? ny : nz) - 1;
  if (place + way < 0 || place + way > last) return mask;
  int step = axis == 0 ? ny * nz : axis == 1 ? nz : 1;
  return twists[case_of(cubes, value, c + way * step)] >= 0 ? mask + 256 : mask;
}

DEVICE bool has_quad(const int* edges, const int* around, const real* value, int e) {
  bool a = value[edges[2 * (size)e]] < 0, b = value[edges[2 * (size)e + 1]] < 0;
  if (a == b) return false;
  const int* c = around + 4 * (size)e;
  return c[0] >= 0 && c[1] >= 0 && c[2] >= 0 && c[3] >= 0;
}

DEVICE int first_dual(const long long* starts, size c) { return (int)(unsigned)starts[c]; }

KERNEL flexicubes_count_cubes(const int* cubes, const real* value, const int* rows,
                              const int* twists, int nx, int ny, int nz, long long* counts,
                              int count) {
  EACH(c, count) {
    const int* row = rows + ROW * row_of(cubes, value, twists, nx, ny, nz, c);
    counts[c] = (long long)row[CROSSED] << 32 | row[PATCHES];
  }
}

KERNEL flexicubes_count_quads(const int* edges, const int* around, const real* value, int* counts,
                              int count) {
  EACH(e, count) counts[e] = has_quad(edges, around, value, e);
}

KERNEL flexicubes_list(const int* cubes, const real* value, const int* twists, int nx, int ny,
                       int nz, const long long* starts, int* cube_of_dual, int* row_of_dual,
                       int count) {
  EACH(c, count) {
    int first = first_dual(starts, c), stop = first_dual(starts, c + 1);
    if (first == stop) continue;
    int row = row_of(cubes, value, twists, nx, ny, nz, c);
    for (int d = first; d < stop; ++d) cube_of_dual[d] = c, row_of_dual[d] = row;
  }
}

// Dual vertices about each crossed edge, counter-clockwise seen from outside.
KERNEL flexicubes_fill_quads(const int* edges, const int* around, const int* slots,
                             const real* value, const int* rows, const long long* starts,
                             const int* row_of_dual, const int* quad_start, int* quads,
                             int count) {
  EACH(e, count) {
    int q = quad_start[e];
    if (quad_start[e + 1] == q) continue;
    bool inside = value[edges[2 * (size)e]] < 0;
    for (int i = 0; i < 4; ++i) {
      size k = 4 * (size)e + (inside ? i : (4 - i) % 4);
      int first = first_dual(starts, around[k]);
      quads[4 * (size)q + i] = first + rows[ROW * row_of_dual[first] + slots[k]];
    }
  }
}

struct Cube {  // its corners, and the crossings of its edges
  size corner[8];
  real value[8];       // of the signed distance
  real tangent[8];     // tanh of alpha: corners weigh 1 + 0.99 tangent
  real edge_tangent[12];  // of beta
  real plain[36];      // where the values alone are zero
  real slanted[36];    // where the weighted ones are
};

struct Patch {  // of a cube: one dual vertex
  real vertex[3];
  real distance[12];  // from it to the plain crossings
  real total, mean;   // of the crossings' weights; of the distances
  int count;
};

DEVICE real weight_of(real tangent) { return 1 + (real)0.99 * tangent; }

DEVICE void cross_edges(const int* cubes, const int* ends, const int* group, const real* point,
                        const real* value, const real* alpha, const real* beta, int c,
                        Cube& cube) {
  for (int i = 0; i < 8; ++i) {
    cube.corner[i] = cubes[8 * (size)c + i];
    cube.value[i] = value[cube.corner[i]];
    cube.tangent[i] = alpha ? hyperbolic_tangent(alpha[8 * (size)c + i]) : 0;
  }
  ROLLED for (int e = 0; e < 12; ++e) {
    if (group[e] < 0) continue;
    int i = ends[2 * e], j = ends[2 * e + 1];
    cube.edge_tangent[e] = beta ? hyperbolic_tangent(beta[12 * (size)c + e]) : 0;
    real level = along_edge(cube.value[i], cube.value[j]);
    real slant = along_edge(cube.value[i] * weight_of(cube.tangent[i]),
                            cube.value[j] * weight_of(cube.tangent[j]));
    level = level < 0 ? (real)0.5 : level, slant = slant < 0 ? (real)0.5 : slant;
    for (int axis = 0; axis < 3; ++axis) {
      real p = point[3 * cube.corner[i] + axis], q = point[3 * cube.corner[j] + axis];
      cube.plain[3 * e + axis] = p + level * (q - p);
      cube.slanted[3 * e + axis] = p + slant * (q - p);
    }
  }
}

DEVICE void make_patch(const Cube& cube, const int* group, int number, Patch& patch) {
  patch.total = patch.mean = 0, patch.count = 0;
  for (int axis = 0; axis < 3; ++axis) patch.vertex[axis] = 0;
  ROLLED for (int e = 0; e < 12; ++e) {
    if (group[e] != number) continue;
    real weight = weight_of(cube.edge_tangent[e]);
    for (int axis = 0; axis < 3; ++axis)
      patch.vertex[axis] += weight * cube.slanted[3 * e + axis];
    patch.total += weight, patch.count += 1;
  }
  for (int axis = 0; axis < 3; ++axis) patch.vertex[axis] /= patch.total;
  ROLLED for (int e = 0; e < 12; ++e) {
    if (group[e] != number) continue;
    real x = patch.vertex[0] - cube.plain[3 * e], y = patch.vertex[1] - cube.plain[3 * e + 1];
    real z = patch.vertex[2] - cube.plain[3 * e + 2];
    patch.distance[e] = root(x * x + y * y + z * z);
    patch.mean += patch.distance[e];
  }
  patch.mean /= patch.count;
}

// Each dual vertex is the beta-weighted mean of its patch's alpha-weighted crossings.
KERNEL flexicubes_place(const int* cubes, const int* ends, const int* rows,
                        const long long* starts, const int* cube_of_dual, const int* row_of_dual,
                        const real* point, const real* value, const real* alpha,
                        const real* beta, real* vertices, real* deviation, int duals) {
  EACH(d, duals) {
    int c = cube_of_dual[d];
    if (first_dual(starts, c) != d) continue;
    const int* row = rows + ROW * row_of_dual[d];
    Cube cube;
    cross_edges(cubes, ends, row, point, value, alpha, beta, c, cube);
    real* next = deviation + (size)(starts[c] >> 32);
    for (int k = 0; k < row[PATCHES]; ++k) {
      Patch patch;
      make_patch(cube, row, k, patch);
      for (int axis = 0; axis < 3; ++axis)
        vertices[3 * ((size)d + k) + axis] = patch.vertex[axis];
      ROLLED for (int e = 0; e < 12; ++e)
        if (row[e] == k) *next++ = magnitude(patch.distance[e] - patch.mean);
    }
  }
}

// Products of 0.005 + 0.99 sigmoid(gamma) along a quad's diagonals. In double precision, since
// they decide between two pairs of faces.
DEVICE void diagonals(const int* quad, const int* cube_of_dual, const real* gamma, double* out) {
  out[0] = out[1] = 1.0;
  for (int i = 0; gamma && i < 4; ++i)
    out[i % 2] *= 0.005 + 0.99 / (1.0 + exponential(-(double)gamma[cube_of_dual[quad[i]]]));
}

// Cut each quad along a diagonal, or about a middle vertex between the diagonals.
KERNEL flexicubes_draw(const int* quads, const int* cube_of_dual, const real* gamma,
                       bool training, int duals, real* vertices, int* faces, int count) {
  EACH(q, count) {
    const int* v = quads + 4 * (size)q;
    double share[2];
    diagonals(v, cube_of_dual, gamma, share);
    if (training) {
      real one = (real)share[0], other = (real)share[1];
      for (int axis = 0; axis < 3; ++axis) {
        real across = one * (vertices[3 * (size)v[0] + axis] + vertices[3 * (size)v[2] + axis]);
        across += other * (vertices[3 * (size)v[1] + axis] + vertices[3 * (size)v[3] + axis]);
        vertices[3 * ((size)duals + q) + axis] = across / (2 * (one + other + (real)1e-8));
      }
      int* out = faces + 12 * (size)q;
      for (int i = 0; i < 4; ++i) {
        out[3 * i] = v[i], out[3 * i + 1] = v[(i + 1) % 4], out[3 * i + 2] = duals + q;
      }
    } else {
      bool first = share[0] > share[1];
      int* out = faces + 6 * (size)q;
      out[0] = v[0], out[1] = v[1], out[2] = first ? v[2] : v[3];
      out[3] = first ? v[0] : v[3], out[4] = first ? v[2] : v[1], out[5] = first ? v[3] : v[2];
    }
  }
}

// From a quad's middle vertex: what each of its two diagonals' ends gets (3 numbers each), then
// the slopes with the logarithms of the two products of gamma.
KERNEL flexicubes_share(const int* quads, const int* cube_of_dual, const real* gamma,
                        const real* vertices, const real* grad, real* shares, int duals,
                        int count) {
  EACH(q, count) {
    const int* v = quads + 4 * (size)q;
    double share[2];
    diagonals(v, cube_of_dual, gamma, share);
    real one = (real)share[0], other = (real)share[1], total = one + other + (real)1e-8;
    real to_one = 0, to_other = 0;
    real* out = shares + 8 * (size)q;
    for (int axis = 0; axis < 3; ++axis) {
      real g = grad[3 * ((size)duals + q) + axis] / total;
      real a = (vertices[3 * (size)v[0] + axis] + vertices[3 * (size)v[2] + axis]) / 2;
      real b = (vertices[3 * (size)v[1] + axis] + vertices[3 * (size)v[3] + axis]) / 2;
      real middle = (one * a + other * b) / total;
      to_one += g * (a - middle), to_other += g * (b - middle);
      out[axis] = g * one / 2, out[3 + axis] = g * other / 2;
    }
    out[6] = to_one * one, out[7] = to_other * other;
  }
}

// Adds to a patch's gradient what comes from its quads; returns the slope with its cube's gamma's
// logarithm.
DEVICE real gather_quads(const int* cube_edges, const int* group, int number, int dual,
                         const int* quad_start, const int* quads, const real* shares,
                         real* grad) {
  real slope = 0;
  ROLLED for (int e = 0; e < 12; ++e) {
    if (group[e] != number) continue;
    int q = quad_start[cube_edges[e]];
    if (quad_start[cube_edges[e] + 1] == q) continue;
    const int* v = quads + 4 * (size)q;
    const real* share = shares + 8 * (size)q;
    int side = v[0] == dual || v[2] == dual ? 0 : 1;
    for (int axis = 0; axis < 3; ++axis) grad[axis] += share[3 * side + axis];
    slope += share[6 + side];
  }
  return slope;
}

// From a crossing to its edge's ends (position, value: 4 numbers a corner) and, returned in
// `slopes`, to the two weights.
DEVICE void crossing_backward(const Cube& cube, const real* point, int i, int j, real near_weight,
                              real far_weight, const real* grad, real* to_corner,
                              real* slopes) {
  real near = cube.value[i] * near_weight, far = cube.value[j] * far_weight;
  real along = along_edge(near, far), slope = 0;
  bool fixed = along < 0;
  if (fixed) along = (real)0.5;
  for (int axis = 0; axis < 3; ++axis) {
    to_corner[4 * i + axis] += (1 - along) * grad[axis];
    to_corner[4 * j + axis] += along * grad[axis];
    slope += grad[axis] *
             (point[3 * cube.corner[j] + axis] - point[3 * cube.corner[i] + axis]);
  }
  slopes[0] = slopes[1] = 0;
  if (fixed) return;
  real to_near = (1 - along) * slope / (near - far), to_far = along * slope / (near - far);
  to_corner[4 * i + 3] += to_near * near_weight;
  to_corner[4 * j + 3] += to_far * far_weight;
  slopes[0] = to_near * cube.value[i], slopes[1] = to_far * cube.value[j];
}

// Slopes with the distances to a patch's crossings; adds to the dual vertex' gradient.
DEVICE const real* deviation_backward(const Cube& cube, const Patch& patch, const int* group,
                                      int number, const real* from, real* slope, real* grad) {
  real common = 0;
  ROLLED for (int e = 0; e < 12; ++e) {
    if (group[e] != number) continue;
    real gap = patch.distance[e] - patch.mean;
    slope[e] = gap > 0 ? *from : gap < 0 ? -*from : 0;
    common += slope[e], ++from;
  }
  common /= patch.count;
  ROLLED for (int e = 0; e < 12; ++e) {
    if (group[e] != number) continue;
    slope[e] = patch.distance[e] > 0 ? (slope[e] - common) / patch.distance[e] : 0;
    for (int axis = 0; axis < 3; ++axis)
      grad[axis] += slope[e] * (patch.vertex[axis] - cube.plain[3 * e + axis]);
  }
  return from;
}

// From one patch to its cube's corners, alphas and betas. d tanh = 1 - tanh^2.
DEVICE void patch_backward(const Cube& cube, const Patch& patch, const int* ends,
                           const int* group, int number, const real* point, const real* slope,
                           const real* grad, real* to_corner, real* to_alpha, real* to_beta) {
  ROLLED for (int e = 0; e < 12; ++e) {
    if (group[e] != number) continue;
    int i = ends[2 * e], j = ends[2 * e + 1];
    real tangent = cube.edge_tangent[e], weight = weight_of(tangent), to_weight = 0;
    real to_plain[3], to_slanted[3], slopes[2];
    for (int axis = 0; axis < 3; ++axis) {
      to_weight += grad[axis] * (cube.slanted[3 * e + axis] - patch.vertex[axis]);
      to_slanted[axis] = grad[axis] * weight / patch.total;
      to_plain[axis] = slope[e] * (cube.plain[3 * e + axis] - patch.vertex[axis]);
    }
    if (to_beta)
      to_beta[e] = to_weight / patch.total * (real)0.99 * (1 - tangent * tangent);
    crossing_backward(cube, point, i, j, 1, 1, to_plain, to_corner, slopes);
    crossing_backward(cube, point, i, j, weight_of(cube.tangent[i]), weight_of(cube.tangent[j]),
                      to_slanted, to_corner, slopes);
    to_alpha[i] += slopes[0] * (real)0.99 * (1 - cube.tangent[i] * cube.tangent[i]);
    to_alpha[j] += slopes[1] * (real)0.99 * (1 - cube.tangent[j] * cube.tangent[j]);
  }
}

// From dual vertices and deviations to what belongs to cubes alone, and to their corners: 32
// numbers in the place of the cube's first dual vertex.
KERNEL flexicubes_to_cubes(const int* cubes, const int* cube_edges, const int* ends,
                           const int* rows, const long long* starts, const int* cube_of_dual,
                           const int* row_of_dual, const int* quad_start, const int* quads,
                           const real* shares, const real* point, const real* value,
                           const real* alpha, const real* beta, const real* gamma,
                           const real* vertex_grad, const real* deviation_grad,
                           real* to_corners, real* to_alpha, real* to_beta, real* to_gamma,
                           int duals) {
  EACH(d, duals) {
    int c = cube_of_dual[d];
    if (first_dual(starts, c) != d) continue;
    const int* row = rows + ROW * row_of_dual[d];
    Cube cube;
    cross_edges(cubes, ends, row, point, value, alpha, beta, c, cube);
    real corners[32], alphas[8], gamma_slope = 0;
    for (int i = 0; i < 32; ++i) corners[i] = 0;
    for (int i = 0; i < 8; ++i) alphas[i] = 0;
    const real* from = deviation_grad + (size)(starts[c] >> 32);
    for (int k = 0; k < row[PATCHES]; ++k) {
      Patch patch;
      make_patch(cube, row, k, patch);
      real grad[3], slope[12];
      for (int axis = 0; axis < 3; ++axis) grad[axis] = vertex_grad[3 * ((size)d + k) + axis];
      if (shares)
        gamma_slope += gather_quads(cube_edges + 12 * (size)c, row, k, d + k, quad_start, quads,
                                    shares, grad);
      from = deviation_backward(cube, patch, row, k, from, slope, grad);
      patch_backward(cube, patch, ends, row, k, point, slope, grad, corners, alphas,
                     to_beta ? to_beta + 12 * (size)c : to_beta);
    }
    for (int i = 0; i < 32; ++i) to_corners[32 * (size)d + i] = corners[i];
    for (int i = 0; to_alpha && i < 8; ++i) to_alpha[8 * (size)c + i] = alphas[i];
    if (to_gamma) {
      real chance = 1 / (1 + exponential(-gamma[c])), rest = 1 - chance;
      real weight = (real)0.005 + (real)0.99 * chance;
      to_gamma[c] = gamma_slope / weight * (real)0.99 * chance * rest;
    }
  }
}

// A thread a lattice vertex, which adds up what comes from the cubes that it is a corner of.
KERNEL flexicubes_to_lattice(const long long* starts, const real* to_corners, int nx, int ny,
                             int nz, real* to_point, real* to_value, int count) {
  EACH(v, count) {
    int x = v / ((ny + 1) * (nz + 1)), y = v / (nz + 1) % (ny + 1), z = v % (nz + 1);
    real sum[4] = {0, 0, 0, 0};
    for (int i = 7; i >= 0; --i) {
      int cx = x - (i & 1), cy = y - (i >> 1 & 1), cz = z - (i >> 2);
      if (cx < 0 || cx >= nx || cy < 0 || cy >= ny || cz < 0 || cz >= nz) continue;
      size c = ((size)cx * ny + cy) * nz + cz;
      int d = first_dual(starts, c);
      if (d == first_dual(starts, c + 1)) continue;
      for (int k = 0; k < 4; ++k) sum[k] += to_corners[32 * (size)d + 4 * i + k];
    }
    for (int axis = 0; axis < 3; ++axis) to_point[3 * (size)v + axis] = sum[axis];
    to_value[v] = sum[3];
  }
}
