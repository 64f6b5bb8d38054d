"""Rasterisation in plain torch: list every pixel a triangle may touch, test, keep the nearest.

Letters: v views, n vertices, f faces, h and w rows and columns, k candidates (a face and a
pixel), p pixels. What inside means, and why no clipping is needed, stands in the processor's
version; the weights are derived in another way here, by solving for them.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["backward", "forward", "screen_derivatives"]

_CANDIDATES = 1 << 22  # tested at once


def forward(
    clip: Tensor, faces: Tensor, height: int, width: int, behind: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Raw `rasterize`: triangle ids (int32, 0 = empty), weights of corners 0 and 1, depth."""
    _check_faces(faces, clip.shape[1])
    faces = faces.long()
    shape = (len(clip), height, width)
    triangle = torch.zeros(shape, dtype=torch.int32, device=clip.device)
    depth = torch.ones(shape, dtype=clip.dtype, device=clip.device)
    for view in range(len(clip)):
        limit = None if behind is None else behind[view].reshape(-1)
        _draw(clip[view], faces, triangle[view], depth[view], limit)
    uv = clip.new_zeros(*shape, 2)
    pixels = triangle.reshape(-1).nonzero().squeeze(-1)
    uv.view(-1, 2)[pixels] = _weights(clip, faces, triangle, pixels).clamp(0.0, 1.0)
    return triangle, uv, depth


def backward(
    clip: Tensor, faces: Tensor, triangle: Tensor, uv: Tensor, grad_uv: Tensor
) -> Tensor:
    """Raw gradient of `rasterize`, by differentiating the solution for the weights."""
    pixels = triangle.reshape(-1).nonzero().squeeze(-1)
    with torch.enable_grad():
        leaf = clip.detach().requires_grad_()
        weights = _weights(leaf, faces.long(), triangle, pixels)
        (grad,) = torch.autograd.grad(weights, leaf, grad_uv.reshape(-1, 2)[pixels])
    return grad


def screen_derivatives(
    clip: Tensor, faces: Tensor, triangle: Tensor, uv: Tensor, pixels: Tensor
) -> Tensor:
    """Raw `screen_derivatives`: du/dX, du/dY, dv/dX, dv/dY a pixel step at the given pixels."""
    out = clip.new_zeros(len(pixels), 4)
    drawn = triangle.reshape(-1)[pixels] > 0
    with torch.enable_grad():
        shift = clip.new_zeros(int(drawn.sum()), 2, requires_grad=True)
        weights = _weights(clip.detach(), faces.long(), triangle, pixels[drawn], shift)
        rows = [
            torch.autograd.grad(weights[:, i].sum(), shift, retain_graph=True)[0]
            for i in range(2)
        ]
    out[drawn] = torch.cat(rows, dim=-1)
    return out


def _check_faces(faces: Tensor, count: int) -> None:
    if faces.numel() and not 0 <= int(faces.min()) <= int(faces.max()) < count:  # sync
        raise IndexError(
            f"faces: indices must lie in [0, {count}), "
            f"got {int(faces.min())} to {int(faces.max())}"
        )


def _draw(
    clip: Float[Tensor, "n 4"],
    faces: Int[Tensor, "f 3"],
    triangle: Int[Tensor, "h w"],
    depth: Float[Tensor, "h w"],
    behind: Float[Tensor, " hw"] | None,
) -> None:
    """Draw into one view; `triangle` and `depth` hold the nearest so far."""
    height, width = triangle.shape
    low, count = _boxes(clip.double(), faces, height, width)  # [f, 2] each, (x, y)
    total = count.prod(dim=-1)
    begin = 0
    while begin < len(faces):  # as many faces as fit, and at least one
        fits = int((total[begin:].cumsum(0) <= _CANDIDATES).sum())
        part = torch.arange(begin, begin + max(fits, 1), device=clip.device)
        begin += max(fits, 1)
        face = part.repeat_interleave(total[part])  # [k]
        starts = total[part].cumsum(0) - total[part]
        within = torch.arange(len(face), device=clip.device)
        within -= starts.repeat_interleave(total[part])
        column = low[face, 0] + within % count[face, 0]
        row = low[face, 1] + within // count[face, 0]
        inside, z = _test(clip.double()[faces[face]], column, row, height, width)
        pixel, z = row * width + column, z.to(depth.dtype)
        if behind is not None:
            inside &= z > behind[pixel]
        _keep_nearest(triangle.view(-1), depth.view(-1), face[inside], pixel[inside], z[inside])


