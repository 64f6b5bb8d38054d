// Normals at vertices: the sums of their faces' cross products, brought to unit length.
// Where `sizes` is given, no term is added: it gets a bound on the face's.

DEVICE real extent(Vector a) { return magnitude(a.x) + magnitude(a.y) + magnitude(a.z); }

DEVICE void add(real* total, long long* fixed, const double* scale, size i, Vector a) {
  size k = 3 * i;
  sum_up(total, fixed, scale, k, a.x);
  sum_up(total, fixed, scale, k + 1, a.y);
  sum_up(total, fixed, scale, k + 2, a.z);
}

KERNEL normals_sum(const real* vertices, const int* faces, real* sizes, real* total,
                   long long* fixed, const double* scale, int count) {
  EACH(f, count) {
    const int* corner = faces + 3 * (size)f;
    Vector a = vector_at(vertices, corner[0]);
    Vector n = cross(vector_at(vertices, corner[1]) - a, vector_at(vertices, corner[2]) - a);
    if (sizes) {
      sizes[f] = extent(n);
      continue;
    }
    for (int i = 0; i < 3; ++i) add(total, fixed, scale, corner[i], n);
  }
}

KERNEL normals_unit(real* normals, real* length, int count) {
  EACH(i, count) {
    real* n = normals + 3 * (size)i;
    real square = n[0] * n[0] + n[1] * n[1] + n[2] * n[2];
    bool known = square > (real)1e-24;
    length[i] = known ? root(square) : 0;
    for (int k = 0; k < 3; ++k) n[k] = known ? n[k] / length[i] : 0;
  }
}

// The gradient of each vertex's sum: the part across the normal.
KERNEL normals_across(const real* normals, const real* length, const real* grad, real* across,
                      int count) {
  EACH(i, count) {
    size k = 3 * (size)i;
    real along = grad[k] * normals[k] + grad[k + 1] * normals[k + 1] +
                 grad[k + 2] * normals[k + 2];
    for (int j = 0; j < 3; ++j)
      across[k + j] = length[i] > 0 ? (grad[k + j] - along * normals[k + j]) / length[i] : 0;
  }
}

// n = u x v:  d(g.n)/du = v x g,  d(g.n)/dv = g x u.
KERNEL normals_backward(const real* vertices, const int* faces, const real* across, real* sizes,
                        real* total, long long* fixed, const double* scale, int count) {
  EACH(f, count) {
    const int* corner = faces + 3 * (size)f;
    Vector g = vector_at(across, corner[0]) + vector_at(across, corner[1]) +
               vector_at(across, corner[2]);
    Vector a = vector_at(vertices, corner[0]);
    Vector u = vector_at(vertices, corner[1]) - a, v = vector_at(vertices, corner[2]) - a;
    Vector to_b = cross(v, g), to_c = cross(g, u);
    if (sizes) {
      sizes[f] = extent(to_b) + extent(to_c);
      continue;
    }
    add(total, fixed, scale, corner[1], to_b);
    add(total, fixed, scale, corner[2], to_c);
    add(total, fixed, scale, corner[0], (to_b + to_c) * -1);
  }
}
