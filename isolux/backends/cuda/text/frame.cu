// Directions of shading. v points to the camera, n is the normal, s the one to shade with.
// Names of gradients begin with g.

struct Unit {
  Vector a;
  real inverse;  // one over the length that it had; 0 where it had none
};

DEVICE Unit unit_of(Vector a) {
  real square = dot(a, a);
  real inverse = square > (real)1e-30 ? 1 / root(square) : 0;
  return {a * inverse, inverse};
}

// The gradient before `unit_of`: what is across, by the length.
DEVICE Vector unit_back(Unit u, Vector g) { return (g - u.a * dot(u.a, g)) * u.inverse; }

DEVICE real least_z() { return (real)1e-3; }  // of a perturbation
DEVICE real bend() { return (real)0.1; }      // the cosine below which s turns to the face's normal

struct Bump {  // the perturbed normal, and what its gradient needs
  Unit whole, t;
  Vector b;
  real along, z;
};

DEVICE Bump bump_of(Vector n, Vector tangent, real hand, Vector bump) {
  Bump r;
  r.along = dot(n, tangent);
  r.t = unit_of(tangent - n * r.along);
  r.b = cross(n, r.t.a) * hand;
  r.z = bump.z < least_z() ? least_z() : bump.z;
  r.whole = unit_of(r.t.a * bump.x + r.b * bump.y + n * r.z);
  return r;
}

struct Bent {  // the unit normal of shading, and what its gradient needs
  Unit s;
  Vector n, away;
  real side, weight, free;
};

DEVICE Bent bent_of(Vector v, Vector face, Vector n) {
  Bent r;
  r.side = dot(v, face) < 0 ? -1 : 1;
  face = face * r.side;
  r.n = n * r.side;
  real share = dot(v, r.n) / bend();
  r.weight = share < 0 ? 0 : share > 1 ? 1 : share;
  r.away = r.n - face;
  r.s = unit_of(face + r.away * r.weight);
  r.free = r.weight == share ? 1 / bend() : 0;
  return r;
}

KERNEL frame_forward(const real* position, const real* normal, const real* face_normal,
                     const int* triangle, const real* camera, const int* view,
                     const real* tangent, const real* handedness, const real* perturbation,
                     real* out, real* mirrored, real* cosine, int count) {
  EACH(p, count) {
    Vector v = unit_of(vector_at(camera, view[p]) - vector_at(position, p)).a;
    Vector n = unit_of(vector_at(normal, p)).a;
    if (tangent)
      n = bump_of(n, vector_at(tangent, p), handedness[p], vector_at(perturbation, p)).whole.a;
    Vector s = bent_of(v, vector_at(face_normal, triangle[p]), n).s.a;
    real c = dot(v, s);
    put_vector(out, p, s);
    put_vector(mirrored, p, s * (c + c) - v);
    cosine[p] = c;
  }
}

KERNEL frame_backward(const real* position, const real* normal, const real* face_normal,
                      const int* triangle, const real* camera, const int* view,
                      const real* tangent, const real* handedness, const real* perturbation,
                      const real* g_out, const real* g_mirrored, const real* g_cosine,
                      real* to_position, real* to_normal, real* to_tangent,
                      real* to_perturbation, int count) {
  EACH(p, count) {
    Unit to_camera = unit_of(vector_at(camera, view[p]) - vector_at(position, p));
    Unit smooth = unit_of(vector_at(normal, p));
    Vector v = to_camera.a, n = smooth.a, along_u = {0, 0, 0}, bump = along_u;
    real hand = 0;
    Bump of = {};
    if (tangent) {
      along_u = vector_at(tangent, p), bump = vector_at(perturbation, p), hand = handedness[p];
      of = bump_of(n, along_u, hand, bump);
    }
    Bent bent = bent_of(v, vector_at(face_normal, triangle[p]), tangent ? of.whole.a : n);
    Vector s = bent.s.a, g_s = vector_at(g_out, p), g_r = vector_at(g_mirrored, p);
    real g_c = g_cosine[p] + 2 * dot(s, g_r);
    g_s = unit_back(bent.s, g_s + g_r * (2 * dot(v, s)) + v * g_c);
    real g_facing = dot(g_s, bent.away) * bent.free;
    Vector g_n = (g_s * bent.weight + v * g_facing) * bent.side;
    Vector g_v = s * g_c - g_r + bent.n * g_facing;
    put_vector(to_position, p, unit_back(to_camera, g_v) * -1);
    if (tangent) {
      Vector g = unit_back(of.whole, g_n);
      real g_z = dot(g, n);
      put_vector(to_perturbation, p,
                 {dot(g, of.t.a), dot(g, of.b), bump.z >= least_z() ? g_z : 0});
      // d(n x t).g = dn.(t x g) + dt.(g x n); g_b is of n x t, handedness included
      Vector g_b = g * (bump.y * hand);
      Vector g_t = unit_back(of.t, g * bump.x + cross(g_b, n));
      real across = dot(g_t, n);
      g_n = g * of.z + cross(of.t.a, g_b) - g_t * of.along - along_u * across;
      put_vector(to_tangent, p, g_t - n * across);
    }
    put_vector(to_normal, p, unit_back(smooth, g_n));
  }
}