def _boxes(
    clip: Float[Tensor, "n 4"], faces: Int[Tensor, "f 3"], height: int, width: int
) -> tuple[Int[Tensor, "f 2"], Int[Tensor, "f 2"]]:
    """First pixel and number of pixels of each face's box.

    The box is the whole image where a face reaches w <= 0, and empty where a face lies
    beyond one of the clip planes or has a corner that is not finite.
    """
    size = clip.new_tensor([width, height])
    corners = clip[faces]  # [f, 3, 4]
    xyz, w = corners[..., :3], corners[..., 3:]
    beyond = ((xyz > w).all(dim=1) | (xyz < -w).all(dim=1)).any(dim=-1)
    some = (corners.isfinite().all(dim=-1).all(dim=-1) & ~beyond)[:, None]
    whole = (w <= 0.0).any(dim=1) | ~some
    ndc = xyz[..., :2] / torch.where(whole[:, None], 1.0, w) * clip.new_tensor([1.0, -1.0])
    screen = (ndc + 1.0) * 0.5 * size - 0.5
    margin = 1.0 / 128.0  # of a pixel: the test decides
    low = torch.where(whole, 0.0, (screen.amin(dim=1) - margin).ceil().clamp(min=0.0))
    high = (screen.amax(dim=1) + margin).floor()
    high = torch.where(whole, size - 1.0, torch.minimum(high, size - 1.0))
    some = some & (high >= low).all(dim=-1, keepdim=True)
    low, high = torch.where(some, low, 0.0), torch.where(some, high, -1.0)
    return low.long(), (high - low + 1.0).long()


def _test(
    corners: Float[Tensor, "k 3 4"],
    column: Int[Tensor, " k"],
    row: Int[Tensor, " k"],
    height: int,
    width: int,
) -> tuple[Bool[Tensor, " k"], Float[Tensor, " k"]]:
    """Whether each candidate's pixel is covered within the clip planes, and z/w there.

    In the order of the processor's kernel, so that ties on shared edges break alike.
    """
    p = corners[:, :, [0, 1, 3]]
    # (p_1 x p_2, p_2 x p_0, p_0 x p_1): the rows of the adjugate.
    edge = torch.linalg.cross(p.roll(-1, dims=1), p.roll(-2, dims=1), dim=-1)
    turn = p[:, :, 2] * edge[:, :, 2]
    det = turn[:, 0] + turn[:, 1] + turn[:, 2]
    edge = edge * det.sign()[:, None, None]
    fx, fy = _centres(column, row, height, width)
    a = edge[..., 0] * fx[:, None] + (edge[..., 1] * fy[:, None] + edge[..., 2])  # [k, 3]
    parts = corners[:, :, 2:3] * (1.0 / det.abs())[:, None, None] * edge
    plane = parts[:, 0] + parts[:, 1] + parts[:, 2]
    z = plane[:, 0] * fx + (plane[:, 1] * fy + plane[:, 2])
    return (a >= 0.0).all(dim=-1) & (det != 0.0) & det.isfinite() & (z.abs() <= 1.0), z


def _centres(
    column: Int[Tensor, " k"], row: Int[Tensor, " k"], height: int, width: int
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """Pixel centres in normalised device coordinates; row 0 is at the top."""
    return (column.double() + 0.5) * (2.0 / width) - 1.0, 1.0 - (row.double() + 0.5) * (
        2.0 / height
    )


def _keep_nearest(
    triangle: Int[Tensor, " hw"],
    depth: Float[Tensor, " hw"],
    face: Int[Tensor, " k"],
    pixel: Int[Tensor, " k"],
    z: Float[Tensor, " k"],
) -> None:
    """Let candidates in, nearer before farther, and of equals the lower face index."""
    before = torch.where(triangle == 0, torch.inf, depth)
    nearest = before.scatter_reduce(0, pixel, z, "amin")
    best = z == nearest[pixel]
    none = torch.iinfo(torch.int64).max
    lowest = torch.full_like(triangle, none, dtype=torch.int64)
    lowest = lowest.scatter_reduce(0, pixel[best], face[best], "amin")
    new = (nearest < before) & (lowest < none)  # a tie leaves the earlier, lower face
    triangle[new] = (lowest[new] + 1).to(triangle.dtype)
    depth[new] = nearest[new]


def _weights(
    clip: Float[Tensor, "v n 4"],
    faces: Int[Tensor, "f 3"],
    triangle: Int[Tensor, "v h w"],
    pixels: Int[Tensor, " p"],
    shift: Float[Tensor, "p 2"] | None = None,
) -> Float[Tensor, "p 2"]:
    """Weights of corners 0 and 1 at drawn pixels, `shift` pixels away from their centres.

    A pixel's ray meets the triangle where b_0 p_0 + b_1 p_1 + b_2 p_2 is parallel to f, with
    p = (x, y, w) and f = (fx, fy, 1): solve for b and scale it to a sum of one.
    """
    height, width = triangle.shape[1:]
    row, column = pixels // width % height, pixels % width
    face = triangle.reshape(-1)[pixels].long() - 1
    corners = clip[(pixels // (height * width))[:, None], faces[face]]  # [p, 3, 4]
    fx, fy = _centres(column, row, height, width)
    if shift is not None:
        fx, fy = fx + shift[:, 0] * (2.0 / width), fy - shift[:, 1] * (2.0 / height)
    matrix = corners[:, :, [0, 1, 3]].double().transpose(1, 2)
    b = torch.linalg.solve(matrix, torch.stack([fx, fy, torch.ones_like(fx)], dim=-1))
    weights: Tensor = b[:, :2] / b.sum(dim=-1, keepdim=True)
    return weights.to(clip.dtype)
