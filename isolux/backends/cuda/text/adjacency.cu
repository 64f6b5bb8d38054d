// Half-edge 3 * face + corner is the edge opposite to that corner. An edge is the number
// low vertex, high vertex; -1 stands for those of a face that names a vertex twice.

KERNEL adjacency_edges(const int* corners, long long* edges, int count) {
  EACH(h, count) {
    int i = h % 3, base = h - i;
    int own = corners[h], a = corners[base + (i + 1) % 3], b = corners[base + (i + 2) % 3];
    bool proper = own != a && a != b && b != own;
    edges[h] = proper ? (long long)((word)least(a, b) << 32 | (unsigned)most(a, b)) : -1;
  }
}

// Of the sorted edges, those with exactly two half-edges match them. Were their corners the
// same, it would be one triangle given twice.
KERNEL adjacency_pair(const int* corners, const long long* edges, const long long* half,
                      int* opposite, int count) {
  EACH(i, count) {
    long long edge = edges[i];
    if (edge == -1 || i + 1 == count || edges[i + 1] != edge) continue;
    if ((i > 0 && edges[i - 1] == edge) || (i + 2 < count && edges[i + 2] == edge)) continue;
    int first = (int)half[i], second = (int)half[i + 1];
    if (corners[first] == corners[second]) continue;
    opposite[first] = second;
    opposite[second] = first;
  }
}
