// Marching tetrahedra. The caller sums the counts, so that each crossed edge knows the number of
// its vertex and each tetrahedron that of its first triangle: the processor's order. `start`
// holds the sums, those of the edges, then those of the tetrahedra.

// How far from the near end the zero lies, or -1 where values cannot say (NEXT_TO_NOTHING).
DEVICE real along_edge(real near, real far) {
  real gap = near - far, along = near / gap;
  return along >= 0 && along <= 1 && magnitude(gap) > (real)1e-30 ? along : (real)-1;
}

DEVICE int case_of(const int* corner, const real* value) {
  int mask = 0;
  for (int i = 0; i < 4; ++i) mask |= (value[corner[i]] < 0 ? 1 : 0) << i;
  return mask;
}

KERNEL tetrahedra_count_vertices(const int* edges, const real* value, int* counts, int count) {
  EACH(e, count) {
    bool a = value[edges[2 * (size)e]] < 0, b = value[edges[2 * (size)e + 1]] < 0;
    counts[e] = a != b;
  }
}

KERNEL tetrahedra_count_faces(const int* tets, const real* value, const int* table, int* counts,
                              int count) {
  EACH(t, count) {
    const int* face = table + 6 * case_of(tets + 4 * (size)t, value);
    counts[t] = (face[0] >= 0) + (face[3] >= 0);
  }
}

KERNEL tetrahedra_place(const int* edges, const real* value, const real* point, const int* start,
                        real* vertices, int* crossed, int count) {
  EACH(e, count) {
    int row = start[e];
    if (start[e + 1] == row) continue;
    crossed[row] = e;
    size a = edges[2 * (size)e], b = edges[2 * (size)e + 1];
    real along = along_edge(value[a], value[b]);
    if (along < 0) along = (real)0.5;
    for (int axis = 0; axis < 3; ++axis) {
      real near = point[3 * a + axis];
      vertices[3 * (size)row + axis] = near + along * (point[3 * b + axis] - near);
    }
  }
}

KERNEL tetrahedra_draw(const int* tets, const int* tet_edges, const real* value, const int* table,
                       const int* start, int* faces, int edges, int count) {
  EACH(t, count) {
    size k = (size)edges + t;
    if (start[k + 1] == start[k]) continue;
    const int* face = table + 6 * case_of(tets + 4 * (size)t, value);
    int* out = faces + 3 * (size)(start[k] - start[edges]);
    for (int i = 0; i < 6; ++i)
      if (face[i] >= 0) out[i] = start[tet_edges[6 * (size)t + face[i]]];
  }
}

KERNEL tetrahedra_number(const int* crossed, int* number, int count) {
  EACH(row, count) number[crossed[row]] = row;
}

// v = p_a + s (p_b - p_a), s = d_a / (d_a - d_b). A thread a lattice vertex, which adds up what
// comes from its edges in their order: no atomics, one result.
KERNEL tetrahedra_gather(const int* edges, const int* begins, const int* incident,
                         const int* number, const real* point, const real* value,
                         const real* grad, real* to_point, real* to_value, int count) {
  EACH(v, count) {
    real sum[4] = {0, 0, 0, 0};
    for (int k = begins[v]; k < begins[v + 1]; ++k) {
      int e = incident[k];
      size a = edges[2 * (size)e], b = edges[2 * (size)e + 1];
      if ((value[a] < 0) == (value[b] < 0)) continue;
      real along = along_edge(value[a], value[b]);
      bool fixed = along < 0;
      if (fixed) along = (real)0.5;
      real share = a == (size)v ? 1 - along : along, slope = 0;
      const real* g = grad + 3 * (size)number[e];
      for (int axis = 0; axis < 3; ++axis) {
        sum[axis] += share * g[axis];
        slope += g[axis] * (point[3 * b + axis] - point[3 * a + axis]);
      }
      if (!fixed) sum[3] += share * slope / (value[a] - value[b]);
    }
    for (int axis = 0; axis < 3; ++axis) to_point[3 * (size)v + axis] = sum[axis];
    to_value[v] = sum[3];
  }
}
