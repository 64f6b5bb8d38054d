// Split-sum shading (Karis 2013): (diffuse albedo (1 - m) + specular (c A + B)) (1 - o), with
// c = 0.04 (1 - m) + albedo m. A thread a point; the table stays in the second cache.

struct Axis {
  int low;      // first of two entries
  real inside;  // place between them
  real slope;   // d place / d coordinate
};

struct Factors {  // (A, B), and their slopes along roughness and cosine
  real scale, bias, scale_r, bias_r, scale_c, bias_c;
};

DEVICE Axis axis_of(real x, int entries) {
  real last = (real)(entries - 1);
  x = x * (real)entries - (real)0.5;
  Axis a;
  a.slope = x >= 0 && x <= last ? (real)entries : (real)0;
  x = least(most(x, (real)0), last);
  a.low = least((int)x, most(entries - 2, 0));
  a.inside = x - (real)a.low;
  return a;
}

DEVICE Factors factors_of(const real* lut, int entries, real roughness, real cosine) {
  Axis row = axis_of(roughness, entries), column = axis_of(cosine, entries);
  int next = entries > 1 ? 2 : 0;
  const real* a = lut + 2 * ((size)row.low * entries + column.low);
  const real* b = a + (size)next * entries;
  real x = column.inside, y = row.inside;
  real value[2], along_row[2], along_column[2];
  for (int k = 0; k < 2; ++k) {
    real left_a = a[k], right_a = a[next + k], left_b = b[k], right_b = b[next + k];
    real above = (1 - x) * left_a + x * right_a, below = (1 - x) * left_b + x * right_b;
    value[k] = (1 - y) * above + y * below;
    along_row[k] = row.slope * (below - above);
    along_column[k] = column.slope * ((1 - y) * (right_a - left_a) + y * (right_b - left_b));
  }
  Factors f = {value[0],     value[1],        along_row[0],
               along_row[1], along_column[0], along_column[1]};
  return f;
}

KERNEL split_sum_forward(const real* albedo, const real* orm, const real* n_dot_v,
                         const real* diffuse, const real* specular, const real* lut, real* out,
                         int entries, int count) {
  EACH(p, count) {
    size first = 3 * (size)p;
    real open = 1 - orm[first], metal = orm[first + 2];
    Factors f = factors_of(lut, entries, orm[first + 1], n_dot_v[p]);
    for (int c = 0; c < 3; ++c) {
      real kd = albedo[first + c];
      real colour = (real)0.04 * (1 - metal) + kd * metal;
      real light = diffuse[first + c] * kd * (1 - metal);
      light += specular[first + c] * (colour * f.scale + f.bias);
      out[first + c] = light * open;
    }
  }
}

KERNEL split_sum_backward(const real* albedo, const real* orm, const real* n_dot_v,
                          const real* diffuse, const real* specular, const real* lut,
                          const real* grad, real* to_albedo, real* to_orm, real* to_cosine,
                          real* to_diffuse, real* to_specular, int entries, int count) {
  EACH(p, count) {
    size first = 3 * (size)p;
    real open = 1 - orm[first], metal = orm[first + 2], base = (real)0.04;
    Factors f = factors_of(lut, entries, orm[first + 1], n_dot_v[p]);
    real to_open = 0, to_rough = 0, to_metal = 0, cosine = 0;
    for (int c = 0; c < 3; ++c) {
      real g = grad[first + c], kd = albedo[first + c];
      real d = diffuse[first + c], s = specular[first + c];
      real colour = base * (1 - metal) + kd * metal, factor = colour * f.scale + f.bias;
      to_open += g * (d * kd * (1 - metal) + s * factor);
      g *= open;
      to_albedo[first + c] = g * (d * (1 - metal) + s * metal * f.scale);
      to_diffuse[first + c] = g * kd * (1 - metal);
      to_specular[first + c] = g * factor;
      to_metal += g * (s * (kd - base) * f.scale - d * kd);
      to_rough += g * s * (colour * f.scale_r + f.bias_r);
      cosine += g * s * (colour * f.scale_c + f.bias_c);
    }
    to_orm[first] = -to_open;
    to_orm[first + 1] = to_rough;
    to_orm[first + 2] = to_metal;
    to_cosine[p] = cosine;
  }
}
